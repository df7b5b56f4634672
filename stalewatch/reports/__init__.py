"""The results of a run as plain lines, tables, JSON and an HTML page."""
