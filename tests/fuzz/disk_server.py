"""The registry as the server puts it together, over SQLite and files, without threads and sockets."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile

from twisted.internet.task import Clock

from dockreg_tx.assembly import Surroundings, assemble
from dockreg_tx.blobs.ballast import Ballast
from dockreg_tx.blobs.gate import DiskGate
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.metrics import Counts
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.settings import load_settings
from dockreg_tx.web.exposition import Exposition
from dockreg_tx.web.site import RegistrySite
from tests.blobs.roots import make_root
from tests.fuzz.server import Wire
from tests.web.wire import WireAnswer, answers_in

#: A file system in memory: what the histories test is logic, and they sync thousands of times.
_FAST = "/dev/shm" if os.path.isdir("/dev/shm") else None


class DiskServer:
    """A registry in a root of its own; anonymous clients may do everything."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="dockreg-fuzz-", dir=_FAST)
        self._layout = make_root(os.path.join(self._directory, "root"))
        self._ids = itertools.count(1)
        self._seconds = itertools.count(1_000_000)
        self._clock = Clock()
        self._start()

    def _start(self) -> None:
        layout = self._layout
        self._records = InlineSqliteRecords(
            path=layout.database, journal_dir=layout.journal, lock_path=layout.write_lock
        )
        self._records.start()
        settings = load_settings(
            config_path=None,
            environ={"DOCKREG_ACCESS_ANONYMOUS_GRANTS": '["*:**"]'},
            options={"root": layout.root},
        )
        blocking = InlineBlocking()
        registry = assemble(
            settings,
            layout,
            self._records,
            Surroundings(
                clock=self._clock,
                now=lambda: float(next(self._seconds)),
                new_id=self._new_id,
                random_bytes=lambda count: next(self._ids).to_bytes(count, "little"),
                instance_id="fuzz",
                secret=b"secret",
                storage=blocking,
                gate=DiskGate(directories=[layout.uploads], new_id=self._new_id),
                ballast=Ballast(layout=layout, size_bytes=0),
                passwords=blocking,
                auditing=blocking,
                parsing=blocking,
                counts=Counts(),
                exposition=Exposition(totals=list, blocking=blocking, version="fuzz"),
            ),
        )
        self._site = RegistrySite(registry.resource, clock=self._clock, new_request_id=self._new_id)

    def _new_id(self) -> str:
        return f"id-{next(self._ids)}"

    def restart(self) -> None:
        """Stop and start again: only what is on disk stays."""
        self._records.close()
        self._start()

    def destroy(self) -> None:
        """Stop, and remove the root."""
        self._records.close()
        shutil.rmtree(self._directory)

    def call(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        is_chunked: bool = False,
    ) -> WireAnswer:
        """Return the answer to a request, which must come before any time has passed."""
        wire = Wire(self._site, self._clock)
        wire.send(_head(method, target, headers or {}, None if is_chunked else len(body)))
        if is_chunked:
            half = len(body) // 2
            for piece in (body[:half], body[half:]):
                if piece:
                    wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            wire.send(b"0\r\n\r\n")
        elif body:
            wire.send(body)
        (answer,) = answers_in(wire.received, heads_only=method == "HEAD")
        wire.lose()
        return answer

    def break_off(self, method: str, target: str, body: bytes, *, headers: dict[str, str]) -> None:
        """Send a request whose client goes away after ``body``, with more announced."""
        wire = Wire(self._site, self._clock)
        wire.send(_head(method, target, headers, len(body) + 10))
        if body:
            wire.send(body)
        wire.lose()


def _head(method: str, target: str, headers: dict[str, str], length: int | None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"{method} {target} HTTP/1.1", "Host: h", framing]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
