"""Users of the service, who say which version they write and which they see: `locust -f users.py`."""

from locust import HttpUser, task

from stalewatch.locust import Watched


class Shopper(Watched, HttpUser):
    """Changes profiles, and looks at them."""

    host = "http://127.0.0.1:8001"

    @task
    def rename(self) -> None:
        """Replace a profile; the version goes with it."""
        key = self.watch.key_to_write()
        with self.watch.write(key) as write:
            profile = {"name": "Ada", "version": write.version}
            answer = self.client.put(f"/profiles/{key}", json=profile, name="/profiles/KEY")
            if not answer.ok:
                write.unknown(f"status {answer.status_code}")

    @task(3)
    def look(self) -> None:
        """Read a profile; the version comes with it."""
        key = self.watch.key()
        with self.watch.read(key) as read:
            read.saw(self.client.get(f"/profiles/{key}", name="/profiles/KEY").json().get("version", 0))

    def create(self, key: str) -> None:
        """Make sure, before the load, that the profile exists."""
        self.client.put(f"/profiles/{key}", json={"name": "", "version": 0}).raise_for_status()

    def final_read(self, key: str) -> int:
        """Return the version that is there in the end, read as strongly as the service can."""
        version: int = self.client.get(f"/durable/{key}").json()["version"]
        return version

    def remove(self, key: str) -> None:
        """Delete the profile, after the load."""
        self.client.delete(f"/profiles/{key}")
