"""Tests of the ids of upload sessions."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.registry.session_ids import SessionIds

APP = RepositoryName("team/app")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DAY_SECONDS = 86_400.0


class SessionIdsTests(SynchronousTestCase):
    """What an id proves."""

    def setUp(self) -> None:
        self.time = 0.5
        self.is_steady = True

    def ids(self, instance_id: str = "here", nonce: bytes = b"\0\0\0\0\0") -> SessionIds:
        """Return what makes ids that are good for a day."""

        async def is_steady(_now: float) -> bool:
            return self.is_steady

        return SessionIds(
            instance_id=instance_id,
            random_bytes=lambda _: nonce,
            now=lambda: self.time,
            expire_after_seconds=DAY_SECONDS,
            is_steady=is_steady,
        )

    def algorithm(
        self, made: str, ids: SessionIds | None = None, repository: RepositoryName = APP, owner: str = "alice"
    ) -> str | None:
        """Return what an id tells."""
        found: str | None = self.successResultOf((ids or self.ids()).algorithm(made, repository, owner))
        return found

    @given(nonce=st.binary(min_size=5, max_size=5), algorithm=st.sampled_from(["", "sha256", "sha512"]))
    @settings(derandomize=True, deadline=None)
    def test_round_trip(self, nonce: bytes, algorithm: str) -> None:
        """An id looks like a UUID and tells its algorithm."""
        made = self.ids(nonce=nonce).new(APP, "alice", algorithm)
        self.assertTrue(_UUID.fullmatch(made))
        self.assertEqual(algorithm, self.algorithm(made))

    def test_others(self) -> None:
        """An id proves nothing for another repository, user or registry, nor once it was changed."""
        made = self.ids().new(APP, "alice", "")
        self.assertIsNone(self.algorithm(made, repository=RepositoryName("team/ap")))
        self.assertIsNone(self.algorithm(made, owner="bob"))
        self.assertIsNone(self.algorithm(made, self.ids("there")))
        for changed in (
            "1" + made[1:],
            made[:-1] + ("0" if made[-1] != "0" else "1"),
            "",
            "upload",
            made[:-2],
        ):
            self.assertIsNone(self.algorithm(changed), changed)

    def test_age(self) -> None:
        """An id proves nothing when it is old, unless that may only be a clock that jumped."""
        made = self.ids().new(APP, "alice", "")
        self.time = DAY_SECONDS - 1
        self.assertEqual("", self.algorithm(made))
        self.time = DAY_SECONDS
        self.assertIsNone(self.algorithm(made))
        self.is_steady = False
        self.assertEqual("", self.algorithm(made))
