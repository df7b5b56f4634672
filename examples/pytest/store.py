"""A small store in the manner of Redis: a primary, and a replica that receives writes a few commands later."""


class TinyRedis:
    """SET goes to the primary; GET asks the primary or the replica."""

    def __init__(self, lag: int = 3) -> None:
        """Set how many commands the replica is behind."""
        self.lag = lag
        self.commands = 0
        self.primary: dict[str, dict[str, int]] = {}
        self.replica: dict[str, dict[str, int]] = {}
        self.stream: list[tuple[int, str, dict[str, int]]] = []

    def set(self, key: str, value: dict[str, int]) -> None:
        """Store a value in the primary, and send it to the replica."""
        self._tick()
        self.primary[key] = value
        self.stream.append((self.commands + self.lag, key, value))

    def get(self, key: str, read_from: str = "primary") -> dict[str, int] | None:
        """Return a value, or None."""
        self._tick()
        return (self.primary if read_from == "primary" else self.replica).get(key)

    def _tick(self) -> None:
        self.commands += 1
        while self.stream and self.stream[0][0] <= self.commands:
            _, key, value = self.stream.pop(0)
            self.replica[key] = value
