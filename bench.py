"""`python bench.py DATABASE ...` is `stalewatch bench DATABASE ...`, from a bare checkout."""

import sys

from stalewatch.__main__ import start

if __name__ == "__main__":
    sys.exit(start(["bench", *sys.argv[1:]], prog="bench.py"))
