"""Campaigns of logins, workers, disks and clocks, as works of the frame."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.faults import broken_disk, clocks, flips, full_disk, logins, loops, refusals, workers
from tests.faults.figures import Step, Steps

#: Steps, flips and ticks that are looked at together.
TICKS_PER_CYCLE = 100


def guessed_logins(cycles: int, seed: int) -> Steps:
    """Guess passwords for a minute, as often as asked."""
    for _ in range(cycles):
        outcome = logins.Outcome()
        logins.run(outcome, logins.Bounds())
        for line in outcome.lines:
            loops.say(f"logins: {line}")
        yield Step(failures=list(outcome.missed))


def killed_workers(cycles: int, seed: int, *, broken: bool = False) -> Steps:
    """Kill workers; the database's own check comes at the end of each batch."""
    chance, batch = random.Random(seed), 10 if broken else 50
    for done in range(0, cycles, batch):
        outcome = workers.run(min(batch, cycles - done), chance.getrandbits(32), broken=broken)
        failures = [] if outcome.is_well or outcome.lost else [f"{outcome}", *outcome.failures[:5]]
        yield Step(
            cycles=outcome.kills,
            acknowledged=outcome.acknowledged,
            lost=outcome.lost,
            failures=failures,
            counts={"requests": outcome.requests, "cut_with_their_worker": outcome.cut},
        )


def full_disks(cycles: int, seed: int) -> Steps:
    """Fill a disk but for so many blocks, then run out of everything else."""
    with full_disk.trouble(seed) as scene:
        wrong = full_disk.run_steps(scene, range(min(cycles - 1, full_disk.STEPS) + 1))
        wrong += full_disk.clean_up(scene)
        given_up = scene.given_up()
        wrong += full_disk.durable(scene)
        yield Step(
            cycles=cycles,
            acknowledged=scene.witness.acknowledged,
            failures=wrong,
            counts={"refused": scene.witness.refused, "ballasts_given_up": given_up},
        )
    for run in (
        full_disk.run_inodes,
        full_disk.run_descriptors,
        full_disk.run_memory,
        refusals.run_quota,
        refusals.run_file_limit,
    ):
        yield Step(cycles=0, failures=run(seed))


def broken_disks(cycles: int, seed: int) -> Steps:
    """Let a disk fail, become read-only and dawdle."""
    scenes: list[Callable[[], list[str]]] = [
        lambda: broken_disk.run_writes(seed, cycles),
        lambda: broken_disk.run_recovery(seed, cycles),
        lambda: broken_disk.run_reads(seed),
        lambda: broken_disk.run_read_only(seed),
    ]
    for scene in scenes:
        yield Step(cycles=0, failures=scene())
    yield _slow_step(0, broken_disk.run_slow(seed, max(5, cycles // 10)))
    yield _slow_step(cycles, broken_disk.run_slow_reads(seed, max(3, cycles // 10)))


def sent_by_waiting(cycles: int, seed: int) -> Steps:
    """Read a slow disk with a server that lets the kernel send what is not in memory."""
    yield _slow_step(cycles, broken_disk.run_slow_reads(seed, 1, broken="trusts-memory"))


def _slow_step(cycles: int, slowness: broken_disk.Slowness) -> Step:
    worst = {"p99_latency_milliseconds": slowness.p99_milliseconds}
    return Step(cycles=cycles, failures=slowness.wrong, worst=worst)


def flipped_bits(cycles: int, seed: int, *, broken: str = "") -> Steps:
    """Flip so many bits; a pass of the scrub finds and a push heals them."""
    with flips.scrubbed(broken) as server:
        yield Step(cycles=cycles, failures=flips.run_flips(server, cycles, seed))


def wrong_clocks(cycles: int, seed: int, *, is_watched: bool = True) -> Steps:
    """Let the clock jump for so many hundreds of ticks."""
    life = clocks.run_clocks(TICKS_PER_CYCLE * cycles, seed, is_watched=is_watched)
    yield Step(
        cycles=cycles, failures=life.wrong, counts={"jumps": life.jumps, "removed_in_time": life.removed}
    )


def forgiven_errors(cycles: int, seed: int) -> Steps:
    """Fill the disk of a server that takes a full one for success."""
    with full_disk.trouble(seed, broken="forgives-full-disk") as scene:
        yield Step(failures=full_disk.run_steps(scene, range(0, full_disk.STEPS, 20)))


def no_ballast(cycles: int, seed: int) -> Steps:
    """Delete on the full disk of a server that holds nothing back."""
    with full_disk.trouble(seed, ballast="0B") as scene:
        for _ in range(40):
            scene.witness.push(20_000)
        yield Step(failures=full_disk.clean_up(scene))


def repeated_fsync(cycles: int, seed: int) -> Steps:
    """Let fsync fail under a server that tries it again."""
    wrong = broken_disk.run_recovery(seed, 1, broken="repeats-fsync")
    yield Step(failures=[line for line in wrong if "SYNCED AGAIN" in line])
