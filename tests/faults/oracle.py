"""What clients were promised, kept outside the server and its disk."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from tests.integration.images import Content, Image, sha256

Key = tuple[str, str]


@dataclass
class Session:
    """An upload session that was left open."""

    repository: str
    location: str
    content: bytes
    #: How many bytes were acknowledged, and how many were sent.
    acknowledged_bytes: int = 0
    sent_bytes: int = 0
    #: Its last request was sent: it may be gone.
    may_be_gone: bool = False


@dataclass
class Promises:
    """Everything that was acknowledged; safe to use from several threads.

    A tag may have several possible states while a request about it is on its way: None stands for absent.
    """

    blobs: dict[Key, int] = field(default_factory=dict)
    manifests: dict[Key, Content] = field(default_factory=dict)
    #: Blobs of each manifest that was ever sent, by its digest.
    images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tags: dict[Key, set[str | None]] = field(default_factory=dict)
    #: Acknowledged since the last inspection.
    fresh: list[Key] = field(default_factory=list)
    #: Sent and not acknowledged: there or not, but never half.
    pending_blobs: set[Key] = field(default_factory=set)
    pending_manifests: set[Key] = field(default_factory=set)
    #: Manifests whose deletion was sent, and those whose deletion was acknowledged.
    deleting: set[Key] = field(default_factory=set)
    deleted: set[Key] = field(default_factory=set)
    sessions: list[Session] = field(default_factory=list)
    acknowledged: int = 0
    #: The power is about to be cut, or was: nobody lives to hear an answer.
    is_dark: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def blob_may_come(self, repository: str, content: bytes) -> None:
        """Note that a blob is being sent."""
        with self.lock:
            self.pending_blobs.add((repository, sha256(content)))

    def blob(self, repository: str, content: bytes) -> None:
        """Note an acknowledged blob."""
        self.blob_is(repository, sha256(content), len(content))

    def blob_is(self, repository: str, digest: str, size_bytes: int) -> None:
        """Note an acknowledged blob by its digest."""
        with self.lock:
            self.blobs[repository, digest] = size_bytes
            self.fresh.append((repository, digest))
            self.pending_blobs.discard((repository, digest))
            self.acknowledged += 1

    def tag_may_become(self, repository: str, tag: str, digest: str | None) -> None:
        """Note that a request about a tag is being sent."""
        with self.lock:
            self.tags.setdefault((repository, tag), {None}).add(digest)

    def tag_is(self, repository: str, tag: str, digest: str | None) -> None:
        """Note that the request was acknowledged."""
        with self.lock:
            self.tags[repository, tag] = {digest}
            self.acknowledged += 1

    def manifest_may_come(self, repository: str, image: Image) -> None:
        """Note that a manifest is being sent."""
        with self.lock:
            self.images[image.manifest.digest] = tuple(blob.digest for blob in image.blobs)
            self.pending_manifests.add((repository, image.manifest.digest))

    def manifest(self, repository: str, content: Content) -> None:
        """Note an acknowledged manifest."""
        with self.lock:
            self.manifests[repository, content.digest] = content
            self.pending_manifests.discard((repository, content.digest))
            self.acknowledged += 1

    def manifest_may_go(self, repository: str, digest: str) -> None:
        """Note that a manifest's deletion is being sent; its tags go with it."""
        with self.lock:
            self.deleting.add((repository, digest))
            for (name, _), possible in self.tags.items():
                if name == repository and digest in possible:
                    possible.add(None)

    def manifest_is_gone(self, repository: str, digest: str) -> None:
        """Note that the deletion was acknowledged."""
        with self.lock:
            self.manifests.pop((repository, digest), None)
            self.deleting.discard((repository, digest))
            self.deleted.add((repository, digest))
            for (name, _), possible in self.tags.items():
                if name == repository and digest in possible:
                    possible.discard(digest)
            self.acknowledged += 1

    def of_others(self, repository: str) -> list[Key]:
        """Return acknowledged blobs of other repositories, the latest ones."""
        with self.lock:
            return [key for key in self.fresh if key[0] != repository]

    def session(self, session: Session) -> None:
        """Note an open session."""
        with self.lock:
            self.sessions.append(session)
            self.acknowledged += 1

    def take_sessions(self, repository: str) -> list[Session]:
        """Hand over the open sessions of a repository, to be resumed."""
        with self.lock:
            found = [each for each in self.sessions if each.repository == repository]
            self.sessions = [each for each in self.sessions if each.repository != repository]
            return found

    def end_session(self, session: Session) -> None:
        """Forget a session that is finished."""
        with self.lock:
            self.sessions.remove(session)
