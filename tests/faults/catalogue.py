"""All campaigns, with the promise that each one proves."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial

from tests.faults import crowds, faulty_disk, loops, others, points, scale
from tests.faults.backups import CRASHES, as_work, backup_under_load, crash, power_backup, rebuild_after_loss
from tests.faults.broken_disk import LATENCY_SECONDS
from tests.faults.campaigns import first_starts, in_eras, kill_scene, power_scene
from tests.faults.collection import crashes, race
from tests.faults.disks import missing
from tests.faults.frame import Campaign, whole
from tests.faults.syscalls import broken_recovery, every_call, recovery

RESTART_SECONDS = 2.0
#: It makes the root's 520 directories, flushes each, and hashes a password; about twice what a restart takes.
FIRST_START_SECONDS = 3.0


def streams(cycles: int, seed: int) -> bool:
    """Run the streaming tests with eight uploads of a gibibyte each, and tell whether they went well."""
    command = [sys.executable, "-m", "twisted.trial", "tests.integration.test_streaming"]
    with tempfile.TemporaryDirectory(prefix="dockreg-faults-") as name:
        command.insert(3, f"--temp-directory={name}/trial")
        environment = {**os.environ, "TEST_PARALLEL_MIB": "1024"}
        done = [subprocess.run(command, check=False, env=environment) for _ in range(cycles)]
        return all(each.returncode == 0 for each in done)


_CRASHES = (
    Campaign(
        name="kill",
        promise="What was acknowledged survives `kill -9` at any moment, nothing half-done is seen, and the "
        "next start needs no repair.",
        goal=1000,
        work=in_eras(kill_scene),
        controls={"answers before the bytes are in place": in_eras(partial(kill_scene, broken="late-bytes"))},
        ceilings={"restart_seconds": RESTART_SECONDS},
    ),
    Campaign(
        name="syscalls",
        promise="The same at every single call of a push that changes the disk: fsync, rename, link, unlink, "
        "write.",
        goal=400,
        cycle="calls",
        work=every_call,
        controls={"answers before the bytes are in place": partial(every_call, broken="late-bytes")},
        ceilings={"restart_seconds": RESTART_SECONDS},
        floors={"full_passes": 1},
        missing=points.missing,
    ),
    Campaign(
        name="recovery",
        promise="A start that is killed while it recovers, again and again, ends well.",
        goal=200,
        work=recovery,
        controls={"clears away open uploads": broken_recovery},
        ceilings={"restart_seconds": RESTART_SECONDS},
        missing=points.missing,
    ),
    Campaign(
        name="first-starts",
        promise="A first start that was killed is made good by the next one.",
        goal=200,
        work=first_starts,
        ceilings={"restart_seconds": FIRST_START_SECONDS},
    ),
)

_POWER_CUTS = (
    Campaign(
        name="power",
        promise="What was acknowledged survives a power cut on ext4.",
        goal=1000,
        work=in_eras(power_scene),
        controls={
            "no fsync of files": in_eras(partial(power_scene, broken="file-fsync")),
            "no fsync of the database": in_eras(partial(power_scene, broken="database-fsync")),
        },
        missing=missing,
    ),
    Campaign(
        name="power-xfs",
        promise="What was acknowledged survives a power cut on xfs.",
        goal=500,
        work=in_eras(partial(power_scene, filesystem="xfs")),
        controls={"no fsync of files": in_eras(partial(power_scene, broken="file-fsync", filesystem="xfs"))},
        missing=partial(missing, "xfs"),
    ),
    Campaign(
        name="power-two-disks",
        promise="The same with the database on a disk of its own.",
        goal=200,
        work=in_eras(partial(power_scene, split=True)),
        controls={
            "no fsync of directories": in_eras(partial(power_scene, split=True, broken="directory-fsync"))
        },
        missing=missing,
    ),
    Campaign(
        name="first-starts-power",
        promise="A first start that lost its disk's power is made good by the next one.",
        goal=100,
        work=partial(first_starts, with_disk=True),
        missing=missing,
    ),
)

_LOADS = (
    Campaign(
        name="streams",
        promise="Eight uploads of a gibibyte at once stay within their memory.",
        goal=1,
        cycle="runs",
        work=whole(streams),
    ),
)

_COLLECTIONS = (
    Campaign(
        name="gc-crash",
        promise="Garbage collection that is killed, and starts that are killed after it, lose nothing and "
        "leave nothing behind.",
        goal=200,
        work=crashes,
        controls={"does not bring content back": partial(crashes, broken="recovery")},
        ceilings={"restart_seconds": RESTART_SECONDS},
        missing=points.missing,
    ),
    Campaign(
        name="gc-race",
        promise="Garbage collection without any grace beside eight pushers of the same layers: no "
        "acknowledged manifest misses a blob, and the disk holds in the end what is alive.",
        goal=1800,
        cycle="seconds",
        work=race,
        controls={"removes without asking again": partial(race, forgetful=True)},
        floors={"decisions": 100_000},
    ),
)

_SCALE = (
    Campaign(
        name="scale",
        promise="With 100,000 blobs and 20,000 manifests a start takes a second, garbage collection a "
        "minute, and pushes hardly notice it.",
        goal=3,
        cycle="runs",
        work=scale.scale,
        controls={"holds the lock for the whole collection": partial(scale.scale, selfish=True)},
        ceilings={
            "start_seconds": scale.START_SECONDS,
            "collection_seconds": scale.COLLECTION_SECONDS,
            "p99_growth_milliseconds": scale.GROWTH_MILLISECONDS,
            "longest_growth_milliseconds": scale.LONGEST_GROWTH_MILLISECONDS,
        },
    ),
    Campaign(
        name="connections",
        promise="10,000 idle connections, and 2,000 clients each with slow headers, slow bodies and slow "
        "reading, are cut in time, take little memory, and keep nobody from pushing.",
        goal=1,
        cycle="runs",
        work=crowds.connections,
        controls={
            "never cuts anybody": partial(
                crowds.connections,
                slow=100,
                deadlines={"slow_headers": 2.0},
                environment={"DOCKREG_SERVER_HEADER_TIMEOUT": "1h"},
            )
        },
        ceilings={"memory_mib": crowds.MEMORY_MIB},
    ),
)

_DISKS = (
    Campaign(
        name="full-disk",
        promise="A full disk or quota, no inodes, no descriptors, no memory: clean refusals, nothing "
        "acknowledged is harmed, reads go on, deletes and collections make room, and pushes work again "
        "without a restart.",
        goal=201,
        cycle="numbers of free blocks",
        work=others.full_disks,
        controls={"takes a full disk for success": others.forgiven_errors, "no ballast": others.no_ballast},
        missing=lambda: loops.missing() or points.missing(),
    ),
    Campaign(
        name="broken-disk",
        promise="Errors of the disk, a read-only one and a slow one: nothing acknowledged is harmed, a "
        "failed fsync is never repeated, reads go on, and the reactor does not wait.",
        goal=50,
        work=others.broken_disks,
        controls={
            "repeats a failed fsync": others.repeated_fsync,
            "sends what is not in memory": others.sent_by_waiting,
        },
        ceilings={"p99_latency_milliseconds": LATENCY_SECONDS * 1000},
        missing=faulty_disk.missing,
    ),
    Campaign(
        name="flips",
        promise="Every flipped bit is found by one pass of the scrub and healed by the next push.",
        goal=1000,
        cycle="bits",
        work=others.flipped_bits,
        controls={"trusts sizes": partial(others.flipped_bits, broken="trusts-sizes")},
    ),
    Campaign(
        name="clocks",
        promise="A clock that jumps by a day or by ten years, either way, deletes and expires nothing early.",
        goal=200,
        cycle="hundreds of ticks",
        work=others.wrong_clocks,
        controls={"believes every clock": partial(others.wrong_clocks, is_watched=False)},
    ),
)

_PROCESSES = (
    Campaign(
        name="workers",
        promise="Workers that are killed under load lose nothing acknowledged, and clients of the others do "
        "not notice.",
        goal=1000,
        cycle="kills",
        work=others.killed_workers,
        controls={"acknowledges too early": partial(others.killed_workers, broken=True)},
    ),
    Campaign(
        name="logins",
        promise="200 wrong passwords a second neither slow pulls down nor keep users out, and tell nothing "
        "by the time they take.",
        goal=1,
        cycle="minutes",
        work=others.guessed_logins,
    ),
)

_BACKUPS = (
    Campaign(
        name="backup",
        promise="A backup taken while clients push restores everything that was acknowledged before it "
        "began.",
        goal=50,
        work=as_work(backup_under_load),
        controls={"copies the database's file as it is": as_work(backup_under_load, "plain-copy")},
    ),
    Campaign(
        name="rebuild",
        promise="A server that was killed and lost its database has everything acknowledged after "
        "`dockreg rebuild-index`.",
        goal=50,
        work=as_work(rebuild_after_loss),
        controls={"does not flush the journal": as_work(rebuild_after_loss, "unflushed-journal")},
    ),
    Campaign(
        name="power-backup",
        promise="A backup that said it was done survives a power cut, and one that was cut off leaves those "
        "before it whole.",
        goal=200,
        work=as_work(power_backup),
        controls={"does not flush": as_work(power_backup, "flush-nothing")},
        missing=missing,
    ),
    *(
        Campaign(
            name=name,
            promise=f"A {name.partition('-')[2]} that is killed at any of its steps leaves things as they "
            "were, or done; repeating it ends well.",
            goal=200,
            work=as_work(partial(crash, name)),
            controls={breakage.replace("-", " "): as_work(partial(crash, name), breakage)},
        )
        for name, (_, breakage) in CRASHES.items()
    ),
)

_ALL = (*_CRASHES, *_BACKUPS, *_POWER_CUTS, *_COLLECTIONS, *_SCALE, *_DISKS, *_PROCESSES, *_LOADS)
CAMPAIGNS: dict[str, Campaign] = {each.name: each for each in _ALL}
