"""Tests of ``dockreg_tx.access.htpasswd``."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.htpasswd import Entry, parse_htpasswd

HASH = "$2y$05$mJnNnSH1sM7SBQHZFLyQ8e5NaCGGV5uSEzduUerOY2O2oo0sadCQ2"


class HtpasswdTests(SynchronousTestCase):
    """Lines that give access, and lines that do not."""

    def test_users(self) -> None:
        """Bcrypt lines are users; comments, empty lines, CRLF and a byte order mark are nothing."""
        content = f"\ufeff# people\r\n\r\nalice:{HASH}\r\n  # more\nbjörn:{HASH}".encode()
        self.assertEqual(([Entry(3, "alice", HASH), Entry(5, "björn", HASH)], []), parse_htpasswd(content))

    def test_refused_lines(self) -> None:
        """Every other line is named by number and reason, without what it holds."""
        for line, reason in [
            ("a:$apr1$x$secret", "user a: a MD5 hash: only bcrypt is taken, make one with htpasswd -B"),
            ("a:{SHA}secret=", "user a: a SHA-1 hash: only bcrypt is taken, make one with htpasswd -B"),
            (
                "a:$6$x$secret",
                "user a: a SHA-512 crypt hash: only bcrypt is taken, make one with htpasswd -B",
            ),
            ("a:secret", "user a: not a bcrypt hash: make one with htpasswd -B"),
            ("a:", "user a: not a bcrypt hash: make one with htpasswd -B"),
            (f"a:{HASH.replace('$05$', '$31$')}", "user a: a bcrypt hash of a cost outside 4 to 14"),
            ("secret", "no ':' between user and hash"),
            (f":{HASH}", "a user name has 1 to 255 characters, without blanks"),
            (f"a b:{HASH}", "a user name has 1 to 255 characters, without blanks"),
        ]:
            entries, refused = parse_htpasswd(f"ok:{HASH}\n{line}\n".encode())
            self.assertEqual(["ok"], [entry.name for entry in entries])
            self.assertEqual([f"line 2: {reason}"], list(map(str, refused)))
        self.assertEqual("line 1: not UTF-8", str(parse_htpasswd(b"\xff:x")[1][0]))

    def test_twice(self) -> None:
        """The first line of a user counts."""
        other = HASH[:-1] + "3"
        entries, refused = parse_htpasswd(f"a:{HASH}\na:{other}\n".encode())
        self.assertEqual([Entry(1, "a", HASH)], entries)
        self.assertEqual(["line 2: user a: line 1 names this user already"], list(map(str, refused)))

    def test_bad_line_first(self) -> None:
        """A bad line disables its user, whatever stands below."""
        entries, refused = parse_htpasswd(f"a:!locked\na:{HASH}\nb:{HASH}\n".encode())
        self.assertEqual([Entry(3, "b", HASH)], entries)
        self.assertEqual([1, 2], [line.line_number for line in refused])

    def test_reason(self) -> None:
        """A reason alone holds nothing of its line, not even the name."""
        _, refused = parse_htpasswd(f"hunter2:alice\nhunter2:{HASH}\nhunter2\n".encode())
        self.assertEqual(3, len(refused))
        self.assertNotIn("hunter2", " ".join(line.reason for line in refused))

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.binary(max_size=300))
    def test_anything(self, content: bytes) -> None:
        """No content breaks the parser, and only hashes come out."""
        entries, refused = parse_htpasswd(content)
        self.assertEqual([], entries)
        self.assertEqual(sorted(line.line_number for line in refused), [line.line_number for line in refused])
