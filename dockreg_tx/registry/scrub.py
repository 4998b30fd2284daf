"""The background scrub: everything is read again, slowly, so that decay is found before a client finds it.

A pass goes through all blobs by digest, and remembers where it is; then it looks at the rows. Damaged bytes
go to the quarantine and count as missing, so that the next push heals them; what the database itself holds a
good copy of, the scrub heals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown, StoreUnavailable
from dockreg_tx.ports import BlobStore, RecordedBlob, ScrubRecords, ScrubState
from dockreg_tx.registry.verify import Damage, Heal, Verify, bytes_of

#: Small blobs cost the disk a movement: each counts as at least so much.
LEAST_BYTES = 64 * 1024
#: Shorter pauses are saved up.
_PAUSE_SECONDS = 0.05
_BATCH = 100
#: How far a crash may take the cursor back.
NOTE_SECONDS = 10.0
#: So many unreadable blobs one after the other are not decay, but a disk that is gone.
UNREADABLE_LIMIT = 10
#: So many of the newest blobs are looked at after a start.
SAMPLE_BLOBS = 1000
_log = Logger(namespace="dockreg.scrub")


class Pace:
    """Spreads reading over time; ``rate_bytes`` a second."""

    def __init__(self, *, clock: IReactorTime, rate_bytes: int) -> None:
        self._clock = clock
        self._rate_bytes = rate_bytes
        self._free_at = 0.0

    async def spend(self, size_bytes: int) -> None:
        """Note that so much was read, and wait as long as it should have taken."""
        now = self._clock.seconds()
        self._free_at = max(self._free_at, now) + size_bytes / self._rate_bytes
        if self._free_at - now > _PAUSE_SECONDS:
            await deferLater(self._clock, self._free_at - now)


class Suspects:
    """Blobs that a pull could not read; looked at before anything else. One for each process."""

    def __init__(self) -> None:
        self._digests: dict[Digest, None] = {}

    def add(self, digest: Digest) -> None:
        """Note a blob."""
        self._digests[digest] = None

    def take(self) -> list[Digest]:
        """Return what was noted, and forget it."""
        taken, self._digests = list(self._digests), {}
        return taken


@dataclass(kw_only=True)
class Scrub:
    """The use case; one at a time on a root.

    Args:
        records: what should be there.
        blobs: what is.
        verify: compares the two.
        pace: how fast.
        clock: times the notes of the cursor.
        suspects: looked at first.
        expects_layers: whether a manifest without all its layers is damaged.
        is_trusted: tells whether the disk works; while it does not, nothing can be learned from it.
    """

    records: ScrubRecords
    blobs: BlobStore
    verify: Verify
    pace: Pace
    clock: IReactorTime
    suspects: Suspects = field(default_factory=Suspects)
    expects_layers: bool = True
    is_trusted: Callable[[], bool] = lambda: True

    async def run_if_due(self, *, schedule_seconds: float, now: float) -> ScrubState | None:
        """Go on with a pass, or begin one if the last began so long ago; return it when it has ended."""
        if not self.is_trusted():
            return None
        for digest in self.suspects.take():
            await self._look_at([await self.records.recorded_blob(digest)])
        state = await self.records.scrub_state()
        if state is not None and state.ended_at is not None and 0 <= now - state.began_at < schedule_seconds:
            return None
        if state is None or state.ended_at is not None:
            state = ScrubState(began_at=now)
        return await self.run(state, now=now)

    async def sample(self) -> int:
        """Compare the newest blobs' sizes with what is on record; return how many were damaged.

        A crash, and a disk that lies about fsync, harm what was written last. A blob of another size is read.
        """
        damaged = 0
        newest = await self.records.newest_blobs(SAMPLE_BLOBS) if self.is_trusted() else []
        for first in range(0, len(newest), _BATCH):
            page = newest[first : first + _BATCH]
            for blob in await self.verify.blocking.run(self._of_wrong_size, page):
                if self.is_trusted() and await self._check(blob) is not None:
                    damaged += 1
        return damaged

    def _of_wrong_size(self, page: list[RecordedBlob]) -> list[RecordedBlob]:
        size_of = self.verify.quarantine.size_of
        return [blob for blob in page if size_of(blob.digest) != blob.size_bytes]

    async def run(self, state: ScrubState, *, now: float) -> ScrubState | None:
        """Go through everything behind the cursor; None when the disk is gone."""
        noted_at, unreadable = self.clock.seconds(), list[RecordedBlob]()
        in_a_row = 0
        while page := await self.records.recorded_blobs(state.cursor, _BATCH):
            for blob in page:
                damage = await self._check(blob)
                is_unreadable = damage is not None and damage.is_unreadable
                in_a_row = in_a_row + 1 if is_unreadable else 0
                if is_unreadable:
                    unreadable.append(blob)
                if in_a_row >= UNREADABLE_LIMIT or not self.is_trusted():
                    _log.error("the scrub stops: the disk cannot be read")
                    return None
                state = state.after(blob.digest, is_damaged=damage is not None)
            if self.clock.seconds() - noted_at >= NOTE_SECONDS:
                noted_at = self.clock.seconds()
                await self.records.note_scrub(state)
        await self._look_at(unreadable)
        rows = await self._rows()
        state = state.end(now, damaged=rows)
        await self.records.note_scrub(state)
        _log.info(
            "scrubbed {checked} blobs, {damaged} blobs or rows were damaged",
            checked=state.checked,
            damaged=state.damaged,
        )
        return state

    async def _look_at(self, blobs: list[RecordedBlob | None] | list[RecordedBlob]) -> None:
        """Look at unreadable ones once more; what still cannot be read is damaged."""
        for blob in blobs:
            if blob is not None and self.is_trusted():
                await self._check(blob, is_last_word=True)

    async def _check(self, blob: RecordedBlob, *, is_last_word: bool = False) -> Damage | None:
        await self.pace.spend(LEAST_BYTES)
        damage = await self.verify.check(blob, spend=self.pace.spend)
        if blob.is_quarantined:
            if damage is None:
                return None
            if await self._revive(blob) or await self._heal_manifest(blob.digest):
                return damage
            return None
        if damage is None or (damage.is_unreadable and not is_last_word):
            return damage
        damage = await self.verify.repair(damage)
        _log.error(
            "{digest} is damaged: {reason}; {outcome}",
            digest=str(damage.digest),
            reason=damage.reason,
            outcome="it counts as missing until it is pushed again" if damage.is_repaired else "it stays",
        )
        if damage.is_repaired:
            await self._heal_manifest(damage.digest)
        return damage

    async def _revive(self, blob: RecordedBlob) -> bool:
        """Count a blob as good again whose bytes are back, as after a disk was away; tell whether."""
        if await self.verify.bytes_damage(blob, spend=self.pace.spend) is not None:
            return False
        revived = await self.records.revive_blob(blob.digest, ensure=_nothing)
        if revived:
            _log.warn("{digest} is good again", digest=str(blob.digest))
        return revived

    async def _heal_manifest(self, digest: Digest) -> bool:
        """Write the file of a manifest anew from its row; tell whether it was."""
        is_healed = await Heal(records=self.records, blobs=self.blobs).manifest(digest)
        if is_healed:
            _log.warn("{digest} is healed: it is a manifest, and the database had a copy", digest=str(digest))
        return is_healed

    async def _rows(self) -> int:
        """Look at the rows; return how many are damaged."""
        found = await self.records.damaged_rows()
        for name in found:
            _log.error("the row of {name} is damaged: its checksum is wrong", name=name)
        for digest in await self.records.damaged_copies():
            _log.error("the database's copy of manifest {digest} is damaged", digest=str(digest))
            await self._mend_copy(digest)
            found.append(str(digest))
        for text in await self.records.dangling_references() if self.expects_layers else ():
            _log.error("{text}: push it again", text=text)
            found.append(text)
        return len(found)

    async def _mend_copy(self, digest: Digest) -> None:
        """Write the row's copy of a manifest anew from its file."""
        try:
            blob = await self.blobs.open(digest)
            try:
                content = await bytes_of(blob)
            finally:
                blob.close()
        except (BlobUnknown, StoreUnavailable):
            return
        if Digest.of(content, digest.algorithm) == digest:
            await self.records.mend_copy(digest, content)
            _log.warn("the database's copy of manifest {digest} is healed from its file", digest=str(digest))


def _nothing() -> None:
    """Put nothing back: the bytes are there."""
