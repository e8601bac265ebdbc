"""Trained networks as a web page and an HTTP API of this machine."""
