"""A self-signed certificate for 127.0.0.1, which is its own authority."""

import subprocess
from pathlib import Path


def certificate(folder: Path) -> tuple[str, str, str]:
    """Return the files of an authority, a certificate that it signed, and its key; `both.pem` next to them has both."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ("-subj", "/CN=node", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, *names)
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    (folder / "both.pem").write_text(key.read_text() + cert.read_text())
    return str(cert), str(cert), str(key)
