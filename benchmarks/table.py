"""Writes README's tables from the recorded rows: `python -m benchmarks.table`. Figures are never typed by hand.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. The newest row of every (case, way, device) counts;
`--check` only says whether README is up to date (exit code 1 if not).
"""

import argparse
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"


def rows(name):
    """All rows of results/<name>.jsonl, oldest first."""
    path = HERE / "results" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def step_table():
    """One training step: pygan against plain PyTorch on the same device."""
    newest = {(row["device"], row["case"], row["way"]): row for row in rows("bench_step")}
    lines = [
        "| device | case | size, width, batch | way | ms per step | images/s | against plain eager | date, commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (device, case, way), row in newest.items():
        plain = newest.get((device, case, "plain eager"))
        ratio = f"{plain['median_ms'] / row['median_ms']:.2f}x" if plain else ""
        shape = f"{row['size']}, {row['width']}, {row['batch']}"
        lines.append(
            f"| {device} | {case} | {shape} | {way} | {row['median_ms']:.1f} | {row['images_per_s']:.1f} | {ratio} "
            f"| {row['date']}, {row['commit']} |"
        )
    return lines


def demo_table():
    """What the bare command reached."""
    newest = {row["device"]: row for row in rows("demo")}
    lines = [
        "| device | minutes | system | L1 (grey levels) | PSNR (dB) | SSIM | edges (correlation) | date, commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for device, row in newest.items():
        for system, scores in row["scores"].items():
            values = " | ".join(f"{scores[key]:.3f}" for key in ("l1", "psnr", "ssim", "gradient_correlation"))
            lines.append(f"| {device} | {row['minutes']:.1f} | {system} | {values} | {row['date']}, {row['commit']} |")
    return lines


TABLES = {"step": step_table, "demo": demo_table}


def filled(text):
    """The README with every table written anew."""

    def fill(match):
        return f"{match[1]}\n" + "\n".join(TABLES[match[2]]()) + f"\n{match[3]}"

    return re.sub(r"(<!-- table: (\w+) -->)\n.*?(<!-- end -->)", fill, text, flags=re.DOTALL)


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether README is up to date")
    args = parser.parse_args()
    text = README.read_text()
    new = filled(text)
    if args.check:
        print("README is up to date" if new == text else "README is not up to date: run python -m benchmarks.table")
        return int(new != text)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
