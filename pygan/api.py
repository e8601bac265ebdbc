"""pygan as a library: `g = pygan.load(run_or_file); out = g(picture)`."""
