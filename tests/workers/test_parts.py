"""Balance, backoff, briefs and relayed lines."""

from __future__ import annotations

import io
import json
import os
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.settings import Settings, load_settings
from dockreg_tx.workers.balance import (
    ABSENT,
    STEP_BACK_SECONDS,
    ConnectionCounts,
    accept_fairly,
    shared_memory,
)
from dockreg_tx.workers.brief import (
    STATUS_DESCRIPTOR,
    Brief,
    brief_line,
    found_of,
    read_brief,
    read_word,
    word,
    worker_count,
)
from dockreg_tx.workers.process import EXAMINATION_SECONDS, WorkerProcess
from dockreg_tx.workers.relay import DirectRelay, EventRelay, Lines
from dockreg_tx.workers.supervisor import LONGEST_WAIT_SECONDS, backoff_seconds, settle


class FakePort:
    """Counts what a port of Twisted's would do."""

    descriptor = 7
    numberAccepts = 100  # noqa: N815

    def __init__(self) -> None:
        self.accepted = 0
        self.is_reading = True

    def doRead(self) -> None:
        self.accepted += self.numberAccepts

    def fileno(self) -> int:
        return self.descriptor

    def stopReading(self) -> None:
        self.is_reading = False

    def startReading(self) -> None:
        self.is_reading = True


class BalanceTests(SynchronousTestCase):
    def counts(self) -> ConnectionCounts:
        """Return the counts of three workers, seen by two processes as it were."""
        descriptor = shared_memory(3)
        self.addCleanup(os.close, descriptor)
        self.other = ConnectionCounts(descriptor)
        return ConnectionCounts(descriptor)

    def test_ahead(self) -> None:
        """A worker is ahead when one that serves has fewer connections."""
        counts = self.counts()
        counts[1] = 1
        self.assertFalse(counts.is_ahead(1))
        self.other[2] = 1
        self.assertFalse(counts.is_ahead(1))
        self.other[2] = 0
        self.assertTrue(counts.is_ahead(1))
        self.other[2] = ABSENT
        self.assertFalse(counts.is_ahead(1))

    def test_step_back(self) -> None:
        """Who is ahead leaves a connection alone for a moment, and takes it when nobody else has."""
        port, clock, ahead = FakePort(), Clock(), [False]
        accept_fairly(port, clock, lambda: ahead[0])
        port.doRead()
        self.assertEqual(1, port.accepted)
        ahead[0] = True
        port.doRead()
        self.assertEqual((1, False), (port.accepted, port.is_reading))
        clock.advance(STEP_BACK_SECONDS)
        self.assertTrue(port.is_reading)
        port.doRead()
        self.assertEqual(2, port.accepted)

    def test_closed_meanwhile(self) -> None:
        """A port that is closed while it steps back stays closed."""
        port, clock = FakePort(), Clock()
        accept_fairly(port, clock, lambda: True)
        port.doRead()
        port.descriptor = -1
        clock.advance(STEP_BACK_SECONDS)
        self.assertFalse(port.is_reading)


def brief_for(number: int, settings: Settings) -> Brief:
    """Return what a worker that leads nobody is told."""
    return Brief(
        number=number,
        is_leader=False,
        instance_id="x",
        metrics_region=5,
        log_form="text",
        found=found_of(settings),
    )


class BriefTests(SynchronousTestCase):
    def settings(self, **options: object) -> Any:
        """Return settings with these options."""
        return load_settings(config_path=None, environ={}, options=options)

    def test_round_trip(self) -> None:
        """A worker gets the very settings of its parent."""
        settings = self.settings(listen=["tcp:1", "tcp:2"], workers="3")
        received = read_brief(brief_line(brief_for(2, settings)))
        self.assertEqual(settings, received.settings())
        self.assertEqual((2, False, "x"), (received.number, received.is_leader, received.instance_id))

    def test_words(self) -> None:
        """A word arrives, nonsense does not."""
        self.assertEqual({"ready": True}, read_word(word(ready=True)))
        self.assertEqual({}, read_word(b"nonsense"))
        self.assertEqual({}, read_word(b"[]"))

    def test_count(self) -> None:
        """``auto`` is one worker for each core."""
        self.assertEqual(3, worker_count(self.settings(workers="3")))
        self.assertEqual(len(os.sched_getaffinity(0)), worker_count(self.settings(workers="auto")))

    def test_settled(self) -> None:
        """What only a start can change stays, everything else is as it is found."""
        before = self.settings(root="/a", listen=["tcp:1"], workers="2", anonymous="none")
        found = self.settings(root="/b", listen=["tcp:2"], workers="4", anonymous="pull")
        settled = settle(found, before)
        self.assertEqual(before.storage.root, settled.storage.root)
        self.assertEqual(before.server, settled.server)
        self.assertEqual("pull", settled.access.anonymous)

    def test_backoff(self) -> None:
        """The first replacement comes at once; then the wait doubles, up to a limit."""
        waits = [backoff_seconds(failures) for failures in range(5)]
        self.assertEqual([0.0, 0.1, 0.2, 0.4, 0.8], waits)
        self.assertEqual(LONGEST_WAIT_SECONDS, backoff_seconds(1000))


class Spawner(Clock):
    """A clock and a transport: keeps what a child would have been told."""

    pid = 4711

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes] = []

    def spawnProcess(self, process: WorkerProcess, *args: object, **options: object) -> None:
        process.makeConnection(cast("Any", self))

    def writeToChild(self, child_descriptor: int, data: bytes) -> None:
        self.told.append(data)


class ExaminationTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Start a worker that only listens."""
        settings = load_settings(config_path=None, environ={}, options={"root": "/r"})

        def nothing(*args: object) -> None:
            """Nobody listens."""

        self.spawner = Spawner()
        self.worker = WorkerProcess(brief_for(1, settings), relay=nothing, closed=nothing, gone=nothing)
        self.worker.spawn(self.spawner, 7, 8, [])
        self.spawner.told.clear()
        self.asked = [Deferred.fromCoroutine(self.worker.reasons()) for _ in range(2)]

    def say(self, **fields: object) -> None:
        """Be the worker."""
        self.worker.childDataReceived(STATUS_DESCRIPTOR, word(**fields))

    def results(self) -> list[object]:
        """Return what those who asked were told."""
        return [self.successResultOf(each) for each in self.asked]

    def test_answer(self) -> None:
        """Those who ask at the same time cost one examination, and all learn what was found."""
        self.assertEqual([b"examine\n"], self.spawner.told)
        self.say(reasons={"disk": "full"})
        self.assertEqual([{"disk": "full"}] * 2, self.results())
        self.assertEqual([], self.spawner.getDelayedCalls())
        again = Deferred.fromCoroutine(self.worker.reasons())
        self.say(reasons={})
        self.assertEqual({}, self.successResultOf(again))

    def test_silence(self) -> None:
        """A worker that does not answer is not well; its late answer harms nobody."""
        self.spawner.advance(EXAMINATION_SECONDS)
        self.assertEqual([{"workers": "worker 1 does not answer"}] * 2, self.results())
        self.say(reasons={})

    def test_end(self) -> None:
        """A worker that ends while it is asked is told of."""
        self.worker.processEnded(Failure(ProcessDone(0)))
        self.assertEqual([{"workers": "worker 1 has ended"}] * 2, self.results())


class RelayTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Only whole lines come out, whatever the pieces were."""
        lines = Lines()
        self.assertEqual(
            [b"", b"one\n", b"two\nthree\n", b""],
            [lines.feed(piece) for piece in (b"on", b"e\ntw", b"o\nthree\nfo", b"ur")],
        )

    def test_direct(self) -> None:
        """Lines are written as they are; a terminal that is gone stops nothing."""
        out = io.StringIO()
        DirectRelay(out)(b"one\ntwo\n")
        self.assertEqual("one\ntwo\n", out.getvalue())
        out.close()
        DirectRelay(out)(b"three\n")

    def test_events(self) -> None:
        """A JSON line becomes an event of its level and logger again; anything else a warning."""
        seen: list[dict[str, Any]] = []
        note = cast("ILogObserver", seen.append)
        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        said = {"level": "error", "logger": "dockreg.access", "worker": 1, "pid": 7, "msg": "{x}"}
        access = '{"level": "info", "logger": "dockreg.access", "worker": 1, "pid": 7, "status": 200}'
        EventRelay()(f"{json.dumps(said)}\n{access}\nnonsense\n".encode())
        self.assertEqual(
            [
                (LogLevel.error, "dockreg.access", "[worker 1 pid 7] {x}"),
                (LogLevel.info, "dockreg.access", access),
                (LogLevel.warn, "dockreg", "nonsense"),
            ],
            [(each["log_level"], each["log_namespace"], each["line"]) for each in seen],
        )
