"""Where everything lies under the root directory; pure paths, nothing here touches the disk."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass

from dockreg_tx.oci.digests import ALGORITHMS, Digest
from dockreg_tx.oci.errors import BlobUploadUnknown, DigestInvalid

#: Ids come out of URLs: no slash, no leading dot (those names are ours), short enough for every filesystem.
_UPLOAD_ID = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9_.=-]{0,127}")
_SHARDS = tuple(f"{number:02x}" for number in range(256))


@dataclass(frozen=True, slots=True)
class RootLayout:
    """The files and directories of one registry; ``docs/storage-layout.md`` explains each."""

    root: str

    def _at(self, name: str) -> str:
        # As os.path.join does it, which costs more than all else that is done with a path.
        return f"{self.root}/{name}" if self.root[-1:] not in ("", "/") else self.root + name

    @property
    def format(self) -> str:
        """Version of this layout and id of this registry; its presence says that the root is complete."""
        return self._at("format")

    @property
    def lock(self) -> str:
        """Flocked by the one running server."""
        return self._at("lock")

    @property
    def write_lock(self) -> str:
        """Flocked around every write transaction and checkpoint of the database."""
        return self._at("registry.lock")

    @property
    def write_queue(self) -> str:
        """Flocked by the one who is next to have that lock."""
        return self._at("registry.lock.queue")

    @property
    def collection_lock(self) -> str:
        """Flocked by whoever collects garbage."""
        return self._at("gc.lock")

    @property
    def scrub_lock(self) -> str:
        """Flocked by whoever scrubs."""
        return self._at("scrub.lock")

    @property
    def database(self) -> str:
        """What is known."""
        return self._at("registry.db")

    @property
    def journal(self) -> str:
        """Directory of the journal that the database can be rebuilt from."""
        return self._at("journal")

    @property
    def keys(self) -> str:
        """Directory of the signing keys."""
        return self._at("keys")

    @property
    def uploads(self) -> str:
        """Directory of uploads, beside the blobs; names with a leading dot are passing files."""
        return self._at("uploads")

    @property
    def blobs(self) -> str:
        """Directory of all content, in shards."""
        return self._at("blobs")

    @property
    def trash(self) -> str:
        """Directory of content that garbage collection took and may give back."""
        return self._at("trash")

    @property
    def quarantine(self) -> str:
        """Directory of content that no longer matches its digest."""
        return self._at("quarantine")

    @property
    def ballast(self) -> str:
        """Reserved space, given up when the disk is full."""
        return self._at("ballast")

    @property
    def restoring(self) -> str:
        """Tells what a root that is not complete yet is being restored from."""
        return self._at("restoring")

    @property
    def admin_password(self) -> str:
        """The first password of the user admin."""
        return self._at("admin-password")

    @property
    def audit_log(self) -> str:
        """Who did what."""
        return self._at("audit.log")

    def shard_dir(self, digest: Digest) -> str:
        """Return the directory that a blob's entry lies in.

        Raises:
            DigestInvalid: nothing is stored under this algorithm.
        """
        if not digest.supported:
            raise DigestInvalid("unsupported digest algorithm: use sha256 or sha512", {"digest": str(digest)})
        return f"{self.blobs}/{digest.algorithm}/{digest.encoded[:2]}"

    def blob_path(self, digest: Digest) -> str:
        """Return the path of a blob.

        Raises:
            DigestInvalid: nothing is stored under this algorithm.
        """
        return f"{self.shard_dir(digest)}/{digest.encoded}"

    def upload_path(self, upload_id: str) -> str:
        """Return the path of an upload's bytes.

        Raises:
            BlobUploadUnknown: the text cannot be an id of ours.
        """
        if not is_upload_id(upload_id):
            raise BlobUploadUnknown(upload_id)
        return f"{self.uploads}/{upload_id}"

    def passing_path(self, purpose: str, name: str) -> str:
        """Return a path for a file that lives within one call, on the filesystem of the blobs."""
        return f"{self.uploads}/.{purpose}-{name}"

    def directories(self) -> list[str]:
        """Return every directory of a complete root, parents first.

        The shards exist from the start, so that a new blob needs exactly one directory fsync.
        """
        trees = [os.path.join(self.blobs, algorithm) for algorithm in ALGORITHMS]
        shards = [os.path.join(tree, shard) for tree in trees for shard in _SHARDS]
        plain = [self.journal, self.keys, self.uploads, self.blobs, self.trash, self.quarantine]
        return [self.root, *plain, *trees, *shards]


def is_upload_id(text: str) -> bool:
    """Tell whether ``text`` may name a file under ``uploads/``."""
    return _UPLOAD_ID.fullmatch(text) is not None
