"""Tests of ``dockreg_tx.oci.digests``."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.digests import Digest, parse_reference
from dockreg_tx.oci.errors import DigestInvalid, TagInvalid
from dockreg_tx.oci.names import Tag

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class DigestTests(SynchronousTestCase):
    """``Digest``."""

    @settings(derandomize=True, max_examples=50, deadline=None)
    @given(st.binary(max_size=100), st.sampled_from(["sha256", "sha512"]))
    def test_round_trip(self, content: bytes, algorithm: str) -> None:
        """The digest of content reads back equal, and is what the algorithm computes."""
        digest = Digest.of(content, algorithm)
        self.assertEqual(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}", str(digest))
        self.assertEqual(digest, Digest.parse_supported(str(digest)))

    def test_empty(self) -> None:
        """The digest of nothing is the well-known one, under sha256 unless told otherwise."""
        self.assertEqual(EMPTY, str(Digest.of(b"")))

    def test_refused(self) -> None:
        """A digest in any other spelling is refused, so that a path built from it stays in its place."""
        hexadecimal = "a" * 64
        for text in [
            "", ":", "sha256:", "sha256", "sha256:baddigeststring", f"sha256:{hexadecimal}\n",
            f"sha256:{'A' * 64}", f"sha256:{'a' * 63}", f"sha256:{'a' * 65}", f"sha256:{'g' * 64}",
            f"sha256:{'٣' * 64}", f"SHA256:{hexadecimal}", f"sha512:{hexadecimal}", f" sha256:{hexadecimal}",
            f"sha256:{hexadecimal}:", "sha256:../../../etc/passwd", "a..b:c", "+a:b", "a:b c",
            "x:" + "a" * 511,
        ]:  # fmt: skip
            with self.subTest(text=text):
                self.assertRaises(DigestInvalid, Digest.parse, text)

    def test_unsupported(self) -> None:
        """A well-formed digest of another algorithm can be asked for, but not stored under."""
        digest = Digest.parse("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8")
        self.assertFalse(digest.supported)
        self.assertRaises(DigestInvalid, Digest.parse_supported, str(digest))

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(st.text(alphabet="sha256:512+._-=aF\n٣/", max_size=80))
    def test_hostile_text(self, text: str) -> None:
        """Any text is a digest that is written the same way, or refused."""
        try:
            digest = Digest.parse(text)
        except DigestInvalid:
            return
        self.assertEqual(text, str(digest))
        self.assertNotIn("/", text)


class ReferenceTests(SynchronousTestCase):
    """``parse_reference``."""

    def test_kinds(self) -> None:
        """A colon makes a digest, everything else is a tag."""
        self.assertEqual(Digest.parse(EMPTY), parse_reference(EMPTY))
        self.assertEqual(Tag("v1.2"), parse_reference("v1.2"))
        self.assertRaises(DigestInvalid, parse_reference, "v1:2!")
        self.assertRaises(TagInvalid, parse_reference, "v1/2")
