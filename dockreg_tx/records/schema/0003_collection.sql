-- What garbage collection needs: a memory of its runs, and a trash that deleted tags and manifests can come back from.

-- One row.
CREATE TABLE collections (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- When the last run began.
    noted_at REAL NOT NULL
) STRICT;

-- Deleted tags and manifests. The repository is a name: it may be removed, and made again.
CREATE TABLE trash (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('tag', 'manifest')),
    repository TEXT NOT NULL,
    -- Of the manifest, or where the tag pointed.
    digest TEXT NOT NULL,
    -- A JSON array: the tag, or the tags that went with the manifest.
    tags TEXT NOT NULL,
    -- As in manifests; NULL for a tag.
    media_type TEXT,
    size_bytes INTEGER,
    content BLOB,
    artifact_type TEXT,
    annotations TEXT,
    subject TEXT,
    pushed_at REAL,
    pushed_by TEXT,
    deleted_at REAL NOT NULL,
    deleted_by TEXT NOT NULL
) STRICT;
CREATE INDEX trash_by_digest ON trash (digest, deleted_at);
CREATE INDEX trash_by_age ON trash (deleted_at);

-- What a deleted manifest named: kept from garbage collection as long as it can come back.
CREATE TABLE trash_references (
    trash_id INTEGER NOT NULL REFERENCES trash (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (trash_id, kind, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX trash_references_by_digest ON trash_references (digest);

-- Tells since when a manifest has had no tag.
CREATE INDEX tag_history_by_digest ON tag_history (repository_id, digest) WHERE digest IS NOT NULL;
