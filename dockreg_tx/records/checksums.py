"""Checksums of single rows: what SQLite's own checks cannot see is a changed bit inside a value.

CRC-32 finds every change of up to 32 neighbouring bits. It is against decay, not against people: who can
write the database can write checksums too.
"""

from __future__ import annotations

import json
import sqlite3
import zlib

from dockreg_tx.oci.digests import Digest

#: Arguments of ``row_checksum`` for each table; an INSERT names parameters instead, in the same order.
TAG = "repository_id, name, manifest_id, updated_at"
MANIFEST = (
    "repository_id, digest, media_type, size_bytes, artifact_type, annotations, subject, pushed_at, pushed_by"
)
USER = "name, password_hash, is_admin, is_disabled, created_at"
# Made once: json.dumps makes one for every call with settings of its own.
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)


def row_checksum(*values: object) -> int:
    """Return the checksum of a row's values: CRC-32 of their JSON array, in ASCII and without spaces."""
    return zlib.crc32(_ENCODER.encode(values).encode("ascii"))


def is_content(digest: str, content: bytes) -> bool:
    """Tell whether a digest is that of some bytes."""
    return str(Digest.of(content, digest.partition(":")[0])) == digest


def offer(connection: sqlite3.Connection) -> None:
    """Let statements of a connection call ``row_checksum`` and ``is_content``."""
    connection.create_function("row_checksum", -1, row_checksum, deterministic=True)
    connection.create_function("is_content", 2, is_content, deterministic=True)
