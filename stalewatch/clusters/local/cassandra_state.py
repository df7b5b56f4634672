"""What the local ring remembers from one start to the next: its ports, its settings, and that it was whole once."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from stalewatch.clusters.local import home
from stalewatch.clusters.local.cassandra_node import Node, Ports, Settings

HOSTS = {"cassandra1": "127.0.0.1", "cassandra2": "127.0.0.2", "cassandra3": "127.0.0.3"}
USUAL_PORTS = Ports(native=9042, storage=7000, management=7199)


class RingState:
    """A small file in the ring's folder.

    `hosts` are the nodes' addresses by their names, `asked` the settings that differ from those of the last start.
    """

    def __init__(self, folder: Path, hosts: Mapping[str, str], asked: Mapping[str, Any]) -> None:
        self._hosts = hosts
        self._folder = folder
        self._file = folder / "state.json"
        self._asked = dict(asked)

    @property
    def settings_before(self) -> Settings:
        """The settings of the last start, else Cassandra's own."""
        return Settings(**self._facts().get("settings", {}))

    @property
    def settings(self) -> Settings:
        """The settings that were asked for, else those of the last start."""
        return self.settings_before._replace(**self._asked)

    @property
    def has_ports(self) -> bool:
        """Whether it is known where the nodes listen."""
        return "ports" in self._facts()

    @property
    def formed(self) -> bool:
        """Whether the nodes have been a ring, and so know each other."""
        return bool(self._facts().get("formed"))

    def nodes(self) -> dict[str, Node]:
        """Return what each node's files should say; with the usual ports before the first start."""
        known, settings = self._facts().get("ports", {}), self.settings
        found = {name: Ports(*known.get(name, USUAL_PORTS)) for name in self._hosts}
        seeds = [f"{host}:{found[name].storage}" for name, host in self._hosts.items()]
        return {
            name: Node(host, found[name], Fraction(number, len(self._hosts)), seeds, settings)
            for number, (name, host) in enumerate(self._hosts.items())
        }

    def keep_ports(self, ports: Mapping[str, Sequence[int]]) -> None:
        """Remember where each node listens."""
        self._remember(ports=ports)

    def keep_settings(self) -> None:
        """Make the settings that were asked for those of the last start."""
        self._remember(settings=self.settings._asdict())

    def keep_formed(self, *, formed: bool) -> None:
        """Remember whether the nodes know each other."""
        self._remember(formed=formed)

    def _facts(self) -> dict[str, Any]:
        return home.recall(self._file)

    def _remember(self, **facts: object) -> None:
        with home.writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            home.remember(self._file, {**self._facts(), **facts})
