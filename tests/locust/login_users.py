"""Users of a simulated store, behind Locust's login page."""

import secrets
from typing import Any

from flask_login import UserMixin
from locust import events, task

from stalewatch.locust import DatabaseUser


class SomeUser(DatabaseUser):
    database = "memory"

    @task
    def read_or_write(self) -> None:
        self.step()


@events.init.add_listener
def on_init(environment: Any, **_: Any) -> None:
    environment.web_ui.app.config["SECRET_KEY"] = secrets.token_hex()
    environment.web_ui.auth_args = {"username_password_callback": "/login_submit"}
    environment.web_ui.login_manager.user_loader(lambda _user: UserMixin())
