"""Load replicated databases, break them, and report exactly which reads were stale and which writes were lost."""

__version__ = "0.1.0"
