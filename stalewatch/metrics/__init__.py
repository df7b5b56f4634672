"""The metrics of a run: a table of families, the numbers, and the server that exposes them to Prometheus."""
