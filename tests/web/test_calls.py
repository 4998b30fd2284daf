"""Tests of ``dockreg_tx.web.calls``."""

from __future__ import annotations

from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.errors import Unsupported
from dockreg_tx.web.calls import Query


class QueryTests(SynchronousTestCase):
    """``Query``."""

    def test_values(self) -> None:
        """Values are decoded; repeated ones keep their order; blank ones count."""
        query = Query("tag=a&n=1&tag=b%2Bc&last=&x")
        self.assertEqual(["a", "b+c"], query.all("tag"))
        self.assertEqual(("1", "", "", None), tuple(query.first(name) for name in ("n", "last", "x", "y")))

    @given(st.text("ab=&+%2;", max_size=12))
    def test_same_as_parse_qsl(self, text: str) -> None:
        """What needs no decoding is read as everything else is."""
        expected = parse_qsl(text, keep_blank_values=True)
        self.assertEqual(expected, Query(text)._pairs)

    def test_limit(self) -> None:
        """More parameters than any client sends are refused, blank ones too."""
        self.assertEqual("1", Query("n=1" + "&" * 999).first("n"))
        for text in ("n=1" + "&" * 1000, "&".join(["digest=x"] * 1001)):
            self.assertRaises(Unsupported, Query, text)
