"""What the disk holds, asked digest by digest, while nobody else works on the root."""

from __future__ import annotations

import os

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.digests import Digest


class StoredContents:
    """The blobs of a root, as a rebuild of the index asks for them. It blocks, and raises ``OSError``."""

    def __init__(self, layout: RootLayout) -> None:
        self._layout = layout

    def size_of(self, digest: Digest) -> int | None:
        """Return the length of a blob, None when there is none."""
        try:
            return os.stat(self._layout.blob_path(digest)).st_size
        except FileNotFoundError:
            return None

    def read(self, digest: Digest) -> bytes | None:
        """Return the bytes of a blob, None when there are none or they do not match the digest."""
        try:
            with open(self._layout.blob_path(digest), "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return None
        return content if Digest.of(content, digest.algorithm) == digest else None
