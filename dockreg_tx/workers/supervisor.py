"""The parent of workers: binds the sockets, holds the root, starts, watches and replaces its workers."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dockreg_tx import metrics
from dockreg_tx.certificates import CERTIFICATE_INTERVAL_SECONDS, CertificateUnusable
from dockreg_tx.listeners import StartRefused, bind, check_certificates
from dockreg_tx.logs import line_form
from dockreg_tx.server import DRAIN_SECONDS, Server, say_refusal
from dockreg_tx.settings import Settings, SettingsError, settings_of
from dockreg_tx.workers.balance import ABSENT, ConnectionCounts, shared_memory
from dockreg_tx.workers.brief import RETIRE, STOP, Brief, found_of, worker_count
from dockreg_tx.workers.process import WorkerProcess
from dockreg_tx.workers.relay import DirectRelay, EventRelay

#: A worker that served this long and died is replaced at once; the wait of others doubles up to the longest.
STEADY_SECONDS = 5.0
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0
#: Workers get this much longer to end than their clients have.
LAST_MOMENT_SECONDS = 8.0
#: A worker that is not ready by then never will be.
READY_SECONDS = 30.0
#: So many early ends in a row make the wait no longer.
_DOUBLINGS = 10
#: In force since the start of the parent, whatever the settings say when they are read again.
SETTLED = ("storage.root", "server.listen", "server.workers")

_log = Logger(namespace="dockreg")


class Nobody(Factory):
    """Never serves: the parent's ports are not read."""

    noisy = False
    protocol = Protocol


@dataclass(slots=True)
class Post:
    """A place in the crew, held by one worker after another."""

    number: int
    worker: WorkerProcess | None = None
    failures: int = 0
    retry: IDelayedCall | None = None


class Supervisor(Server):
    """The registry in several processes; this one takes no connection and opens no database."""

    def __init__(
        self, *, load: Callable[[], Settings], reactor: Any, twistd_options: Mapping[str, Any]
    ) -> None:
        super().__init__(load=load, reactor=reactor, twistd_options=twistd_options)
        self._posts = [Post(number) for number in range(1, worker_count(self._settings) + 1)]
        #: Everyone who has not ended, those included who are on their way out.
        self._alive: set[WorkerProcess] = set()
        self._users = 0
        self._was_ready = False
        self._is_replacing = False
        self._replace_again = False
        self._all_gone: Deferred[None] | None = None
        self._memory = -1
        self._relay: DirectRelay | EventRelay = EventRelay()
        self._log_form = "json"
        if self._writes_own_log:
            self._relay = DirectRelay(sys.stdout)
            self._log_form = line_form(sys.stdout, self._settings.log.format)

    def _start(self) -> None:
        self._users = self._prepare()
        self._lock.share()
        self._ports = bind(self._reactor, self._settings, Nobody())
        for text, port in zip(self._settings.server.listen, self._ports, strict=True):
            self._leave_to_workers(text, port)
        self._metrics_memory = metrics.shared_memory()
        self._metrics = metrics.SharedCounts(self._metrics_memory)
        self._serve_metrics(self._make_exposition(self._metrics.totals))
        self._memory = shared_memory(len(self._posts))
        self._counts = ConnectionCounts(self._memory)
        self._reactor.callWhenRunning(self._running)

    async def _reasons(self) -> Mapping[str, str]:
        """Ask one of the workers: they have what could fail."""
        for post in self._posts:
            if post.worker is not None and post.worker.is_ready:
                return await post.worker.reasons()
        return {"workers": "none serves"}

    def _leave_to_workers(self, text: str, port: Any) -> None:
        if not (hasattr(port, "stopReading") and hasattr(port, "fileno")):
            raise StartRefused(f"cannot listen on {text}: only one process can, set workers to 1")
        port.stopReading()

    def _running(self) -> None:
        self._handle_signals()
        self._look_after_certificate()
        for post in self._posts:
            self._man(post)

    def _look_after_certificate(self) -> None:
        """Show one that was replaced on our own listener; workers look after theirs."""
        found = self._certificates.of_endpoints.get(self._settings.server.metrics_listen)
        certificate = found or next(iter(self._certificates.directories), None)
        if certificate is not None:
            self._looking = LoopingCall(certificate.look)
            self._looking.clock = self._reactor
            self._looking.start(CERTIFICATE_INTERVAL_SECONDS)

    # --- workers come and go

    def _man(self, post: Post) -> None:
        post.retry = None
        post.worker = self._spawn(post.number, self._settings)
        post.worker.started.addCallback(lambda _: self._look_whether_ready())

    def _spawn(self, number: int, settings: Settings) -> WorkerProcess:
        brief = Brief(
            number=number,
            is_leader=number == 1,
            instance_id=self._instance_id,
            metrics_region=self._metrics.take(),
            log_form=self._log_form,
            found=found_of(settings),
        )
        worker = WorkerProcess(brief, relay=self._relay, closed=self._close_if_left, gone=self._gone)
        self._alive.add(worker)
        worker.spawn(
            self._reactor, self._memory, self._metrics_memory, [_descriptor(port) for port in self._ports]
        )
        late = self._reactor.callLater(READY_SECONDS, worker.give_up)
        worker.started.addCallback(_cancelling(late))
        return worker

    def _look_whether_ready(self) -> None:
        if not self._was_ready and all(post.worker and post.worker.is_ready for post in self._posts):
            self._was_ready = True
            self._announce(self._users, f", workers {len(self._posts)}")
            self._replaced()

    def _gone(self, worker: WorkerProcess) -> None:
        self._alive.discard(worker)
        self._metrics.give_back(worker.brief.metrics_region)
        if self._all_gone is not None:
            self._close_if_left()
            if not self._alive:
                self._all_gone.callback(None)
            return
        post = self._posts[worker.brief.number - 1]
        if post.worker is not worker:
            # It had a successor, or failed to become one.
            return
        post.worker = None
        # Or the others would leave connections to it.
        self._counts[post.number] = ABSENT
        if not self._was_ready and (worker.refusal or not worker.was_killed):
            self._fail(worker.refusal or f"{worker.name} {worker.end} before it was ready")
            return
        self._replace_lost(post, worker)

    def _replace_lost(self, post: Post, worker: WorkerProcess) -> None:
        is_steady = self._reactor.seconds() - worker.started_at_seconds >= STEADY_SECONDS
        post.failures = 0 if is_steady else post.failures + 1
        wait_seconds = backoff_seconds(post.failures)
        _log.error(
            "{name} {end}; another one starts in {seconds:.1f} s{reason}",
            name=worker.name,
            end=worker.end,
            seconds=wait_seconds,
            reason=f" ({worker.refusal})" if worker.refusal else "",
        )
        post.retry = self._reactor.callLater(wait_seconds, self._man, post)

    def _fail(self, reason: str) -> None:
        """End a server that cannot start, with status 1: twistd knows no other way once its reactor runs."""
        if self._twistd.get("nodaemon", True):
            say_refusal(reason)
        _log.critical("cannot start: {reason}", reason=reason)
        atexit.register(os._exit, 1)
        self._stop_reactor()

    # --- reloading

    def _reload(self) -> None:
        """Read the settings again, and replace all workers one by one with such as have them."""
        if self._all_gone is not None:
            return
        if self._is_replacing or not self._was_ready:
            self._replace_again = True
            return
        try:
            found = self._load()
            settings = settle(found, self._settings)
            check_certificates(self._reactor, settings)
            self._certificates.replace(settings)
        except (SettingsError, StartRefused, CertificateUnusable) as error:
            _log.error("settings not reloaded, the old ones stay in force: {error}", error=error)
            return
        if (found.storage.root, found.server.listen, found.server.workers) != (
            settings.storage.root,
            settings.server.listen,
            settings.server.workers,
        ):
            _log.warn(
                "changes of storage.root, server.listen and server.workers take effect at the next start"
            )
        self._is_replacing = True
        replacing = Deferred.fromCoroutine(self._replace_all(settings))
        replacing.addErrback(lambda failure: _log.failure("replacing workers failed", failure=failure))
        replacing.addBoth(lambda _: self._replaced())

    @property
    def _is_reloading(self) -> bool:
        return self._is_replacing or not self._was_ready

    async def _replace_all(self, settings: Settings) -> None:
        for post in self._posts:
            worker = self._spawn(post.number, settings)
            is_ready = await worker.started
            if self._all_gone is not None:
                return
            if not is_ready:
                reason = worker.refusal or f"{worker.name} {worker.end} before it was ready"
                _log.error("settings not reloaded, the old ones stay in force: {reason}", reason=reason)
                return
            # The first one shows that the settings work.
            self._settings = settings
            self._log_threshold.move(settings.log.level)
            self._relieve(post, worker)
        _log.info("settings reloaded")

    def _relieve(self, post: Post, successor: WorkerProcess) -> None:
        _cancel(post.retry)
        old, post.worker, post.retry, post.failures = post.worker, successor, None, 0
        if old is not None:
            old.order(RETIRE)

    def _replaced(self) -> None:
        was_replacing, self._is_replacing = self._is_replacing, False
        if was_replacing and self._all_gone is None:
            self.notifier.ready(self._status)
        if self._replace_again:
            self._replace_again = False
            self._reload()

    # --- stopping

    def stopService(self) -> Deferred[None]:
        """Let all workers stop accepting and end their requests (30 s at most), and close everything."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("stopping: requests in flight may end within {seconds:.0f} s", seconds=DRAIN_SECONDS)
        self._all_gone = gone = Deferred[None]()
        self.notifier.stopping("requests in flight may end")
        for post in self._posts:
            _cancel(post.retry)
        for worker in list(self._alive):
            worker.order(STOP)
        self._close_if_left()
        limit = self._reactor.callLater(DRAIN_SECONDS + LAST_MOMENT_SECONDS, self._kill_all)
        if self._alive:
            await gone
        _cancel(limit)
        await self._stop_serving_metrics()
        os.close(self._memory)
        os.close(self._metrics_memory)
        self._lock.release()
        self.notifier.fall_silent()

    def _close_if_left(self) -> None:
        """Close the sockets once nobody accepts on them: closing shuts them down for everyone."""
        if self._all_gone is not None and all(worker.is_closed for worker in self._alive):
            ports, self._ports = self._ports, []
            for port in ports:
                port.stopListening()

    def _kill_all(self) -> None:
        for worker in list(self._alive):
            worker.kill()


def settle(found: Settings, present: Settings) -> Settings:
    """Return the settings as they are found now, but for what only a new start can change."""
    return settings_of({**found.found, **{key: present.found[key] for key in SETTLED}})


def backoff_seconds(failures: int) -> float:
    """Return how long to wait before another worker takes a post on which so many ended early in a row."""
    return (
        0.0 if failures == 0 else min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 10))
    )


def _descriptor(port: IListeningPort) -> int:
    # Every port of Twisted's that listens has one; the interface does not say so.
    number: int = port.fileno()  # type: ignore[attr-defined]
    return number


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


def _cancelling(call: IDelayedCall) -> Callable[[bool], bool]:
    """Return a callback that cancels a call and passes its result on."""

    def cancel(result: bool) -> bool:
        _cancel(call)
        return result

    return cancel
