"""Local clusters in isolated networks, whose links can be cut, delayed and made lossy."""
