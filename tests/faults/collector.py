"""Garbage collection without any grace beside a server: ``python -m tests.faults.collector ROOT``.

It collects again and again until its input ends, and then prints how many decisions it took. With
``forgetful`` as second argument it does not ask again before it removes: what a collector must never do.
"""

from __future__ import annotations

import json
import random
import select
import sys
import time
from collections.abc import Callable, Sequence

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.oci.digests import Digest
from dockreg_tx.ports import BlobRecord, Cutoff, SettleContent, TakeContent, Verdict, settled
from dockreg_tx.preparation import inline_collect, run_inline
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.records.transactions import Transaction
from dockreg_tx.registry.collect import CollectionRules
from dockreg_tx.root_locks import collection_lock

PAUSE_SECONDS = 0.15
NO_GRACE = CollectionRules(0.0, 0.0, None)
#: Processes of real time, whose order is what is tested.
clock = time.time  # noqa: TID251


class CountingRecords(InlineSqliteRecords):
    """Counts what becomes of the candidates."""

    removed = 0
    kept = 0

    async def collect_blobs(
        self,
        digests: Sequence[Digest],
        cutoff: Cutoff,
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Ask again, remove, and count."""
        verdicts = await super().collect_blobs(digests, cutoff, take=take, is_enough=is_enough, settle=settle)
        self.removed += verdicts.count(Verdict.REMOVED)
        self.kept += len(verdicts) - verdicts.count(Verdict.REMOVED)
        return verdicts


class ForgetfulRecords(CountingRecords):
    """Removes candidates without asking again."""

    async def dead_blobs(self, cutoff: Cutoff, after: BlobRecord | None, limit: int) -> list[BlobRecord]:
        """Return candidates, and let the world go on for a moment."""
        found = await super().dead_blobs(cutoff, after, limit)
        time.sleep(0.02)  # noqa: ASYNC251 - inline records block anyway
        return found

    async def collect_blobs(
        self,
        digests: Sequence[Digest],
        cutoff: Cutoff,
        *,
        take: TakeContent,
        is_enough: Callable[[], bool],
        settle: SettleContent = settled,
    ) -> list[Verdict]:
        """Remove them all."""

        def remove(transaction: Transaction) -> list[Verdict]:
            for digest in digests:
                take(digest)
                for table in ("repository_blobs", "blobs"):
                    transaction.execute(f"DELETE FROM {table} WHERE digest = :digest", digest=str(digest))
            settle(digests)
            return [Verdict.REMOVED] * len(digests)

        self.removed += len(digests)
        return await self._write(remove)


def main(root: str, kind: type[CountingRecords]) -> None:
    """Collect until the input ends, and print the figures."""
    layout = RootLayout(root)
    records = kind(path=layout.database, journal_dir=layout.journal, lock_path=layout.write_lock)
    records.start()
    passes, chance = 0, random.Random()
    try:
        while not select.select([sys.stdin], [], [], 0)[0]:
            with collection_lock(layout, wait=True):
                run_inline(inline_collect(records, layout, now=clock).run(NO_GRACE, now=clock()))
            passes += 1
            # Without a pause hardly any manifest comes in time for its layers.
            time.sleep(chance.uniform(0, PAUSE_SECONDS))
    finally:
        records.close()
    sys.stdout.write(json.dumps({"passes": passes, "removed": records.removed, "kept": records.kept}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], ForgetfulRecords if "forgetful" in sys.argv else CountingRecords)
