"""Database clients: the interfaces, options and errors that they share, and one package for each real database."""
