"""Tests of ``dockreg_tx.oci.documents``."""

from __future__ import annotations

import contextlib
import json
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.documents import DEPTH_LIMIT, parse_document
from dockreg_tx.oci.errors import ManifestInvalid

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\[]{}\n\u20ac', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('k"\\[{', max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)


def depth(value: object) -> int:
    """Return how deeply a JSON value nests."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


class ParseDocumentTests(SynchronousTestCase):
    """``parse_document``."""

    def refused(self, content: bytes) -> str:
        """Return the message of a refusal."""
        error: ManifestInvalid = self.assertRaises(ManifestInvalid, parse_document, content)
        return error.message

    @settings(derandomize=True, max_examples=150, deadline=None)
    @given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
    def test_as_the_json_reader(self, document: dict[str, object]) -> None:
        """A proper object reads as it does everywhere else."""
        for ascii_only in (True, False):
            content = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
            try:
                content.decode("utf-8")
            except UnicodeDecodeError:
                continue
            self.assertEqual(document, parse_document(content))

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b":", b",", b"1", b'"a"']), max_size=20
        )
    )
    def test_hostile_bytes(self, pieces: list[bytes]) -> None:
        """Any bytes are an object or refused, and never anything else."""
        with contextlib.suppress(ManifestInvalid):
            self.assertIsInstance(parse_document(b"".join(pieces)), dict)

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(st.lists(st.sampled_from(["list", "object"]), min_size=25, max_size=45), st.booleans())
    def test_depth_is_exact(self, kinds: list[str], noisy: bool) -> None:
        """Thirty-two levels are read and thirty-three are refused, whatever brackets the strings hold."""
        value: object = '"]}\\' if noisy else 0
        for kind in kinds:
            value = [value, []] if kind == "list" else {'[{"': value, "z": "\\\\"}
        document = {"a": value}
        content = json.dumps(document).encode()
        if depth(document) <= DEPTH_LIMIT:
            self.assertEqual(document, parse_document(content))
        else:
            self.assertIn("deeper than 32 levels", self.refused(content))

    def test_deep_nesting_is_cheap(self) -> None:
        """Four megabytes of brackets end in a refusal at once, not in a crash of the recursion."""
        half = 2 * 1024 * 1024
        for content in [
            b"[" * 2 * half, b"[" * half + b"]" * half, b'{"a":' * (half // 3), b"[{" * half, b"]" * 2 * half,
            b'{"a":[' + b"{}," * half + b"{}]}x", b'"' * 2 * half, b"\\" * 2 * half,
        ]:  # fmt: skip
            began = time.process_time()
            self.refused(content)
            # Two; four where coverage is measured on a busy machine. What is quadratic takes hours.
            self.assertLess(time.process_time() - began, 15)

    def test_duplicate_keys(self) -> None:
        """A key that stands twice in one object is refused at any depth, also when escaped differently."""
        for content in [b'{"a":1,"a":1}', b'{"x":[{"y":{"a":1,"b":2,"\\u0061":3}}]}']:
            self.assertEqual("the manifest has the key 'a' twice in one object", self.refused(content))
        self.assertEqual({"a": {"a": 1}}, parse_document(b'{"a":{"a":1}}'))

    def test_constants(self) -> None:
        """NaN and infinities are not JSON."""
        for constant in ("NaN", "Infinity", "-Infinity"):
            self.assertIn(constant, self.refused(b'{"a":' + constant.encode() + b"}"))

    def test_huge_number(self) -> None:
        """A number of thousands of digits is a refusal, not a crash."""
        self.assertIn("too long", self.refused(b'{"a":' + b"1" * 5000 + b"}"))

    def test_no_json(self) -> None:
        """What is not an object in UTF-8 is refused, and the message says where."""
        self.assertIn("line 1, column 2", self.refused(b"{"))
        self.assertIn("not UTF-8", self.refused(b'{"a":"\xff"}'))
        self.assertIn("not UTF-8", self.refused('{"a":1}'.encode("utf-16")))
        for content in (b"[]", b"1", b"null", b'"a"'):
            self.assertIn("not a JSON object", self.refused(content))
        for content in (b"", b"\xef\xbb\xbf{}", b"{} {}", b"{'a':1}", b'{"a":1,}'):
            self.assertIn("not JSON", self.refused(content))
