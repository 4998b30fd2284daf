"""Clocks that jump by a day or ten years, both ways: nothing is removed before its time has really gone by.

The use cases run over the verified fakes, with a clock that is set at random; the oracle counts real time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from dockreg_tx.oci.digests import Digest
from dockreg_tx.registry.clock import ClockWatch
from dockreg_tx.registry.collect import CollectionRules
from tests.registry.world import World

DAY_SECONDS = 86_400.0
JUMPS = (DAY_SECONDS, 3650 * DAY_SECONDS)
#: The server looks at the clock this often.
TICK_SECONDS = 600.0
RULES = CollectionRules(grace_seconds=DAY_SECONDS, trash_seconds=DAY_SECONDS)


@dataclass
class Life:
    """A registry in which time goes by; ``real_time`` only goes forward, the world's time is set."""

    chance: random.Random
    is_watched: bool = True
    world: World = field(default_factory=World)
    real_time: float = 0.0
    blobs: dict[Digest, float] = field(default_factory=dict)
    sessions: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    removed: int = 0
    jumps: int = 0

    async def run(self, ticks: int) -> None:
        """Let so many ticks go by."""
        watch = ClockWatch(records=self.world.records, hold_seconds=DAY_SECONDS)
        for number in range(ticks):
            await self._push(number)
            self.real_time += TICK_SECONDS
            self.world.time += TICK_SECONDS
            if self.chance.random() < 0.002:
                self.jumps += 1
                self.world.time += self.chance.choice((-1, 1)) * self.chance.choice(JUMPS)
            if await watch.is_steady(self.world.time) or not self.is_watched:
                await self._clean_up()
            self._judge()

    async def _push(self, number: int) -> None:
        if self.chance.random() < 0.1:
            self.blobs[await self.world.push_blob(b"%d" % number)] = self.real_time
        if self.chance.random() < 0.1:
            self.sessions[(await self.world.open_session()).upload_id] = self.real_time

    async def _clean_up(self) -> None:
        await self.world.collect.run_if_due(RULES, schedule_seconds=6 * 3600, now=self.world.time)
        await self.world.sweep.expired(expire_after_seconds=DAY_SECONDS)

    def _judge(self) -> None:
        for digest in [each for each in self.blobs if each not in self.world.blobs.contents]:
            self._note(f"{digest}", self.blobs.pop(digest))
        for upload_id in [each for each in self.sessions if not self._has_session(each)]:
            self._note(f"session {upload_id}", self.sessions.pop(upload_id))

    def _has_session(self, upload_id: str) -> bool:
        found: list[object] = []
        Deferred.fromCoroutine(self.world.records.upload(upload_id)).addCallback(found.append)
        return found != [None]

    def _note(self, name: str, since: float) -> None:
        self.removed += 1
        if self.real_time - since < DAY_SECONDS:
            self.wrong.append(f"{name} was removed after {self.real_time - since:.0f} s")


def run_clocks(ticks: int, seed: int, *, is_watched: bool = True) -> Life:
    """Return a life of so many ticks."""
    life = Life(random.Random(seed), is_watched=is_watched)
    failed: list[object] = []
    Deferred.fromCoroutine(life.run(ticks)).addErrback(failed.append)
    if failed:
        raise AssertionError(str(failed[0]))
    return life
