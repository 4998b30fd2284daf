"""One worker as its parent sees it: started, spoken to, listened to, and buried."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from dockreg_tx.workers.brief import (
    COUNTS_DESCRIPTOR,
    EXAMINE,
    FIRST_LISTENER_DESCRIPTOR,
    METRICS_DESCRIPTOR,
    STATUS_DESCRIPTOR,
    Brief,
    brief_line,
    read_word,
)
from dockreg_tx.workers.relay import Lines

#: What a worker runs.
MODULE = "dockreg_tx.workers"
#: Log lines are read at most this often, unless there are many.
GATHER_SECONDS = 0.005
FEW_BYTES = 4096
#: What a pipe for log lines holds, if the system grants it, and what is read of it at a time.
#: A busy worker writes half of that at once; with less room it would wait for us in the middle.
LOG_PIPE_BYTES = 1024 * 1024
#: What Twisted reads of a pipe at a time.
TWISTED_READS_BYTES = 8192
_ERROR_LIMIT_CHARACTERS = 300
#: A worker that does not say how it is by then is not well.
EXAMINATION_SECONDS = 10.0
_log = Logger(namespace="dockreg")


class WorkerProcess(ProcessProtocol):
    """A child process that serves.

    Args:
        brief: what it is told first.
        relay: takes its log, in whole lines.
        closed: called when it accepts no connections any more, though it may still serve some.
        gone: called when it has ended.
    """

    def __init__(
        self,
        brief: Brief,
        *,
        relay: Callable[[bytes], None],
        closed: Callable[[], None],
        gone: Callable[[WorkerProcess], None],
    ) -> None:
        self.brief = brief
        self.is_ready = False
        self.is_closed = False
        self.started_at_seconds = 0.0
        #: Why it does not serve, in its own words.
        self.refusal = ""
        #: How it ended.
        self.end = ""
        self.was_killed = False
        #: Fires with whether it serves.
        self.started: Deferred[bool] = Deferred()
        self._relay = relay
        self._closed = closed
        self._gone = gone
        self._lines = {1: Lines(), 2: Lines(), STATUS_DESCRIPTOR: Lines()}
        self._last_error = ""
        #: Fire with what it says of the registry's health.
        self._examinations: list[Deferred[Mapping[str, str]]] = []

    def spawn(self, reactor: Any, counts: int, metrics: int, listeners: Sequence[int]) -> None:
        """Start the process, with the descriptors of both kinds of counts and of the listening sockets."""
        self._reactor = reactor
        self.started_at_seconds = reactor.seconds()
        memory = {COUNTS_DESCRIPTOR: counts, METRICS_DESCRIPTOR: metrics}
        sockets = {**memory, **dict(enumerate(listeners, FIRST_LISTENER_DESCRIPTOR))}
        reactor.spawnProcess(
            self,
            sys.executable,
            # -P: nothing is imported from the directory that we happen to be in.
            [sys.executable, "-P", "-m", MODULE, str(self.brief.number)],
            env=_environment(os.environ),
            childFDs={0: "w", 1: "r", 2: "r", STATUS_DESCRIPTOR: "r", **sockets},
        )
        self._widen_log_pipe()

    @property
    def _log_pipe(self) -> Any:
        """What reads log lines, None when there is nothing to read any more."""
        return getattr(self.transport, "pipes", {}).get(1)

    def _widen_log_pipe(self) -> None:
        if self._log_pipe is not None:
            # There is a limit to what one user may have; less works, too.
            with suppress(OSError):
                fcntl.fcntl(self._log_pipe.fd, fcntl.F_SETPIPE_SZ, LOG_PIPE_BYTES)

    def _rest_of_log(self) -> bytes:
        """Return what else is in the pipe for log lines; of its end Twisted learns by itself."""
        try:
            return b"" if self._log_pipe is None else os.read(self._log_pipe.fd, LOG_PIPE_BYTES)
        except OSError:
            return b""

    @property
    def pid(self) -> int:
        """Process id; 0 before it is started and after its end."""
        return getattr(self.transport, "pid", None) or 0

    @property
    def name(self) -> str:
        """How the log calls it."""
        return f"worker {self.brief.number}"

    def order(self, what: str) -> None:
        """Tell it something; one that is gone does not hear it."""
        if self.transport is not None and self.pid:
            self.transport.writeToChild(0, what.encode() + b"\n")

    async def reasons(self) -> Mapping[str, str]:
        """Return why parts of the registry do not work, by their names; of a worker that ends, that."""
        answer: Deferred[Mapping[str, str]] = Deferred()
        self._examinations.append(answer)
        if len(self._examinations) == 1:
            self.order(EXAMINE)
            silent = {"workers": f"{self.name} does not answer"}
            self._late = self._reactor.callLater(EXAMINATION_SECONDS, self._examined, silent)
        return await answer

    def _examined(self, reasons: Mapping[str, str]) -> None:
        waiting, self._examinations = self._examinations, []
        if waiting and self._late.active():
            self._late.cancel()
        for each in waiting:
            each.callback(reasons)

    def kill(self) -> None:
        """End it at once; nothing acknowledged is lost by that."""
        try:
            if self.transport is not None:
                self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    def give_up(self) -> None:
        """End it because it never became ready."""
        self.refusal = f"{self.name} was not ready in time"
        self.kill()

    # --- for twisted

    def connectionMade(self) -> None:
        """Hand the brief over."""
        if self.transport is not None:
            self.transport.writeToChild(0, brief_line(self.brief))

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803
        """Take log lines, errors of the interpreter, and words."""
        if childFD == 1 and len(data) == TWISTED_READS_BYTES:
            data += self._rest_of_log()
        lines = self._lines[childFD].feed(data)
        if not lines:
            return
        if childFD == STATUS_DESCRIPTOR:
            for line in lines.splitlines():
                self._hear(read_word(line))
        elif childFD == 1:
            self._relay(lines)
            if len(data) < FEW_BYTES:
                self._let_gather()
        else:
            self._note_errors(lines)

    def _let_gather(self) -> None:
        """Leave log lines in the pipe for a moment: read one by one they cost too much."""
        if self._log_pipe is not None:
            self._log_pipe.stopReading()
            self._reactor.callLater(GATHER_SECONDS, self._read_on)

    def _read_on(self) -> None:
        if self._log_pipe is not None:
            self._log_pipe.startReading()

    def _note_errors(self, lines: bytes) -> None:
        for line in lines.decode("utf-8", "replace").splitlines():
            self._last_error = line.strip()[:_ERROR_LIMIT_CHARACTERS] or self._last_error
            if self.is_ready:
                _log.error("{name}: {line}", name=self.name, line=line)

    def _hear(self, said: Mapping[str, Any]) -> None:
        self.refusal = str(said.get("refused", self.refusal))
        if said.get("ready"):
            self.is_ready = True
            self._tell_started()
        if "reasons" in said:
            self._examined(said["reasons"])
        if said.get("closed"):
            self.is_closed = True
            self._closed()

    def _tell_started(self) -> None:
        if not self.started.called:
            self.started.callback(self.is_ready)

    def processEnded(self, reason: Failure) -> None:
        """Note how it ended."""
        signal, status = getattr(reason.value, "signal", None), getattr(reason.value, "exitCode", None)
        self.was_killed = signal is not None
        self.end = f"was killed by signal {signal}" if signal is not None else f"ended with status {status}"
        if not self.is_ready and not self.refusal and self._last_error:
            self.refusal = f"{self.name} {self.end}: {self._last_error}"
        self.is_ready = False
        self.is_closed = True
        self._tell_started()
        self._examined({"workers": f"{self.name} has ended"})
        self._gone(self)


def _environment(present: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a child finds the same modules."""
    return {**present, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
