"""Pictures larger than memory, tile by tile, without seams: equal to what the whole picture would have become."""
