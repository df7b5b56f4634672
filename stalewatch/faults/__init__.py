"""Faults: what is done to the nodes of a cluster on purpose, and undone whatever happens."""
