"""Tests of ``dockreg_tx.access.basic``."""

from __future__ import annotations

import base64

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.basic import parse_basic
from dockreg_tx.oci.errors import Unauthorized

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), max_size=12)


def header(credentials: bytes, scheme: str = "Basic") -> str:
    """Return an Authorization header."""
    return f"{scheme} {base64.b64encode(credentials).decode()}"


class ParseBasicTests(SynchronousTestCase):
    """``parse_basic``."""

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(TEXT.map(lambda text: text.replace(":", "")), TEXT)
    def test_round_trip(self, name: str, password: str) -> None:
        """Any name without a colon and any password come through, as text or bytes."""
        written = header(f"{name}:{password}".encode())
        self.assertEqual((name, password), parse_basic(written))
        self.assertEqual((name, password), parse_basic(written.encode()))

    def test_empty(self) -> None:
        """Empty credentials are credentials: some clients mean anonymous by them."""
        self.assertEqual(("", ""), parse_basic("Basic Og=="))

    def test_colons(self) -> None:
        """The name ends at the first colon."""
        self.assertEqual(("a", "b:c:"), parse_basic(header(b"a:b:c:")))

    def test_spelling(self) -> None:
        """The scheme is of any letter case, with any spaces around the credentials."""
        for scheme in ("basic", "BASIC", " Basic", "Basic  \t"):
            self.assertEqual(("a", "b"), parse_basic(header(b"a:b", scheme) + " "))

    def test_other_schemes(self) -> None:
        """Another scheme is for someone else."""
        for text in ("", "Bearer Og==", "Basics Og==", "Og==", "Digest username=a", b"\xff"):
            self.assertIsNone(parse_basic(text))

    def test_malformed(self) -> None:
        """Broken credentials are wrong credentials, and the error does not show them."""
        for text in [
            "Basic", "Basic ", "Basic Og", "Basic O", "Basic !!!!", "Basic Og== Og==", "Basic O\ng==",
            "Basic \u00e9", b"Basic \xff\xfe", "Basic \ud800", header(b""), header(b"secret"),
            header(b"\xff:secret"), header(b"a:secret\0"), header(b"a\n:secret"), header(b"a:secret\x7f"),
            header(b"\xed\xa0\x80:secret"),
        ]:  # fmt: skip
            with self.subTest(text=text):
                error = self.assertRaises(Unauthorized, parse_basic, text)
                self.assertEqual("malformed Basic credentials", error.message)
                self.assertIsNone(error.__cause__)
                self.assertTrue(error.__suppress_context__ or error.__context__ is None)
