-- What a registry knows. Times are seconds since the epoch; digests are texts such as 'sha256:<hex>'; texts compare by
-- their bytes (BINARY, the default), which is the order of every listing.

-- A repository exists from its first blob or manifest until it is removed.
CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL
) STRICT;

-- Content that has bytes under blobs/, the bytes of manifests included. A row says nothing about who may read it.
CREATE TABLE blobs (
    digest TEXT NOT NULL PRIMARY KEY,
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    -- 'live'; 'quarantined' when its bytes were found damaged: then it counts as missing until pushed again.
    state TEXT NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'quarantined')),
    -- When a push last relied on it; garbage collection leaves it alone for its grace period from then.
    touched_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_by_touch ON blobs (touched_at);

-- Which blobs a repository may hand out: the only thing that decides access to a blob.
CREATE TABLE repository_blobs (
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    linked_at REAL NOT NULL,
    PRIMARY KEY (repository_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blobs_by_digest ON repository_blobs (digest, repository_id);

-- Manifests and indexes of a repository. With a rowid, since the content may be long.
CREATE TABLE manifests (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    -- What it was last pushed as, and is served as.
    media_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    -- The bytes, verbatim; NULL when longer than 64 KiB (then only the blob has them).
    content BLOB,
    -- For referrers: artifactType, else the config's media type, else ''.
    artifact_type TEXT NOT NULL,
    -- A JSON object of texts.
    annotations TEXT NOT NULL,
    -- The digest this manifest refers to, if any; it need not exist.
    subject TEXT,
    pushed_at REAL NOT NULL,
    -- The user, '' for anonymous; a name, not a reference: it outlives the account.
    pushed_by TEXT NOT NULL,
    UNIQUE (repository_id, digest)
) STRICT;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repository_id, subject, digest) WHERE subject IS NOT NULL;

-- What a manifest names; the content need not be in the repository where a push was allowed without it.
CREATE TABLE manifest_references (
    manifest_id INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('config', 'layer', 'child', 'subject')),
    digest TEXT NOT NULL,
    -- As the descriptor says.
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (manifest_id, kind, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_references_by_digest ON manifest_references (digest, kind, manifest_id);

-- A tag always points at a manifest of its own repository.
CREATE TABLE tags (
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    manifest_id INTEGER NOT NULL REFERENCES manifests (id),
    -- When it last moved.
    updated_at REAL NOT NULL,
    PRIMARY KEY (repository_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_manifest ON tags (manifest_id);

-- Every move of a tag, oldest first by id.
CREATE TABLE tag_history (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- Where it pointed from then on; NULL: it was removed.
    digest TEXT,
    changed_at REAL NOT NULL,
    changed_by TEXT NOT NULL
) STRICT;
CREATE INDEX tag_history_by_tag ON tag_history (repository_id, name, id);

-- Upload sessions. The repository is a name: it need not exist before its first upload ends.
CREATE TABLE uploads (
    id TEXT NOT NULL PRIMARY KEY,
    repository TEXT NOT NULL,
    -- The user who opened it, '' for anonymous; nobody else may touch it.
    owner TEXT NOT NULL,
    -- How many bytes are on disk for certain.
    offset_bytes INTEGER NOT NULL CHECK (offset_bytes >= 0),
    started_at REAL NOT NULL,
    touched_at REAL NOT NULL,
    -- Digest algorithm that the client announced, '' when it did not.
    algorithm TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_by_touch ON uploads (touched_at, id);
CREATE INDEX uploads_by_repository ON uploads (repository);

CREATE TABLE users (
    name TEXT NOT NULL PRIMARY KEY,
    -- bcrypt, as it stands in an htpasswd file.
    password_hash TEXT NOT NULL,
    is_admin INTEGER NOT NULL CHECK (is_admin IN (0, 1)),
    is_disabled INTEGER NOT NULL CHECK (is_disabled IN (0, 1)),
    created_at REAL NOT NULL,
    changed_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    user_name TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    -- A SPEC such as 'pull,push:team-a/**'.
    spec TEXT NOT NULL,
    granted_at REAL NOT NULL,
    PRIMARY KEY (user_name, spec)
) STRICT, WITHOUT ROWID;

-- One row of counters that key the caches of every process; only triggers change it, in the changing transaction.
CREATE TABLE generations (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Grows with every change of users and grants.
    access INTEGER NOT NULL
) STRICT;
INSERT INTO generations (id, access) VALUES (1, 1);

CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN UPDATE generations SET access = access + 1; END;
CREATE TRIGGER users_updated AFTER UPDATE ON users BEGIN UPDATE generations SET access = access + 1; END;
CREATE TRIGGER users_deleted AFTER DELETE ON users BEGIN UPDATE generations SET access = access + 1; END;
CREATE TRIGGER grants_inserted AFTER INSERT ON grants BEGIN UPDATE generations SET access = access + 1; END;
CREATE TRIGGER grants_updated AFTER UPDATE ON grants BEGIN UPDATE generations SET access = access + 1; END;
CREATE TRIGGER grants_deleted AFTER DELETE ON grants BEGIN UPDATE generations SET access = access + 1; END;
