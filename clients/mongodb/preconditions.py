"""Checks, before a run, of what exists already and could falsify its verdict: the seeds, and the collection.

A collection that deletes documents by itself would be reported as losing acknowledged writes; one that refuses or
changes documents would be reported as a failing database. Each refusal names the object, its property, and what to do.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import PyMongoError
from pymongo.topology_description import TopologyDescription

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.mongodb.address import Document, DriverClient, MongoAddress, Server, node_name, node_names

_KINDS: Mapping[str, str] = {
    "view": "is a view, which cannot be written",
    "timeseries": "is a time series, whose documents cannot be updated",
}
"""Types of `listCollections` that are no plain collection."""

_OPTIONS: Mapping[str, str] = {
    "capped": "is capped: MongoDB deletes its oldest documents, which would be reported as lost",
    "expireAfterSeconds": "has expireAfterSeconds, by which MongoDB deletes documents, which would be reported as lost",
    "validator": "has a validator, which may refuse the documents of a run",
    "collation": "has a collation, by which keys that differ may count as equal",
    "encryptedFields": "has encryptedFields, which need a client with the keys",
}
"""Options of a collection with the words for them; an option that is absent or false does not count."""

_HARMLESS_VALIDATION = (("validationAction", "warn"), ("validationLevel", "off"))

_ASK_S = 1.0


def check_seeds(client: DriverClient, address: MongoAddress) -> None:
    """Raise `BadAddress` if two addresses of the URI are one member, or belong to different replica sets.

    The driver keeps only the members of one set, under the names that they have there, and drops other seeds silently.
    A seed that does not answer is left to the driver.
    """
    known = client.topology_description
    twice = [seed for seed, times in Counter(address.hosts).items() if times > 1]
    if twice:
        raise BadAddress(f"--mongo-uri names {node_names(twice)} twice: name each member once")
    named: dict[str, Server] = {node_name(seed): seed for seed in address.hosts if seed in known.server_descriptions()}
    for seed in address.hosts:
        hello = {} if node_name(seed) in named else _hello(address, seed)
        if hello and _is_foreign(hello, known):
            raise BadAddress(
                f"--mongo-uri names members of two replica sets: {node_name(seed)} is in {_set(hello)}, but not in "
                f"{known.replica_set_name} of {node_names(known.server_descriptions())}; name members of one set"
            )
        other = named.setdefault(hello["me"].lower(), seed) if "me" in hello else seed
        if other != seed:
            raise BadAddress(
                f"--mongo-uri names one member twice: {node_names((other, seed))} are both {hello['me']}; name each "
                "member once"
            )


def _is_foreign(hello: Mapping[str, Any], known: TopologyDescription) -> bool:
    """Return whether a server belongs to another set; two sets may have the same name, but share no member.

    The driver keeps names in lower case, the server as they were configured.
    """
    if "setName" not in hello and hello.get("isreplicaset"):
        return False  # it has only just started, and does not know its set yet
    members = set(map(node_name, known.server_descriptions()))
    hosts = map(str.lower, hello.get("hosts", members))
    return hello.get("setName") != known.replica_set_name or members.isdisjoint(hosts)


def _set(hello: Mapping[str, Any]) -> str:
    return f"{hello['setName']} of {', '.join(hello.get('hosts', ()))}" if "setName" in hello else "no set"


def _hello(address: MongoAddress, seed: Server) -> Mapping[str, Any]:
    if seed[1] is None:
        return {}  # a Unix socket, for which `open_member` makes no URI
    settings = dict.fromkeys(("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS"), int(_ASK_S * 1000))
    try:
        with address.open_stranger(*seed, settings) as member:
            hello: Mapping[str, Any] = member.admin.command("hello")
    except PyMongoError:
        return {}
    return hello


def answering(address: MongoAddress) -> list[Server]:
    """Return the seeds that answer."""
    return [seed for seed in address.hosts if _hello(address, seed)]


def check_collection(documents: Collection[Document]) -> None:
    """Raise `BadAddress` for a collection whose properties would falsify a verdict, and driver exceptions."""
    found = next(iter(documents.database.list_collections(filter={"name": documents.name})), None)
    if found is None:
        return
    defect = _KINDS.get(found.get("type", "")) or _unfit_option(found["options"])
    if defect is None:
        indexes = map(_unfit_index, documents.list_indexes())
        defect = next((index for index in indexes if index is not None), None) or _unfit_shard_key(documents)
    if defect is not None:
        raise BadAddress(f"the collection {documents.full_name} {defect}; choose another --coll")


def _unfit_shard_key(documents: Collection[Document]) -> str | None:
    """Return what is wrong with the key by which a cluster's router spreads the documents; None without a router."""
    client = documents.database.client
    if client.topology_description.topology_type_name != "Sharded":
        return None
    found = client["config"]["collections"].find_one({"_id": documents.full_name}) or {}
    fields = list(found.get("key", ()))
    if fields in ([], ["_id"]):
        return None
    return f"is sharded by {', '.join(fields)}, but a run finds its documents by _id alone"


def _unfit_option(options: Mapping[str, Any]) -> str | None:
    harmless = {"validator"} if any(options.get(name) == value for name, value in _HARMLESS_VALIDATION) else set()
    return next((words for name, words in _OPTIONS.items() if options.get(name) and name not in harmless), None)


def _unfit_index(index: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an index: one that deletes documents, or one that allows only one of a run's.

    Documents of a run lack the fields of other people's indexes, so all would have the same value there: null. A sparse
    or partial index leaves such documents out, and keys that differ make every entry differ.
    """
    if "expireAfterSeconds" in index:
        return f"has the TTL index {index['name']}, by which MongoDB deletes documents, which would be reported as lost"
    covers = not index.get("sparse") and "partialFilterExpression" not in index
    if index.get("unique") and covers and "_id" not in index["key"]:
        return f"has the unique index {index['name']}, which refuses a second document without its fields"
    return None
