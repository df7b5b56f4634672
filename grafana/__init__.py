"""Grafana dashboards as code: typed builders make the JSON beside them, which a test compares."""
