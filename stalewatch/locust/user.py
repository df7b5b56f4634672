"""The base of all user classes: one user is one session, on Locust's scheduling."""

import random
from typing import ClassVar

import gevent
from locust import User
from locust.exception import StopUser

from stalewatch.locust import plugin
from stalewatch.locust.part import DatabaseUsers
from stalewatch.locust.participant import participant_of
from stalewatch.workloads import Session


class SessionUser(User):
    """Reads and writes as the workload and the load's options say; a subclass names the database and has the task.

    Without `--rate` an operation follows the last at once (closed loop). With it, operations are due at fixed times
    whatever happened (open loop): one that is late starts at once, and its lateness counts in its response time.
    """

    abstract = True
    database: ClassVar[str]
    workload: ClassVar[str | None] = None
    """What the sessions do; None: what `--workload` says."""

    def on_start(self) -> None:
        """Open the session, once the database is open."""
        self._session: Session | None = None
        self._due: int | None = None
        self._participant = participant_of(self.environment)
        share = self._participant.share()
        if share is None or share.over:
            return
        self._clock, self._rate = share.setting.clock, share.setting.load.rate
        self._part: DatabaseUsers = share.part(self.database, self.workload)
        self._session = self._part.session(share.session_name())
        if self._rate is not None:  # spread the users over their period, or all would start as one
            self._due = self._clock.now() + round(random.random() * self._period_ns)
            gevent.sleep(self._left_s)

    def wait_time(self) -> float:
        """Return the seconds until the next operation is due."""
        if self._due is None:
            return 0
        self._due += round(self._period_ns)
        return self._left_s

    def step(self) -> None:
        """Do the session's next operation; the user ends with the run."""
        if self._session is None or self._part.over:
            raise StopUser
        self._part.step(self._session, self._due)

    @property
    def _period_ns(self) -> float:
        """How long it is from one operation of this user to the next, when all users together have the rate."""
        return self._participant.users / (self._rate or 1) * 1e9

    @property
    def _left_s(self) -> float:
        return max(0, (self._due or 0) - self._clock.now()) / 1e9


plugin.install(SessionUser)
