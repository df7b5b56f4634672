"""What killed runs left in a collection: documents named after their run."""

from collections.abc import Iterable, Sequence

from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from stalewatch.clients.mongodb.address import MongoAddress
from stalewatch.clients.mongodb.diagnosis import explained
from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.clients.preload import RUN_KEY, batches, run_of
from stalewatch.clients.protocol import Leftover


class MongoLeftovers:
    """The documents of runs in one collection."""

    def __init__(self, options: MongoOptions) -> None:
        """Connect; raise `BadAddress` for unusable options."""
        options.check()
        self._options, self._address = options, MongoAddress(options)
        self._client = self._address.open()
        self._documents = self._client[options.db].get_collection(
            options.coll, read_preference=ReadPreference.PRIMARY, write_concern=WriteConcern("majority")
        )

    def find(self) -> Iterable[Leftover]:
        """Return the documents of runs; raise a `ClientError`."""
        with explained(self._address, self._options):
            ids = [one["_id"] for one in self._documents.find({"_id": {"$regex": RUN_KEY}}, {"_id": 1})]
        return [Leftover(run_of(key), self._documents.full_name, key) for key in ids]

    def remove(self, found: Sequence[Leftover]) -> None:
        """Delete the documents; raise a `ClientError`."""
        with explained(self._address, self._options):
            for batch in batches([one.key for one in found]):
                self._documents.delete_many({"_id": {"$in": list(batch)}})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
