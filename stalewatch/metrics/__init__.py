"""What Prometheus is shown of a run: every family in one table, its numbers, and how they are served."""
