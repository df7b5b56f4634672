"""What a session does next, and the runner that lets many sessions do it in one process."""
