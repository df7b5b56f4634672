"""TLS for CouchDB: the trusted authorities, and one context per process (creating one takes 80 ms)."""

import os
import ssl
from functools import lru_cache
from pathlib import Path

import certifi

from stalewatch.clients.couchdb.options import Leader
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.tls import TlsFiles

BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Environment variables of other HTTP clients that name a file or folder with trusted certificates."""

OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Environment variables that replace the system's store; `ssl` follows them itself."""


def context_for(leader: Leader, files: TlsFiles) -> ssl.SSLContext | None:
    """Return the process's context for connections to a leader; None without TLS.

    Without ``--tls-ca``, the environment says which authorities are trusted, else the system and certifi do. Raises
    `BadAddress` if a file cannot be used.
    """
    if leader.scheme != "https":
        return None
    context = files.context()
    if files.ca is None:
        variable = next((name for name in BUNDLES if os.environ.get(name)), None)
        if variable:
            _trust(context, variable, os.environ[variable])
        elif not any(os.environ.get(name) for name in OPENSSL):
            _trust(context, "certifi", certifi.where())  # not every Python finds the system's store
    return context


@lru_cache(maxsize=8)
def _trust(context: ssl.SSLContext, variable: str, path: str) -> None:
    """Add authorities to a context, once: every session asks for it, and reading them takes long."""
    try:
        context.load_verify_locations(**{"capath" if Path(path).is_dir() else "cafile": path})
    except OSError as error:
        said = error.reason or error if isinstance(error, ssl.SSLError) else error.strerror
        raise BadAddress(f"{variable} names {path}, which cannot be used ({said})") from None
