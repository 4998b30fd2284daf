"""Edges of ``dockreg_tx.access`` that the other tests do not come near."""

from __future__ import annotations

import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access import throttle, tokens
from dockreg_tx.access.grants import Grant, Principal, may_push_everywhere
from dockreg_tx.access.keys import KeyRing, add_key, ensure_key
from dockreg_tx.access.throttle import Throttle
from dockreg_tx.access.tokens import TokenIssuer


class EdgeTests(SynchronousTestCase):
    """Empty, full and foreign."""

    def test_push_everywhere(self) -> None:
        """One grant on everything is what counts, not several that come to the same."""
        for specs, expected in (
            (["push:**"], True),
            (["*:**"], True),
            (["create:**"], False),
            (["push:*", "push:*/**"], False),
            (["pull:**", "!push:**"], False),
            ([], False),
        ):
            principal = Principal("", grants=tuple(map(Grant.parse, specs)))
            self.assertEqual(expected, may_push_everywhere(principal), specs)

    def test_keys(self) -> None:
        """A directory without keys says what to do; other files in it are no keys."""
        directory = self.mktemp()
        os.mkdir(directory)
        with open(os.path.join(directory, "README"), "w") as file:
            file.write("not a key")
        ring = KeyRing(directory=directory, now=lambda: 1.0, retired_seconds=1.0)
        error = self.assertRaises(LookupError, ring.signing_key)
        self.assertIn("start the registry once", str(error))
        add_key(directory, now=1.0)
        self.assertEqual(ring.signing_key().key_id, ring.verifying()[0].key_id)

    def test_success_alone(self) -> None:
        """Who succeeds without having failed changes nothing."""
        fresh = Throttle(Clock())
        fresh.succeeded("192.0.2.1", "alice")
        self.assertEqual(0, fresh.wait_seconds("192.0.2.1", "alice"))

    def test_full_table(self) -> None:
        """Of too many networks the one that was quiet longest is forgotten."""
        self.patch(throttle, "TABLE_LIMIT_ENTRIES", 2)
        full = Throttle(Clock())
        for _ in range(6):
            with_wait = full.wait_seconds("192.0.2.1", "alice")
            if not with_wait:
                full.begin("192.0.2.1", "alice")
        self.assertGreater(full.wait_seconds("192.0.2.1", "alice"), 0)
        for number in range(2):
            full.begin(f"198.51.{number}.1", "bob")
        self.assertEqual(0, full.wait_seconds("192.0.2.1", "alice"))

    def test_full_cache(self) -> None:
        """Of too many tokens the oldest is read again."""
        self.patch(tokens, "CACHE_LIMIT_ENTRIES", 2)
        directory = self.mktemp()
        os.mkdir(directory)
        ensure_key(directory, now=1.0)
        numbers = iter(range(10))
        issuer = TokenIssuer(
            keys=KeyRing(directory=directory, now=lambda: 1.0, retired_seconds=1.0),
            service="test",
            now=lambda: 1.0,
            new_id=lambda: str(next(numbers)),
        )
        given = [issuer.issue(Principal("alice"), granted=[], refused=[]) for _ in range(4)]
        for token in given * 2:
            self.assertEqual("alice", issuer.verify(token).user)
        self.assertEqual(2, len(issuer._verified))
