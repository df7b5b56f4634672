"""Exit codes of all commands and of Locust. `check` exits with its verdict, so its bad input has a code of its own."""

DONE, MISSED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

BAD_INPUT = 64
"""Bad usage or bad input of `check`, where 2 means the verdict `unknown`."""

OUTPUT_ERROR = 74
"""Output that cannot be written, for example to a full disk; not 1, which means a missed expectation or a violation."""

BROKEN_PIPE = 141
"""The reader of the output has left, as in ``stalewatch bench ... | head``."""
