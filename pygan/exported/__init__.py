"""A network from a file that `pygan export` wrote, with the face of one from a run (`use.Network`)."""
