"""Password hashes: bcrypt, as htpasswd writes it. What hashes blocks for about 0.25 s, without the GIL."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import bcrypt

#: OWASP's minimum is 10; each step doubles the time.
DEFAULT_ROUNDS = 12
#: A costlier hash, about 1 s a check, would let its owner slow down everyone's logins.
ROUNDS_LIMIT = 14
#: bcrypt reads no further; cutting silently let other passwords in elsewhere (CVE-2024-9683).
PASSWORD_LIMIT_BYTES = 72

#: Verified in place of the hash of a user who does not exist, so that the answer takes as long.
DUMMY_HASH = "$2b$12$mJnNnSH1sM7SBQHZFLyQ8e5NaCGGV5uSEzduUerOY2O2oo0sadCQ2"

_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")


class PasswordInvalid(ValueError):
    """A password that cannot be set; the message is one line that says why."""


def hash_password(password: str, rounds: int = DEFAULT_ROUNDS) -> str:
    """Return the bcrypt hash of a password. Blocks.

    Args:
        password: 1 to 72 bytes of UTF-8, without NUL.
        rounds: bcrypt's cost, 4 to 14.

    Raises:
        PasswordInvalid: the password is empty, too long, or holds what bcrypt cannot read.
        ValueError: ``rounds`` is outside its bounds.
    """
    if rounds > ROUNDS_LIMIT:
        raise ValueError(f"bcrypt's cost is at most {ROUNDS_LIMIT}")
    return bcrypt.hashpw(_encode(password), bcrypt.gensalt(rounds)).decode("ascii")


def verify_password(password: str, password_hash: str) -> bool:
    """Tell whether the password belongs to the hash; False too for either that bcrypt cannot read. Blocks."""
    if not is_password_hash(password_hash):
        return False
    try:
        return bcrypt.checkpw(_encode(password), password_hash.encode("ascii"))
    except ValueError:
        return False


def is_password_hash(text: str) -> bool:
    """Tell whether ``text`` is a bcrypt hash that we verify: ``$2a$``, ``$2b$`` or ``$2y$``, cost 4 to 14."""
    match = _HASH.fullmatch(text)
    return match is not None and 4 <= int(match[1]) <= ROUNDS_LIMIT


def hash_rounds(password_hash: str) -> int:
    """Return the cost of a hash, 0 for a text that is none."""
    return int(password_hash[4:6]) if is_password_hash(password_hash) else 0


def with_rounds(password_hash: str, rounds: int) -> str:
    """Return a hash of another cost, which no password is known for."""
    return f"{password_hash[:4]}{rounds:02d}{password_hash[6:]}"


def generate_password(random_bytes: Callable[[int], bytes]) -> str:
    """Return a random password of 24 letters and digits (120 bits), easy to copy.

    Args:
        random_bytes: returns that many unguessable bytes.
    """
    return base64.b32encode(random_bytes(15)).decode("ascii").lower()


def _encode(password: str) -> bytes:
    try:
        encoded = password.encode("utf-8")
    except UnicodeEncodeError:
        # Not chained: that error carries the password.
        raise PasswordInvalid("the password is not valid Unicode") from None
    if not encoded:
        raise PasswordInvalid("the password is empty")
    if len(encoded) > PASSWORD_LIMIT_BYTES:
        raise PasswordInvalid(
            f"the password has {len(encoded)} bytes in UTF-8: bcrypt takes at most {PASSWORD_LIMIT_BYTES}"
        )
    if 0 in encoded:
        raise PasswordInvalid("the password holds a NUL character")
    return encoded
