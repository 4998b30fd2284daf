"""What the disk holds, asked digest by digest, while nobody else works on the root."""

from __future__ import annotations

import errno
import os
import stat

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.digests import Digest

#: One blob is missing or cannot be read, and another may be: the rest of a root must not be lost for it.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO, errno.EUCLEAN})


class StoredContents:
    """The blobs of a root, as a rebuild of the index asks for them. It blocks, and raises ``OSError``."""

    def __init__(self, layout: RootLayout) -> None:
        self._layout = layout

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of a blob, None when there is none."""
        try:
            status = os.stat(self._layout.blob_path(digest))
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def read(self, digest: Digest) -> bytes | None:
        """Return the bytes of a blob, None when there are none or they do not match the digest."""
        try:
            with open(self._layout.blob_path(digest), "rb") as file:
                content = file.read()
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise
        return content if Digest.of(content, digest.algorithm) == digest else None
