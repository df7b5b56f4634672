"""Readers who take their time and an editor who does not, on the same articles: `locust -f users.py`."""

from locust import HttpUser, between, constant_throughput, task

from stalewatch.locust import Watched


class Newspaper(Watched, HttpUser):
    """What both classes have in common: since they derive from it, they share its articles."""

    abstract = True
    host = "http://127.0.0.1:8001"
    share = tuple(f"article-{number}" for number in range(40))  # they exist already

    def create(self, key: str) -> None:
        """Set the version of an article to 0, before the load: an earlier test may have left one."""
        self.client.put(f"/profiles/{key}", json={"text": "", "version": 0}).raise_for_status()

    def final_read(self, key: str) -> int:
        """Return the version that is there in the end."""
        version: int = self.client.get(f"/durable/{key}").json()["version"]
        return version


class Reader(Newspaper):
    """Reads an article, thinks, reads it again."""

    weight = 4
    wait_time = between(0.2, 1)

    @task
    def read_twice(self) -> None:
        """Think outside the blocks: a block is one request."""
        key = self.watch.key()
        for _ in range(2):
            with self.watch.read(key) as read:
                read.saw(self.client.get(f"/profiles/{key}", name="/profiles/KEY").json().get("version", 0))
            self.wait()


class Editor(Newspaper):
    """Saves an article ten times a second, and looks at what was saved."""

    wait_time = constant_throughput(10)

    @task
    def save_and_look(self) -> None:
        """Save, and read the answer to the next request."""
        key = self.watch.key_to_write()
        with self.watch.write(key) as write:
            text = {"text": "new", "version": write.version}
            self.client.put(f"/profiles/{key}", json=text, name="/profiles/KEY").raise_for_status()
        with self.watch.read(key) as read:
            read.saw(self.client.get(f"/profiles/{key}", name="/profiles/KEY").json().get("version", 0))
