"""Every SQL statement of the hot paths, by name. Parameters are named; listings compare by bytes."""

from __future__ import annotations


def is_digest(column: str) -> str:
    """Return the condition that a column of ours holds a digest that content can have: a row may decay."""
    return f"""(
    {column} GLOB 'sha256:*' AND length({column}) = 71 AND substr({column}, 8) NOT GLOB '*[^0-9a-f]*'
    OR {column} GLOB 'sha512:*' AND length({column}) = 135 AND substr({column}, 8) NOT GLOB '*[^0-9a-f]*'
)"""


# --- looking up -------------------------------------------------------------------------------------------

BLOB = """
SELECT blobs.size_bytes, blobs.touched_at
FROM repositories
JOIN repository_blobs ON repository_blobs.repository_id = repositories.id
JOIN blobs ON blobs.digest = repository_blobs.digest
WHERE repositories.name = :repository AND repository_blobs.digest = :digest AND blobs.state = 'live'
"""

MANIFEST_BY_DIGEST = """
SELECT manifests.digest, manifests.media_type, manifests.size_bytes, manifests.content
FROM repositories
JOIN manifests ON manifests.repository_id = repositories.id
WHERE repositories.name = :repository AND manifests.digest = :digest
"""

MANIFEST_BY_TAG = """
SELECT manifests.digest, manifests.media_type, manifests.size_bytes, manifests.content
FROM repositories
JOIN tags ON tags.repository_id = repositories.id
JOIN manifests ON manifests.id = tags.manifest_id
WHERE repositories.name = :repository AND tags.name = :tag
"""

REPOSITORY_ID = "SELECT id FROM repositories WHERE name = :repository"

TAGS = """
SELECT tags.name
FROM repositories
JOIN tags ON tags.repository_id = repositories.id
WHERE repositories.name = :repository AND tags.name > :after
ORDER BY tags.name
LIMIT :limit
"""

REPOSITORIES = "SELECT name FROM repositories WHERE name > :after ORDER BY name LIMIT :limit"

REFERRERS = """
SELECT manifests.digest, manifests.media_type, manifests.size_bytes, manifests.artifact_type,
    manifests.annotations
FROM repositories
JOIN manifests ON manifests.repository_id = repositories.id
WHERE repositories.name = :repository AND manifests.subject = :subject AND manifests.digest > :after
    AND (:artifact_types IS NULL OR manifests.artifact_type IN (SELECT value FROM json_each(:artifact_types)))
ORDER BY manifests.digest
LIMIT :limit
"""

REPOSITORIES_WITH_BLOB = """
SELECT repositories.name
FROM repository_blobs
JOIN blobs ON blobs.digest = repository_blobs.digest
JOIN repositories ON repositories.id = repository_blobs.repository_id
WHERE repository_blobs.digest = :digest AND blobs.state = 'live' AND repositories.name > :after
ORDER BY repositories.name
LIMIT :limit
"""

# A session that has ended keeps its row for a while, as this: its id alone could open it again.
_ENDED = "ended"
_UPLOAD_COLUMNS = "id, repository, owner, offset_bytes, started_at, touched_at, algorithm"
UPLOAD = f"SELECT {_UPLOAD_COLUMNS} FROM uploads WHERE id = :id"  # noqa: S608 - joins constants only
EXPIRED_UPLOADS = f"""
SELECT {_UPLOAD_COLUMNS} FROM uploads
WHERE touched_at < :touched_before AND algorithm <> '{_ENDED}' ORDER BY touched_at, id LIMIT :limit
"""  # noqa: S608 - joins constants only

# One statement, so that user and grants come from one snapshot.
_ACCOUNTS = """
SELECT users.name, users.password_hash, users.is_admin, users.is_disabled, users.created_at, grants.spec
FROM users
LEFT JOIN grants ON grants.user_name = users.name
"""
ACCOUNT = f"{_ACCOUNTS} WHERE users.name = :name ORDER BY grants.spec"
ACCOUNTS = f"{_ACCOUNTS} ORDER BY users.name, grants.spec"

ACCESS_GENERATION = "SELECT access FROM generations"
DATA_VERSION = "PRAGMA data_version"

# --- pushing ----------------------------------------------------------------------------------------------

ADD_REPOSITORY = """
INSERT INTO repositories (name, created_at) VALUES (:repository, :now) ON CONFLICT (name) DO NOTHING
"""

PUT_BLOB = """
INSERT INTO blobs (digest, size_bytes, state, touched_at) VALUES (:digest, :size_bytes, 'live', :now)
ON CONFLICT (digest) DO UPDATE SET
    size_bytes = excluded.size_bytes, state = 'live', touched_at = max(touched_at, excluded.touched_at)
"""

TOUCH_BLOB = "UPDATE blobs SET touched_at = max(touched_at, :now) WHERE digest = :digest"

LINK_BLOB = """
INSERT INTO repository_blobs (repository_id, digest, linked_at) VALUES (:repository_id, :digest, :now)
ON CONFLICT DO NOTHING
"""

PUT_MANIFEST = """
INSERT INTO manifests (
    repository_id, digest, media_type, size_bytes, content, artifact_type, annotations, subject,
    pushed_at, pushed_by, checksum
) VALUES (
    :repository_id, :digest, :media_type, :size_bytes, :content, :artifact_type, :annotations, :subject,
    :now, :by,
    row_checksum(
        :repository_id, :digest, :media_type, :size_bytes, :artifact_type, :annotations, :subject,
        CAST(:now AS REAL), :by
    )
)
ON CONFLICT (repository_id, digest) DO UPDATE SET
    media_type = excluded.media_type, content = excluded.content, artifact_type = excluded.artifact_type,
    annotations = excluded.annotations, subject = excluded.subject, pushed_at = excluded.pushed_at,
    pushed_by = excluded.pushed_by, checksum = excluded.checksum
RETURNING id
"""

REMOVE_REFERENCES = "DELETE FROM manifest_references WHERE manifest_id = :manifest_id"

ADD_REFERENCE = """
INSERT INTO manifest_references (manifest_id, kind, digest, size_bytes)
VALUES (:manifest_id, :kind, :digest, :size_bytes)
ON CONFLICT DO NOTHING
"""

TAG_TARGET = """
SELECT manifests.digest
FROM tags
JOIN manifests ON manifests.id = tags.manifest_id
WHERE tags.repository_id = :repository_id AND tags.name = :tag
"""

PUT_TAG = """
INSERT INTO tags (repository_id, name, manifest_id, updated_at, checksum)
VALUES (
    :repository_id, :tag, :manifest_id, :now,
    row_checksum(:repository_id, :tag, :manifest_id, CAST(:now AS REAL))
)
ON CONFLICT (repository_id, name) DO UPDATE SET
    manifest_id = excluded.manifest_id, updated_at = excluded.updated_at, checksum = excluded.checksum
"""

ADD_TAG_HISTORY = """
INSERT INTO tag_history (repository_id, name, digest, changed_at, changed_by)
VALUES (:repository_id, :tag, :digest, :now, :by)
"""

# --- removing ---------------------------------------------------------------------------------------------

REMOVE_TAG = "DELETE FROM tags WHERE repository_id = :repository_id AND name = :tag"
MANIFEST_ID = "SELECT id FROM manifests WHERE repository_id = :repository_id AND digest = :digest"
REMOVE_TAGS_OF = "DELETE FROM tags WHERE manifest_id = :manifest_id RETURNING name"
REMOVE_TAGS_IN = "DELETE FROM tags WHERE repository_id = :repository_id"
REMOVE_MANIFEST = "DELETE FROM manifests WHERE id = :manifest_id"
UNLINK_BLOB = "DELETE FROM repository_blobs WHERE repository_id = :repository_id AND digest = :digest"
REMOVE_REPOSITORY = "DELETE FROM repositories WHERE id = :repository_id"
REMOVE_UPLOADS_IN = "DELETE FROM uploads WHERE repository = :repository"

# --- upload sessions --------------------------------------------------------------------------------------

ADD_UPLOAD = """
INSERT INTO uploads (id, repository, owner, offset_bytes, started_at, touched_at, algorithm)
VALUES (:id, :repository, :owner, :offset_bytes, :started_at, :touched_at, :algorithm)
ON CONFLICT DO NOTHING
"""
SET_UPLOAD_OFFSET = f"""
UPDATE uploads SET offset_bytes = :offset_bytes, touched_at = :now WHERE id = :id AND algorithm <> '{_ENDED}'
"""  # noqa: S608 - joins constants only
UPLOAD_IS_OPEN = f"SELECT 1 FROM uploads WHERE id = :id AND algorithm <> '{_ENDED}'"  # noqa: S608 - as above
END_UPLOAD = f"""
INSERT INTO uploads (id, repository, owner, offset_bytes, started_at, touched_at, algorithm)
VALUES (:id, '', '', 0, :now, :now, '{_ENDED}')
ON CONFLICT (id) DO UPDATE SET
    repository = '', owner = '', offset_bytes = 0, touched_at = excluded.touched_at, algorithm = '{_ENDED}'
"""  # noqa: S608 - as above
FORGET_ENDED_UPLOADS = f"""
DELETE FROM uploads WHERE id IN (
    SELECT id FROM uploads WHERE touched_at < :ended_before AND algorithm = '{_ENDED}' LIMIT :limit
)
"""  # noqa: S608 - as above

# --- users and grants -------------------------------------------------------------------------------------

ADD_USER = """
INSERT INTO users (name, password_hash, is_admin, is_disabled, created_at, changed_at, checksum)
VALUES (
    :name, :password_hash, :is_admin, :is_disabled, :created_at, :created_at,
    row_checksum(:name, :password_hash, :is_admin + 0, :is_disabled + 0, CAST(:created_at AS REAL))
)
ON CONFLICT DO NOTHING
"""
SET_PASSWORD_HASH = """
UPDATE users SET
    password_hash = :password_hash, changed_at = :now,
    checksum = row_checksum(name, :password_hash, is_admin, is_disabled, created_at)
WHERE name = :name
"""  # noqa: S105 - SQL
SET_DISABLED = """
UPDATE users SET
    is_disabled = :is_disabled, changed_at = :now,
    checksum = row_checksum(name, password_hash, is_admin, :is_disabled + 0, created_at)
WHERE name = :name
"""
REMOVE_USER = "DELETE FROM users WHERE name = :name"
USER_EXISTS = "SELECT 1 FROM users WHERE name = :name"
ADD_GRANT = (
    "INSERT INTO grants (user_name, spec, granted_at) VALUES (:name, :spec, :now) ON CONFLICT DO NOTHING"
)
REMOVE_GRANT = "DELETE FROM grants WHERE user_name = :name AND spec = :spec"

# --- tokens -----------------------------------------------------------------------------------------------

_TOKEN_COLUMNS = "id, kind, hash, user_name, created_at, robot_id, grants, note, expires_at, used_at"  # noqa: S105 - SQL
ADD_TOKEN = """
INSERT INTO tokens (id, kind, hash, user_name, created_at, robot_id, grants, note, expires_at, used_at)
SELECT :id, :kind, :hash, :user, :created_at, :robot_id, :grants, :note, :expires_at, NULL
WHERE EXISTS (SELECT 1 FROM users WHERE name = :user)
    AND (:robot_id IS NULL OR EXISTS (SELECT 1 FROM tokens WHERE id = :robot_id))
ON CONFLICT DO NOTHING
"""  # noqa: S105 - SQL
REMOVE_STALE_TOKENS = """
DELETE FROM tokens
WHERE user_name = :user AND (
    expires_at <= :now
    OR id IN (
        SELECT id FROM tokens WHERE user_name = :user AND kind = 'login'
        ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET :kept
    )
)
"""
TOKEN = f"SELECT {_TOKEN_COLUMNS} FROM tokens WHERE hash = :hash"  # noqa: S608 - joins constants only
TOKEN_BY_ID = f"SELECT {_TOKEN_COLUMNS} FROM tokens WHERE id = :id"  # noqa: S608 - joins constants only
TOKENS = f"SELECT {_TOKEN_COLUMNS} FROM tokens ORDER BY user_name, created_at, id"  # noqa: S608 - as above
NOTE_TOKEN_USE = "UPDATE tokens SET used_at = :now WHERE id = :id"  # noqa: S105 - SQL
REMOVE_TOKEN = "DELETE FROM tokens WHERE id = :id"  # noqa: S105 - SQL
