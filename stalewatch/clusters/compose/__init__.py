"""Clusters of the containers in docker-compose.yml."""
