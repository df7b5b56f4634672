"""What is known of one key, and what each session knows of it: the state that the guarantees of registers look at."""

from bisect import bisect_left

from stalewatch.checkers.scene import Scene
from stalewatch.history.operation import Read, Write
from stalewatch.history.rules import NEVER, VersionRanges


class View:
    """One session's knowledge of one key: the newest version that it wrote, read, or has been promised."""

    __slots__ = ("effect", "needs", "read", "read_by", "written", "written_by")

    def __init__(self) -> None:
        self.written = 0
        self.written_by: Write | None = None
        self.read = 0
        self.read_by: Read | None = None
        self.needs = 0
        """The newest version that something the session read depends on."""
        self.effect: Read | None = None


class Register:
    """One key's versions: acknowledged and shown as staircases over time, written ones as ranges."""

    __slots__ = ("acknowledged", "applied", "failed", "failures", "kept", "never_ended", "shown", "views", "waiting")

    def __init__(self, scene: Scene) -> None:
        self.acknowledged = scene.stairs()
        self.shown = scene.stairs()
        self.views: dict[object, View] = {}
        self.kept: dict[int, Acknowledged] = {}
        self.applied = VersionRanges()
        """Versions whose write did not fail: acknowledged or unknown."""
        self.failed = VersionRanges()
        self.failures: dict[int, tuple[Write, int]] = {}
        """The last failed writes by version, with their source, to be witnesses."""
        self.never_ended: dict[int, tuple[Write, int]] = {}
        self.waiting: dict[int, list[tuple[Read, int]]] = {}
        """Reads, with their source, of versions whose write is not recorded yet."""

    def view(self, session: object) -> View:
        """Return what that session knows of the key."""
        view = self.views.get(session)
        if view is None:
            view = self.views[session] = View()
        return view


class Acknowledged:
    """A register's acknowledged writes of one source: all versions as ranges, and the operations of late.

    A final read must leave out the writes that ended after it started. They are among the late ones unless the read
    took longer than the horizon; then nothing can be said.
    """

    __slots__ = ("_dropped_until", "_ends", "_horizon_ns", "_late", "_limit", "_versions")

    SLACK = 64

    def __init__(self, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        self._limit = self.SLACK
        self._dropped_until = NEVER
        self._versions = VersionRanges()
        self._ends: list[int] = []
        self._late: list[tuple[int, Write]] = []

    def add(self, write: Write, version: int, end: int) -> None:
        """Take an ok write, in the order of their end."""
        self._versions.add(version)
        self._ends.append(end)
        self._late.append((version, write))
        if len(self._ends) > self._limit:
            self._drop(end - self._horizon_ns)

    def _drop(self, before: int) -> None:
        gone = bisect_left(self._ends, before)
        if gone:
            self._dropped_until = self._ends[gone - 1]
            del self._ends[:gone], self._late[:gone]
        self._limit = 2 * len(self._ends) + self.SLACK

    def lacking(self, held: int, before: int) -> tuple[int, int, list[Write]] | None:
        """Say of the writes that ended before that time: how many, how many are newer than `held`, and those known.

        None where it cannot be told which ended before.
        """
        if before <= self._dropped_until:
            return None
        cut = bisect_left(self._ends, before)
        after = self._late[cut:]
        lost = len(self._versions.above(held)) - sum(version > held for version, _ in after)
        known = [write for version, write in self._late[:cut] if version > held] if lost else []
        return len(self._versions) - len(after), lost, known
