"""TLS: the options that every database has for it, and the one context of a process that is made of them."""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import option

_HELP: Mapping[str, str] = {
    "ca": "use TLS, and trust servers whose certificate is signed by an authority in this file (PEM)",
    "cert": "use TLS with this client certificate (PEM), if the servers require one (under Locust: --client-cert)",
    "key": "private key of the client certificate, unless that file contains it (under Locust: --client-key)",
}


_CLIENT: Mapping[str, Mapping[str, Any]] = {
    kind: {"aliases": (f"--client-{kind}",), "dest": f"client_{kind}"} for kind in ("cert", "key")
}
"""Locust has flags ``--tls-cert`` and ``--tls-key`` of its own, for its web page; there the other names are ours."""


def tls_option(kind: str, database: str) -> Any:  # noqa: ANN401 # a field stands for its value
    """Return the field of an options' dataclass for ``--tls-ca``, ``--tls-cert`` or ``--tls-key``."""
    env, old = f"STALEWATCH_{database}_TLS_{kind.upper()}", f"STALEWATCH_{database}_CLIENT_{kind.upper()}"
    return option(f"--tls-{kind}", _HELP[kind], env=env, old_env=(old,), **_CLIENT.get(kind, {}))


class TlsFiles(NamedTuple):
    """The files that the options name: trusted authorities, client certificate and its private key."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def check(self) -> None:
        """Raise `BadAddress` for a key without a certificate, or a file that cannot be used."""
        if self.key and not self.cert:
            raise BadAddress("--tls-key needs its certificate: give --tls-cert too")
        for flag, path in self._asdict().items():
            try:
                if path:
                    open(path, "rb").close()  # noqa: PTH123 # only whether it can be read
            except OSError as error:
                raise BadAddress(f"--tls-{flag} {path}: {error.strerror or error}") from None
        if any(self):
            self.context()

    def context(self) -> ssl.SSLContext:
        """Return the process's context; without `ca` it trusts the system's store (or SSL_CERT_FILE).

        Raises `BadAddress` for a file that does not hold what it should.
        """
        return _context(self)


@lru_cache(maxsize=8)
def _context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context; making one reads the whole store of authorities, which takes 20 ms and 5 MB."""
    try:
        context = ssl.create_default_context(cafile=files.ca)
    except OSError as error:  # ssl.SSLError is one
        raise BadAddress(f"--tls-ca {files.ca}: not a file of certificates in PEM form: {error}") from None
    if files.cert:
        try:
            context.load_cert_chain(files.cert, files.key)
        except OSError as error:
            named = f"--tls-cert {files.cert}{f', --tls-key {files.key}' if files.key else ''}"
            raise BadAddress(f"{named}: not a certificate with its key in PEM form: {error}") from None
    return context
