"""Passwords stay in the process that was given them.

Locust sends the master's parsed options to every worker with each spawn message, and there they overwrite the worker's
own. So every process puts what is secret aside before anything is sent, and a worker makes an address that it is sent
whole again with the user and the password of its own command line or environment.
"""

import os
from argparse import Namespace
from collections.abc import Iterable, Mapping

from stalewatch.clients.options import Option


class Vault:
    """The secret values that this process was given, by option name."""

    def __init__(
        self, options: Iterable[Option], namespace: Namespace, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Take the secrets out of the parsed options, where only what may be sent is left."""
        self._options = [option for option in options if option.secret]
        self._own: dict[str, str] = {}
        for option in self._options:
            given = getattr(namespace, option.name, None)
            value = given or environ.get(option.env or "")
            if value:
                self._own[option.name] = value
            setattr(namespace, option.name, option.redaction.redact(value) if value else None)

    def opened(self, namespace: Namespace) -> Namespace:
        """Return a copy of the options with the secrets in it, for the clients of this process alone."""
        whole = Namespace(**vars(namespace))
        for option in self._options:
            own, sent = self._own.get(option.name), getattr(namespace, option.name, None)
            setattr(whole, option.name, option.redaction.restore(sent, own) if own and sent else own or sent)
        return whole
