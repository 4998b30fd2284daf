"""What must be the same in two databases that are to be equal."""

from __future__ import annotations

import sqlite3

Dump = list[list[tuple[object, ...]]]
#: Everything that a rebuild must bring back as it was.
DUMPS = (
    "SELECT name FROM repositories",
    "SELECT repositories.name, digest FROM repository_blobs JOIN repositories ON id = repository_id",
    (
        "SELECT repositories.name, digest, media_type, size_bytes, content, artifact_type, annotations,"
        " subject, pushed_at, pushed_by FROM manifests JOIN repositories ON repositories.id = repository_id"
    ),
    (
        "SELECT repositories.name, manifests.digest, kind, manifest_references.digest,"
        " manifest_references.size_bytes FROM manifest_references"
        " JOIN manifests ON manifests.id = manifest_id JOIN repositories ON repositories.id = repository_id"
    ),
    (
        "SELECT repositories.name, tags.name, digest FROM tags"
        " JOIN repositories ON repositories.id = tags.repository_id"
        " JOIN manifests ON manifests.id = manifest_id"
    ),
    (
        "SELECT repositories.name, tag_history.name, digest, changed_at, changed_by FROM tag_history"
        " JOIN repositories ON repositories.id = repository_id"
    ),
    "SELECT kind, repository, digest, tags, content, deleted_at, deleted_by FROM trash",
    "SELECT name, password_hash, is_admin, is_disabled, created_at FROM users",
    "SELECT user_name, spec FROM grants",
    "SELECT id, hash, user_name, grants, note, expires_at FROM tokens WHERE kind = 'robot'",
)


def dump(path: str) -> Dump:
    """Return what a database holds, in an order of its own."""
    connection = sqlite3.connect(path)
    try:
        return [sorted(connection.execute(query).fetchall(), key=repr) for query in DUMPS]
    finally:
        connection.close()
