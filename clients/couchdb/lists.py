"""Lists in CouchDB: a document an item.

Were the items in one document, two leaders that append to it at the same time would leave two leaves: that is what the
conflict workload's baskets show. Documents of their own never meet, so what is missing once the leaders agree is lost.
"""

from urllib.parse import quote

from stalewatch.clients.couchdb.http import encoded

_BETWEEN, _LAST = "/", "\ufff0"
"""What stands between list and item, and a character after all that items are made of."""


def item_id(key: str, item: str) -> str:
    """Return the name of an item's document."""
    return f"{key}{_BETWEEN}{item}"


def query(key: str) -> str:
    """Return what asks ``_all_docs`` for the items of a list."""
    first, last = (quote(encoded(f"{key}{_BETWEEN}{end}").decode(), safe="") for end in ("", _LAST))
    return f"?startkey={first}&endkey={last}"


def items(key: str, rows: list[dict[str, object]]) -> dict[str, object]:
    """Return the items that rows of ``_all_docs`` stand for, each with its revision."""
    start = f"{key}{_BETWEEN}"
    return {str(row["id"])[len(start) :]: row["value"] for row in rows if str(row["id"]).startswith(start)}
