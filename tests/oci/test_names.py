"""Tests of ``dockreg_tx.oci.names``."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import NameInvalid, TagInvalid
from dockreg_tx.oci.names import RepositoryName, Tag

COMPONENTS = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
TAGS = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True)


class RepositoryNameTests(SynchronousTestCase):
    """``RepositoryName.parse``."""

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.lists(COMPONENTS, min_size=1, max_size=6))
    def test_round_trip(self, components: list[str]) -> None:
        """A valid name is kept as it is written."""
        text = "/".join(components)
        self.assertEqual(text, str(RepositoryName.parse(text)))

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(st.text(alphabet="aZ09._-/: \n\0٣é", max_size=12))
    @example("a\n")
    def test_hostile_text(self, text: str) -> None:
        """Any text is a name made of nothing but the allowed characters, or refused."""
        try:
            name = RepositoryName.parse(text)
        except NameInvalid:
            return
        self.assertEqual(text, str(name))
        self.assertEqual(set(), set(text) - set("abcdefghijklmnopqrstuvwxyz0123456789._-/"))
        self.assertNotIn("//", text)

    def test_reserved_words(self) -> None:
        """Words of the API's paths are legal components."""
        for text in ["a/manifests", "tags/list", "blobs/uploads", "a__b/c--d/e.f", "0"]:
            self.assertEqual(text, RepositoryName.parse(text).text)

    def test_refused(self) -> None:
        """What could leave its place in a path, or be read in two ways, is no name."""
        for text in [
            "", "/", "a/", "/a", "a//b", "..", "a/../b", "a..b", "a___b", "a.-b", "-a", "a-", "_catalog",
            "A", "a b", "a\n", "a\0", "a%2fb", "a:b", "é", "٣", "\uff41", "\u212a",
        ]:  # fmt: skip
            with self.subTest(text=text):
                self.assertRaises(NameInvalid, RepositoryName.parse, text)

    def test_length(self) -> None:
        """A name has at most 255 characters, and a refused one is shown in part."""
        self.assertEqual("a" * 255, RepositoryName.parse("a" * 255).text)
        error = self.assertRaises(NameInvalid, RepositoryName.parse, "a" * 100_000)
        self.assertEqual({"name": "a" * 300}, error.detail)

    def test_order(self) -> None:
        """Names sort by their bytes, so that a prefix does not hide its neighbours."""
        texts = ["a", "a-b", "a/b", "ab"]
        self.assertEqual(texts, [str(name) for name in sorted(map(RepositoryName, reversed(texts)))])


class TagTests(SynchronousTestCase):
    """``Tag.parse``."""

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(TAGS)
    def test_round_trip(self, text: str) -> None:
        """A valid tag is kept as it is written."""
        self.assertEqual(text, str(Tag.parse(text)))

    def test_length(self) -> None:
        """A tag has at most 128 characters."""
        self.assertEqual("a" * 128, Tag.parse("a" * 128).text)
        self.assertRaises(TagInvalid, Tag.parse, "a" * 129)

    def test_refused(self) -> None:
        """Tags are ASCII, and begin with a letter, digit or underscore."""
        for text in ["", ".a", "-a", "a/b", "a:b", "a b", "v1\n", "v\0", "é", "v٣", "sha256:abc"]:
            with self.subTest(text=text):
                self.assertRaises(TagInvalid, Tag.parse, text)
