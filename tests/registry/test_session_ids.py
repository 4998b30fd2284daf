"""Ids that stand for upload sessions."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.registry.session_ids import SessionIds

APP = RepositoryName("team/app")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SessionIdsTests(SynchronousTestCase):
    """What an id proves."""

    @given(nonce=st.binary(min_size=9, max_size=9), algorithm=st.sampled_from(["", "sha256", "sha512"]))
    @settings(derandomize=True, deadline=None)
    def test_round_trip(self, nonce: bytes, algorithm: str) -> None:
        """An id looks like a UUID and tells its algorithm."""
        ids = SessionIds(instance_id="here", random_bytes=lambda _: nonce)
        made = ids.new(APP, "alice", algorithm)
        self.assertTrue(_UUID.fullmatch(made))
        self.assertEqual(algorithm, ids.algorithm(made, APP, "alice"))

    def test_others(self) -> None:
        """An id proves nothing for another repository, user or registry, nor once it was changed."""
        ids = SessionIds(instance_id="here", random_bytes=bytes)
        made = ids.new(APP, "alice", "")
        elsewhere = SessionIds(instance_id="there", random_bytes=bytes)
        self.assertIsNone(ids.algorithm(made, RepositoryName("team/ap"), "alice"))
        self.assertIsNone(ids.algorithm(made, APP, "bob"))
        self.assertIsNone(elsewhere.algorithm(made, APP, "alice"))
        for changed in (
            "1" + made[1:],
            made[:-1] + ("0" if made[-1] != "0" else "1"),
            "",
            "upload",
            made[:-2],
        ):
            self.assertIsNone(ids.algorithm(changed, APP, "alice"), changed)
