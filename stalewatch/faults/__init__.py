"""Faults: breaking the nodes of a cluster on purpose, and undoing it whatever happens."""
