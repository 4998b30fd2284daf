-- How far the journal tells what was committed. What it says beyond was written by a transaction that never was: the
-- next one voids it, so that a rebuilt database equals this one.
CREATE TABLE journal_ends (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- The number of the newest file, and its length; 0: not known yet.
    number INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL
) STRICT;
INSERT INTO journal_ends (id, number, size_bytes) VALUES (1, 0, 0);
