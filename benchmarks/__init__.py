"""What pygan measures of itself: `pytest benchmarks --benchmark-only --record`, then `python -m benchmarks.table`."""
