"""Tests of ``dockreg_tx.oci.pagination``."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import PageSizeInvalid
from dockreg_tx.oci.pagination import Page, next_link, parse_page


class ParsePageTests(SynchronousTestCase):
    """``parse_page``."""

    def test_limits(self) -> None:
        """The limit is the default, or what is asked for up to the maximum."""
        for expected, n in [
            (None, None), (0, "0"), (0, "000"), (1, "1"), (999, "999"), (1000, "1000"), (1000, "1001"),
            (7, "0007"),
            (1000, "1" + "0" * 5000), (5, "0" * 5000 + "5"),
        ]:  # fmt: skip
            with self.subTest(n=n and n[:20]):
                self.assertEqual(Page(expected, ""), parse_page(n, None, maximum=1000, default=None))
        self.assertEqual(Page(100, ""), parse_page(None, None, maximum=1000, default=100))

    def test_refused(self) -> None:
        """What is no whole number is refused, and shown in part."""
        for n in ["", "-1", "+1", "1.0", "1e9", "abc", " 1", "1\n", "٣", "0x10", "1_0", "x" * 5000]:
            with self.subTest(n=n[:20]):
                error = self.assertRaises(PageSizeInvalid, parse_page, n, None, maximum=1000, default=None)
                self.assertEqual({"n": n[:100]}, error.detail)

    def test_after(self) -> None:
        """The cursor is any text; one that no database takes still sorts after every name."""
        for expected, last in [
            ("", None), ("", ""), ("v1/x y", "v1/x y"), ("z" * 512, "z" * 5000), ("a\ufffdb", "a\ud800b"),
        ]:  # fmt: skip
            self.assertEqual(Page(None, expected), parse_page(None, last, maximum=1000, default=None))


class NextLinkTests(SynchronousTestCase):
    """``next_link``."""

    def test_form(self) -> None:
        """The link is relative to the host and names the next page."""
        self.assertEqual(
            '</v2/team/app/tags/list?n=2&last=v1.2>; rel="next"',
            next_link("/v2/team/app/tags/list", 2, "v1.2"),
        )

    def test_extra(self) -> None:
        """Other parameters stay, percent-encoded."""
        self.assertEqual(
            '</v2/a/referrers/sha256:b?n=2&last=c&artifactType=application%2Fx%2Bjson>; rel="next"',
            next_link("/v2/a/referrers/sha256:b", 2, "c", [("artifactType", "application/x+json")]),
        )

    def test_absolute(self) -> None:
        """The address of a configured host stays as it is."""
        self.assertIn("<https://[::1]:5000/v2/_catalog?", next_link("https://[::1]:5000/v2/_catalog", 1, "a"))

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.text(max_size=20), st.text(max_size=20))
    def test_round_trip(self, last: str, value: str) -> None:
        """Any text comes back as it was, and none can end the link or the header."""
        link = next_link("/v2/a b\r\n>", 10, last, [("x", value)])
        address = link.removeprefix("<").removesuffix('>; rel="next"')
        self.assertTrue(set(address) <= set(map(chr, range(0x21, 0x7F))) - set('<>"'))
        parts = urlsplit(address)
        self.assertEqual("/v2/a b\r\n>", unquote(parts.path))
        self.assertEqual(
            [("n", "10"), ("last", last), ("x", value)], parse_qsl(parts.query, keep_blank_values=True)
        )

    def test_surrogate(self) -> None:
        """Half a surrogate pair is no reason to fail."""
        self.assertIn("last=%3F", next_link("/v2/_catalog", 1, "\ud800"))
