"""Exit codes of every command but `check`, and the errors that lead to them."""

DONE, MISSED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
