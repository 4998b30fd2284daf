-- Credentials that stand for a user without the password. Only a hash is kept: whoever reads this cannot log in.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    -- 'robot': made by an operator, used as a password. 'login': a refresh token, given to a client that logged in.
    kind TEXT NOT NULL CHECK (kind IN ('robot', 'login')),
    -- SHA-256 of the secret, in hexadecimal.
    hash TEXT NOT NULL UNIQUE,
    user_name TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    -- A login with a robot's token ends with that token.
    robot_id TEXT REFERENCES tokens (id) ON DELETE CASCADE,
    -- A JSON array of SPECs that narrow what the user may do; NULL: all that the user may do.
    grants TEXT,
    note TEXT NOT NULL,
    created_at REAL NOT NULL,
    -- NULL: never.
    expires_at REAL,
    -- About when it was last used, NULL: never.
    used_at REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_user ON tokens (user_name, created_at);
CREATE INDEX tokens_by_robot ON tokens (robot_id) WHERE robot_id IS NOT NULL;

-- A new token is in no cache yet, and noting its use changes no right.
CREATE TRIGGER tokens_deleted AFTER DELETE ON tokens BEGIN UPDATE generations SET access = access + 1; END;
CREATE TRIGGER tokens_changed AFTER UPDATE OF kind, hash, user_name, robot_id, grants, expires_at ON tokens
BEGIN UPDATE generations SET access = access + 1; END;

-- Who changes the password ends all logins with the old one; robots have secrets of their own.
CREATE TRIGGER users_password_changed AFTER UPDATE OF password_hash ON users
BEGIN DELETE FROM tokens WHERE user_name = new.name AND kind = 'login' AND robot_id IS NULL; END;
