"""How a process that does nothing but put load on a database collects garbage."""

import gc

YOUNG_OBJECTS = 10_000
"""After how many new objects, net, Python looks for garbage; its own 700 costs a tenth of an operation's time.

What belongs to a request lives until the request's time-out is due (in cassandra-driver, with cycles in it). So a
collection that comes every few dozen operations finds nearly all of it alive, and hands it on to older generations,
to be looked at again and again.
"""


def collect_seldom() -> None:
    """Collect now, and from now on seldom, and never what is loaded by now: it lives as long as the process.

    It is for the command that owns a process to call this, once all is ready for the load; then again for the next.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
