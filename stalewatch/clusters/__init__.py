"""The databases themselves: as processes on this machine, and as containers."""
