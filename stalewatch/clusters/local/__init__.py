"""Clusters as processes on this machine."""
