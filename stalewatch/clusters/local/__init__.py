"""Clusters that run as processes on this machine."""
