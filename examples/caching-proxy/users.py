"""Users behind the proxy; each remembers the newest version that it wrote or saw. Run `locust -f users.py`."""

from collections import defaultdict

from locust import HttpUser, constant, task

from stalewatch.locust import Watched


class Customer(Watched, HttpUser):
    """Changes profiles, and looks at them."""

    host = "http://127.0.0.1:8002"
    wait_time = constant(0.01)

    def on_start(self) -> None:
        """Know nothing yet."""
        self.known: defaultdict[str, int] = defaultdict(int)

    @task
    def rename(self) -> None:
        """Replace a profile."""
        key = self.watch.key_to_write()
        with self.watch.write(key) as write:
            answer = self.client.put(f"/profiles/{key}", json={"version": write.version}, name="/profiles/KEY")
            answer.raise_for_status()
            self.known[key] = write.version

    @task(3)
    def look(self) -> None:
        """Read a profile, and ask for one that is at least as new as what this session knows."""
        key = self.watch.key()
        with self.watch.read(key) as read:
            headers = {"X-Seen": str(self.known[key])}
            version = (
                self.client.get(f"/profiles/{key}", headers=headers, name="/profiles/KEY").json().get("version", 0)
            )
            read.saw(version)
            self.known[key] = max(self.known[key], version)

    def create(self, key: str) -> None:
        """Make sure, before the load, that the profile exists."""
        self.client.put(f"/profiles/{key}", json={"version": 0}).raise_for_status()

    def remove(self, key: str) -> None:
        """Delete the profile, after the load."""
        self.client.delete(f"/profiles/{key}")
