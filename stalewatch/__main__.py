"""Start the `stalewatch` command: the console script, `python -m stalewatch` and `bench.py` all come here."""

import sys
from collections.abc import Sequence

LOAD_COMMANDS = frozenset({"bench", "drill", "matrix"})
"""Commands that run sessions. Patching must come before anything else is imported, so it is decided here."""


def start(arguments: Sequence[str] | None = None, prog: str = "stalewatch") -> int:
    """Run a command in a process of its own and return its exit code; sessions are greenlets if gevent is installed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if LOAD_COMMANDS.intersection(arguments[:1]):
        try:
            from gevent import monkey  # noqa: PLC0415
        except ImportError:
            pass
        else:
            monkey.patch_all()
    from stalewatch.commands.main import main  # noqa: PLC0415
    from stalewatch.engine import stopping  # noqa: PLC0415

    stopping.limit(stopping.DRILL_STOP_S if arguments[:1] in (["drill"], ["matrix"]) else stopping.STOP_S)
    try:
        return main(arguments, prog)
    except SystemExit:
        stopping.let_timers_fire()
        raise


if __name__ == "__main__":
    sys.exit(start())
