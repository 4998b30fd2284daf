"""Content on its way in: bytes first, many at once; then rows, in transactions that nobody waits long for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

from dockreg_tx.moving.report import Finding, Report
from dockreg_tx.ports import (
    MovedBlob,
    MovedBytes,
    MovedContent,
    MovedTag,
    MoveRecords,
    MoveVerdict,
    NewManifest,
    Now,
)

#: So much is brought to disk together; a directory's fsync costs as much as thousands of links.
STAGE_LIMIT = 10_000
STAGE_LIMIT_BYTES = 32 * 1024 * 1024
#: How long one transaction may go on adding rows.
TRANSACTION_SECONDS = 0.03
#: Between two, others run: who waits for the lock has it next, and this is enough to come to wait.
PAUSE_SECONDS = 0.001
_BATCH_LIMIT = 2000


class Stage:
    """Collects content and records it once its bytes are on disk.

    Args:
        bytes_: where the bytes went.
        records: where the rows go.
        report: counts what happens.
        now: the time of day.
        monotonic_seconds: measures transactions.
        pause: sleeps.
    """

    def __init__(
        self,
        *,
        bytes_: MovedBytes,
        records: MoveRecords,
        report: Report,
        now: Now,
        monotonic_seconds: Callable[[], float],
        pause: Callable[[float], None],
    ) -> None:
        self._bytes = bytes_
        self._records = records
        self._report = report
        self._now = now
        self._monotonic_seconds = monotonic_seconds
        self._pause = pause
        self._waiting: deque[MovedContent] = deque()
        self._waiting_bytes = 0

    async def add(self, content: MovedContent) -> None:
        """Take content whose bytes were brought; earlier content may be recorded now."""
        self._waiting.append(content)
        if isinstance(content, NewManifest):
            self._waiting_bytes += len(content.content)
        if len(self._waiting) >= STAGE_LIMIT or self._waiting_bytes >= STAGE_LIMIT_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Record everything taken so far.

        Raises:
            StorageFull, StoreUnavailable: the rest is not recorded; the next import begins there.
        """
        self._bytes.sync()
        while self._waiting:
            verdicts = await self._records.move_in(
                list(islice(self._waiting, _BATCH_LIMIT)),
                ensure=self._bytes.ensure,
                is_enough=self._clock(),
                now=self._now(),
            )
            for verdict in verdicts:
                self._count(self._waiting.popleft(), verdict)
            if self._waiting:
                self._pause(PAUSE_SECONDS)
        self._waiting_bytes = 0
        self._bytes.forget_sources()

    def _clock(self) -> Callable[[], bool]:
        """Return what says that a transaction is long enough; its time begins with its first row."""
        began: float | None = None

        def is_enough() -> bool:
            nonlocal began
            at = self._monotonic_seconds()
            began = at if began is None else began
            return at - began >= TRANSACTION_SECONDS

        return is_enough

    def _count(self, content: MovedContent, verdict: MoveVerdict) -> None:
        if verdict is MoveVerdict.PRESENT:
            self._report.present += 1
        elif isinstance(content, MovedBlob):
            self._count_blob(content, verdict)
        elif isinstance(content, MovedTag):
            self._count_tag(content, verdict)
        elif verdict is MoveVerdict.NEW:
            self._report.manifests += 1
        else:
            self._report.note(Finding.INVALID_MANIFEST, f"{content.repository}@{content.digest}: wrong sizes")

    def _count_blob(self, blob: MovedBlob, verdict: MoveVerdict) -> None:
        if verdict is MoveVerdict.NEW:
            self._report.blobs += 1
            self._report.blob_bytes += blob.size_bytes
        else:
            self._report.note(Finding.QUARANTINED_BLOB, f"{blob.repository}@{blob.digest}")

    def _count_tag(self, tag: MovedTag, verdict: MoveVerdict) -> None:
        if verdict is MoveVerdict.NEW:
            self._report.tags += 1
            return
        is_kept = verdict is MoveVerdict.KEPT
        self._report.note(Finding.KEPT_TAG if is_kept else Finding.BROKEN_TAG, f"{tag.repository}:{tag.tag}")
