"""What master and workers say to each other beside Locust's own messages; Locust's message types are one namespace."""

REPORT = "stalewatch-report"
"""Worker to master, every second and at its end: an encoded `stalewatch.locust.report.Report`."""

CLOCK = "stalewatch-clock"
"""Worker to master and back: when the question left, and the master's time."""

DRAIN = "stalewatch-drain"
"""Master to worker: end your sessions, make the final reads, send your last report of this run."""

IDLE = "stalewatch-idle"
"""Worker to master: there is nothing to drain here, of this run."""

USERS = "stalewatch-users"
"""Master to worker: how many users there are to be at all workers together, among whom `--rate` is divided."""

TURN, TURN_OVER = "stalewatch-turn", "stalewatch-turn-over"
"""Worker to master: may I open a database; and back: now. Worker to master: I have opened it, or could not."""

REFUSED = "stalewatch-refused"
"""Master to worker: your reports belong to another run than mine."""

RUN, TARGET = "stalewatch_run", "stalewatch_users"
"""What travels in Locust's parsed options, and so with every spawn message, to late joiners too: the run's name, and
the users that there are to be."""
