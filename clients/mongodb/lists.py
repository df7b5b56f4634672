"""Lists in MongoDB: a document an item, and one that heads the list.

Items could stand in an array of one document, but every ``$push`` would write all of it anew, all sessions would queue
for it, and 16 MB would be its end. The ``_id`` is the list's name and the item, so an item can stand there only once,
and the items of a list lie side by side in the index that every collection has.
"""

from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from stalewatch.clients.mongodb.address import Document, node_name
from stalewatch.clients.mongodb.connection import Access
from stalewatch.clients.protocol import Answer

HEAD: Document = {"final_reads": 0}
"""What the document holds that heads a list."""

BATCH_ITEMS = 10_000
"""How many items come at a time, so that each answer comes in time however long the list is."""

_BETWEEN, _AFTER = "/", "0"
"""What stands between list and item, and the character after it."""


def item_of(key: str, item: str) -> Document:
    """Return the document of an item."""
    return {"_id": f"{key}{_BETWEEN}{item}"}


def items_of(key: str) -> Document:
    """Return what finds the items of a list."""
    return {"_id": {"$gt": f"{key}{_BETWEEN}", "$lt": f"{key}{_AFTER}"}}


def final(access: Access, key: str) -> Answer:
    """Return the items of a list, from the primary; raise what the driver raises.

    Right after writes that one member confirmed, a majority read alone shows the list as it was before them. So a write
    to its head comes first: once a majority has that, it has all that the primary took before, and the session has the
    read wait for it. Where the head is gone it is made anew: an update that finds nothing proves nothing.
    """
    lists = access.writes.with_options(
        write_concern=WriteConcern("majority", wtimeout=access.patience_ms),
        read_concern=ReadConcern("majority"),
        read_preference=ReadPreference.PRIMARY,
    )
    with access.client.start_session(causal_consistency=True) as session:
        lists.update_one({"_id": key}, {"$inc": {"final_reads": 1}}, upsert=True, session=session)
        cursor = lists.find(items_of(key), {"_id": 1}, session=session, batch_size=BATCH_ITEMS)
        items: list[str | int] = [document["_id"][len(key) + 1 :] for document in cursor]
    address = cursor.address
    return Answer(node=None if address is None else node_name(address), items=items)
