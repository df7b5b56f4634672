"""Grafana dashboards as code: typed builders generate the JSON in dashboards/, and a test compares the two."""
