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

FLAGS: Mapping[str, str] = {
    "ca": "--tls-ca",
    "cert": "--tls-cert (under Locust: --client-cert)",
    "key": "--tls-key (under Locust: --client-key)",
}
"""How messages name the options."""


class EncryptedKey(ValueError):
    """A private key with a passphrase, which OpenSSL would ask for on the terminal."""


def tls_option(kind: str, database: str) -> Any:  # noqa: ANN401 # a field stands for its value
    """Return the field of an options' dataclass for ``--tls-ca``, ``--tls-cert`` or ``--tls-key``."""
    env, old = f"STALEWATCH_{database}_TLS_{kind.upper()}", f"STALEWATCH_{database}_CLIENT_{kind.upper()}"
    return option(f"--tls-{kind}", _HELP[kind], env=env, old_env=(old,), on_page=(), **_CLIENT.get(kind, {}))


class TlsFiles(NamedTuple):
    """The files that the options name: trusted authorities, client certificate and its private key."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def check(self) -> None:
        """Raise `BadAddress` for a key without a certificate, or a file that cannot be used."""
        if self.key and not self.cert:
            raise BadAddress(f"{FLAGS['key']} needs its certificate: give {FLAGS['cert']} too")
        for flag, path in self._asdict().items():
            try:
                if path:
                    open(path, "rb").close()  # noqa: PTH123 # only whether it can be read
            except OSError as error:
                raise BadAddress(f"{FLAGS[flag]} {path}: {error.strerror or error}") from None
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
        named = [f"{FLAGS[kind]} {path}" for kind, path in files._asdict().items() if path and kind != "ca"]
        try:
            context.load_cert_chain(files.cert, files.key, password=_no_passphrase)
        except EncryptedKey:
            raise BadAddress(
                f"{named[-1]}: the private key is encrypted, which is not supported; write it without a passphrase: "
                f"openssl pkey -in {files.key or files.cert} -out PLAIN.pem"
            ) from None
        except OSError as error:
            raise BadAddress(f"{', '.join(named)}: not a certificate with its key in PEM form: {error}") from None
    return context


def _no_passphrase() -> str:
    raise EncryptedKey
