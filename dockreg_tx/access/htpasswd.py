"""Files as ``htpasswd -B`` writes them: one ``user:hash`` a line. Only bcrypt counts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dockreg_tx.access.passwords import ROUNDS_LIMIT, hash_rounds, is_password_hash

_NAME = re.compile(r"[^\s:\x00-\x1f\x7f]{1,255}")
_OTHER_HASHES = (
    ("$apr1$", "MD5"),
    ("$1$", "MD5"),
    ("{SHA}", "SHA-1"),
    ("$5$", "SHA-256 crypt"),
    ("$6$", "SHA-512 crypt"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A user of the file."""

    line_number: int
    name: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line that gives nobody access; the reason never holds what the line holds, ``str`` names its user."""

    line_number: int
    reason: str
    #: Of the user, as far as the line tells one.
    name: str = ""

    def __str__(self) -> str:
        who = f"user {self.name}: " if self.name else ""
        return f"line {self.line_number}: {who}{self.reason}"


def parse_htpasswd(content: bytes) -> tuple[list[Entry], list[RefusedLine]]:
    """Return the users of a file and the lines that are refused; comments and empty lines are neither.

    Of two lines for one user the first counts, as in Apache's server; also when it is a bad one: whoever was
    locked out by a line above does not come in by one below.
    """
    entries: dict[str, Entry] = {}
    refused: list[RefusedLine] = []
    first_lines: dict[str, int] = {}
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not raw.strip() or raw.lstrip().startswith(b"#"):
            continue
        read = _read(number, raw)
        if read.name and first_lines.setdefault(read.name, number) != number:
            read = RefusedLine(number, f"line {first_lines[read.name]} names this user already", read.name)
        if isinstance(read, Entry):
            entries[read.name] = read
        else:
            refused.append(read)
    return list(entries.values()), refused


def _read(number: int, raw: bytes) -> Entry | RefusedLine:
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError:
        return RefusedLine(number, "not UTF-8")
    name, colon, stored = line.strip().partition(":")
    if not colon:
        return RefusedLine(number, "no ':' between user and hash")
    if _NAME.fullmatch(name) is None or not name.isprintable():
        return RefusedLine(number, "a user name has 1 to 255 characters, without blanks")
    if not is_password_hash(stored):
        return RefusedLine(number, _complaint(stored), name)
    return Entry(number, name, stored)


def _complaint(stored: str) -> str:
    for prefix, kind in _OTHER_HASHES:
        if stored.startswith(prefix):
            return f"a {kind} hash: only bcrypt is taken, make one with htpasswd -B"
    if re.match(r"\$2[aby]\$[0-9]{2}\$", stored) and hash_rounds(stored) == 0 and len(stored) == 60:
        return f"a bcrypt hash of a cost outside 4 to {ROUNDS_LIMIT}"
    return "not a bcrypt hash: make one with htpasswd -B"
