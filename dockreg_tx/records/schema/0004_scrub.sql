-- What the background scrub has got to, so that a restart goes on where it was.

-- One row.
CREATE TABLE scrub (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- When the pass began, in seconds since the epoch.
    began_at REAL NOT NULL,
    -- When it ended; NULL while it goes on.
    ended_at REAL,
    -- The last digest that it has checked, '' at its start.
    cursor TEXT NOT NULL,
    -- How much it has checked, and how much of that was damaged.
    checked INTEGER NOT NULL,
    damaged INTEGER NOT NULL
) STRICT;

-- The time when it was last asked for, so that a clock that jumps makes nothing old or expired.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seen_at REAL NOT NULL,
    -- Until then nothing is removed for its age.
    held_until REAL NOT NULL
) STRICT;

-- Checksums of rows (see docs/storage-layout.md), computed by whoever writes the row.
ALTER TABLE tags ADD COLUMN checksum INTEGER;
ALTER TABLE manifests ADD COLUMN checksum INTEGER;
ALTER TABLE users ADD COLUMN checksum INTEGER;
UPDATE tags SET checksum = row_checksum(repository_id, name, manifest_id, updated_at);
UPDATE manifests SET checksum = row_checksum(
    repository_id, digest, media_type, size_bytes, artifact_type, annotations, subject, pushed_at, pushed_by
);
UPDATE users SET checksum = row_checksum(name, password_hash, is_admin, is_disabled, created_at);
