"""Failover drills: a timeline of faults over load, and what it measured."""
