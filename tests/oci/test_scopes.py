"""Tests of ``dockreg_tx.oci.scopes``."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.scopes import Scope, parse_scopes


class ParseScopesTests(SynchronousTestCase):
    """``parse_scopes``."""

    def test_known(self) -> None:
        """The scopes that clients send are read; the order of actions is kept."""
        for expected, text in [
            ((), ""),
            ((Scope("repository", "a/b", ("pull",)),), "repository:a/b:pull"),
            ((Scope("repository", "a/b", ("push", "pull")),), "repository:a/b:push,pull,push"),
            ((Scope("repository", "a/b", ("*",)),), "repository(plugin):a/b:*"),
            ((Scope("repository", "host:5000/a", ("pull",)),), "repository:host:5000/a:pull"),
            ((Scope("registry", "catalog", ("*",)),), "registry:catalog:*"),
            (
                (Scope("repository", "a", ("pull",)), Scope("repository", "b", ("delete",))),
                " repository:a:pull  repository:b:delete ",
            ),
        ]:
            with self.subTest(text=text):
                self.assertEqual(expected, parse_scopes(text))

    def test_dropped(self) -> None:
        """Unknown types, unknown actions and garbage are dropped, and nothing else is."""
        for text in [
            "x", "repository", "repository:a", "repository:a:", "repository::pull", ":a:pull", "other:a:pull",
            "repository:a:fly", "registry:catalog:pull", "(plugin):a:pull", "Repository:a:pull",
        ]:  # fmt: skip
            with self.subTest(text=text):
                self.assertEqual((), parse_scopes(text))
        self.assertEqual((Scope("repository", "a", ("pull",)),), parse_scopes("repository:a:fly,pull x:y"))

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(
        st.lists(
            st.builds(
                Scope,
                st.just("repository"),
                st.from_regex("[a-z0-9]{1,4}(:[0-9]{1,4})?(/[a-z]{1,4})?", fullmatch=True),
                st.permutations(["pull", "push", "delete"]).map(tuple),
            ),
            max_size=4,
        )
    )
    def test_round_trip(self, scopes: list[Scope]) -> None:
        """Written scopes read back equal."""
        self.assertEqual(tuple(scopes), parse_scopes(" ".join(map(str, scopes))))
