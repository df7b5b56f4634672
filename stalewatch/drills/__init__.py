"""Failover drills: a timeline of faults under load, and what it measured."""
