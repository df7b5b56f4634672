"""Addresses that hold a user and a password: without them for messages, and whole again for who knows them."""

import re

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>.*@)?(?P<rest>.*)", re.DOTALL)
"""The user reaches to the last @ there is: in an address that is malformed, such as by an @ or / in the password, more
than the user is taken for secret, and never less."""

_SECRET_SETTING = re.compile(r"[?&](?P<setting>[^=&?]*(?:password|authmechanismproperties)[^=&]*=[^&]*)", re.IGNORECASE)


def bare(url: str) -> str:
    """Return the address without its user, its password and the settings that are secret; nothing if it is no URL."""
    part = _URL.fullmatch(url)
    return _without_secret_settings(part["scheme"] + part["rest"]) if part else ""


def whole(url: str, own: str) -> str:
    """Return a bare address with the user, the password and the secret settings of an address of one's own."""
    part, known = _URL.fullmatch(url), _URL.fullmatch(own)
    if part is None or known is None:
        return own
    joined = f"{part['scheme']}{known['user'] or ''}{part['rest']}"
    for setting in _SECRET_SETTING.finditer(known["rest"]):
        joined += ("&" if "?" in joined else "?") + setting["setting"]
    return joined


def _without_secret_settings(url: str) -> str:
    cut = _SECRET_SETTING.sub(lambda found: found[0][0], url)
    return re.sub(r"([?&])&+", r"\1", cut).rstrip("?&")
