"""Database clusters: local processes, local processes in a network lab, and Docker Compose containers."""
