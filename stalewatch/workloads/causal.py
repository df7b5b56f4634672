"""The causal workload: authors write posts and followups, readers comment on posts, and everybody reads both.

A thread has three registers: a post, its author's followup, and a comment. A followup or a comment stores which version
of the post its author had written or read, so whoever sees it must not then see an older post (`consistent_prefix`).
Sessions visit threads in two steps: write a post and then its followup; read a post and then comment on it; or read a
fresh followup or comment and then the post that it depends on. The two reads of the last visit are separate requests,
which different replicas may answer.

Nothing is waited for between the steps, and both readers and commenters choose threads of which something was
acknowledged just now. So a cause is only about one request older than its effect when the effect is first read, and a
violation shows whenever one replica has the effect and another lags by more than that.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.protocol import DOCUMENT_SEPARATOR, Answer, Client, ClientSession, Composite, Value
from stalewatch.history.operation import Depends, replace
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import Perform, Session
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.register import DISTRIBUTIONS, Latest, RegisterSession, RegisterWorkload, payload

POST, FOLLOWUP, COMMENT = "post", "followup", "comment"
PARTS = (POST, FOLLOWUP, COMMENT)


class Discussions:
    """The threads of one worker, shared by its sessions: their keys, and what was written recently."""

    def __init__(self, keys: Sequence[str], options: LoadOptions) -> None:
        self.documents = [f"{key}.thread" for key in keys] if options.co_locate else []
        """The documents that hold a thread each, if cause and effect are co-located."""
        names = [document + DOCUMENT_SEPARATOR for document in self.documents] or [f"{key}." for key in keys]
        threads = [{part: name + part for part in PARTS} for name in names]
        self._thread_of = {key: thread for thread in threads for key in thread.values()}
        self.keys = list(self._thread_of)
        posts = [thread[POST] for thread in threads]
        self.to_publish = DISTRIBUTIONS[options.distribution](posts)
        """The posts that authors write."""
        self.posts = Latest(posts)
        self.effects = Latest([key for key in self.keys if not self.is_post(key)])

    def is_post(self, key: str) -> bool:
        """Return whether a key is that of a post, rather than of something that depends on one."""
        return self.sibling(key, POST) == key

    def sibling(self, key: str, part: str) -> str:
        """Return the key of a part of the thread that a key belongs to."""
        return self._thread_of[key][part]


class Page:
    """A session that keeps the posts that it was shown in one document with what depends on them.

    An application that fetches a document with a comment has its post too, as the same replica had it at the same
    moment, and does not replace it by an older one when it fetches the document again. So a read returns the newer of
    what this answer shows and what was shown beside an effect. Whether an effect is then ever without its cause is
    decided within single answers:

    * MongoDB: a member applies writes in the order of the oplog, so if its document has the comment, it has the post.
      The same goes for a simulated leader's followers.
    * CouchDB: an edit makes a new revision of the whole document. If one leader takes all edits of a document
      (`--write-to a`, `b` or `home`), the revision with the comment descends from the one with the post. With
      `--write-to both`, a comment may be saved at the leader that still lacks the post; that leaves two leaves, and
      readers see the winner only. Nothing is promised then.
    * Cassandra stores and replicates every write of a partition by itself: a replica that missed one can have the next.
      At ONE, even a single SELECT may return the comment without the post; at QUORUM and QUORUM it cannot, but neither
      can two SELECTs from two partitions. So the client offers no common place: it would promise nothing.
    """

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._shown: dict[str, int] = {}
        """By post, the newest version that came in one answer with something that depends on the post."""
        self.write = session.write

    def read(self, key: str) -> Answer:
        """Read a register, and return no older version of a post than it was shown with an effect."""
        answer = self._session.read(key)
        if answer.outcome != "ok":
            return answer
        if answer.depends is not None and answer.beside is not None:
            post = answer.depends.key
            self._shown[post] = max(self._shown.get(post, 0), answer.beside.get(post, 0))
        shown = self._shown.get(key, 0)
        return replace(answer, version=shown, depends=None) if shown > (answer.version or 0) else answer


class _Step(NamedTuple):
    """The second step of a visit."""

    writes: bool
    key: str


class CausalSession(RegisterSession):
    """One simulated user, who publishes, comments and reads."""

    def __init__(
        self,
        name: str,
        client: Client,
        recorder: Recorder,
        threads: Discussions,
        options: LoadOptions,
        opened: ClientSession | None = None,
    ) -> None:
        super().__init__(name, client, recorder, threads.effects, options, opened)
        if threads.documents:
            self._session = Page(self._session)
        self._threads = threads
        self._known: dict[str, Depends] = {}
        """By post, the newest version that this user has read, or has written with an acknowledgement.

        Never one whose write was not acknowledged: it may take effect after what depends on it, or never.
        """
        self._next: _Step | None = None

    def step(self, due: int | None = None) -> None:
        """Perform a step of a visit; each of its two steps is a write with the probability `--write-ratio`."""
        if self._next is not None:
            self._continue(self._next, due)
            return
        flip, ratio = self._random.random, self._write_ratio
        writes = (flip() < ratio) + (flip() < ratio)
        if writes == len(("post", "followup")):
            self.write(self._threads.to_publish.choose_to_write(self._random), due)
        else:
            self.read(self._threads.posts.choose(self._random) if writes else self._keys.to_read(), due)

    def operations(self) -> Mapping[str, Perform]:
        """Return reads and writes; without a key they take the second step of a visit, or begin one."""
        return {"read": self._read_any, "write": self._write_any}

    def read(self, key: str, due: int | None = None) -> Answer:
        """Read a key; next comes a comment on the post, or the post that the followup or comment depends on."""
        answer = self._look(key, due)
        if answer.outcome == "ok" and answer.version:
            if self._threads.is_post(key):
                self._next = _Step(writes=True, key=self._threads.sibling(key, COMMENT))
            elif answer.depends is not None:
                self._next = _Step(writes=False, key=answer.depends.key)
        return answer

    def write(self, key: str, due: int | None = None) -> None:
        """Write a key; next comes the followup of a post."""
        if self._put(key, due) and self._threads.is_post(key):
            self._next = _Step(writes=True, key=self._threads.sibling(key, FOLLOWUP))

    def _continue(self, second: _Step, due: int | None) -> None:
        if second.writes:
            self._put(second.key, due)
        else:
            self._look(second.key, due)

    def _read_any(self, key: str | None, due: int | None) -> None:
        if key is None and self._next is not None and not self._next.writes:
            self._continue(self._next, due)
        else:
            comments = self._random.random() < self._write_ratio
            self.read(key or (self._threads.posts.choose(self._random) if comments else self._keys.to_read()), due)

    def _write_any(self, key: str | None, due: int | None) -> None:
        if key is None and self._next is not None and self._next.writes:
            self._continue(self._next, due)
        else:
            self.write(key or self._threads.to_publish.choose_to_write(self._random), due)

    def _look(self, key: str, due: int | None) -> Answer:
        """Read a key, and remember which version of a post it showed."""
        self._next = None
        answer = super().read(key, due)
        if answer.outcome == "ok" and answer.version and self._threads.is_post(key):
            self._learn(key, answer.version, "writes_follow_reads")
        return answer

    def _put(self, key: str, due: int | None) -> bool:
        """Raise a key to its next version, with what it depends on; return whether that was acknowledged."""
        self._next = None
        post = self._threads.sibling(key, POST)
        write = self._recorder.begin_write(self.name, key, due)
        write.depends = None if key == post else self._known.get(post)
        version = write.version or 0
        value = Value(version, self.name, write.depends, self._payload, write.start)
        if self._perform(write, lambda: self._session.write(key, value)).outcome != "ok":
            return False
        if key == post:
            self._learn(key, version, "monotonic_writes")
            self._threads.posts.note_write(key)
        else:
            self._keys.note_write(key)
        return True

    def _learn(self, post: str, version: int, cause: str) -> None:
        """Remember a version of a post. An older one changes nothing, so a version of one's own is known as such."""
        known = self._known.get(post)
        if known is None or known.version < version:
            self._known[post] = Depends(key=post, version=version, cause=cause)


class CausalWorkload(RegisterWorkload):
    """Sessions that visit threads; raises `BadAddress` if the database cannot co-locate them as the options ask."""

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        self._threads = Discussions(keys, options)
        super().__init__(client, recorder, self._threads.keys, options)
        self._composite = client if isinstance(client, Composite) else None
        if options.co_locate and self._composite is None:
            raise BadAddress(
                f"--co-locate: {client.database} has no documents or partitions whose writes reach a replica in order"
            )

    def preload(self) -> None:
        """Create the keys."""
        if self._threads.documents and self._composite is not None:
            self._composite.create_documents(self._threads.documents, PARTS, payload(self._options))
        else:
            super().preload()

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session."""
        return CausalSession(name, self._client, self._recorder, self._threads, self._options, opened)

    def remove(self) -> None:
        """Delete the keys."""
        if self._threads.documents and self._composite is not None:
            self._composite.remove_documents(self._threads.documents, PARTS)
        else:
            super().remove()
