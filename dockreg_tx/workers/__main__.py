"""``python -m dockreg_tx.workers NUMBER``: a worker; only a parent can start it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any

from twisted.logger import Logger, globalLogBeginner

from dockreg_tx.listeners import StartRefused
from dockreg_tx.logs import Threshold, line_observer
from dockreg_tx.root import RootUnusable
from dockreg_tx.settings import SettingsError
from dockreg_tx.workers.brief import STATUS_DESCRIPTOR, Brief, read_brief, word
from dockreg_tx.workers.member import Worker

ORDERS_DESCRIPTOR = 0


def main() -> None:
    """Serve until the parent says stop, or is gone."""
    for number in (signal.SIGINT, signal.SIGHUP):
        # A terminal sends them to the whole group; the parent decides.
        signal.signal(number, signal.SIG_IGN)
    orders = received_lines()
    brief = read_brief(next(orders, b""))
    say = partial(tell_parent, STATUS_DESCRIPTOR)
    begin_logging(brief)
    try:
        run(brief, orders, say)
    except (RootUnusable, StartRefused, SettingsError) as error:
        say(word(refused=str(error)))
        sys.exit(1)
    except Exception as error:
        say(word(refused=f"worker {brief.number} cannot start: {type(error).__name__}: {error}"))
        raise


def begin_logging(brief: Brief) -> None:
    """Write log lines to the standard output, which the parent reads."""
    log = brief.settings().log
    who = {"worker": brief.number, "pid": os.getpid()}
    observer = line_observer(sys.stdout, form=brief.log_form, threshold=Threshold(log.level), worker=who)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def run(brief: Brief, orders: Iterator[bytes], say: Callable[[bytes], None]) -> None:
    """Run the reactor with a worker in it."""
    from twisted.internet import reactor as installed  # noqa: PLC0415, TID251 - a program of its own

    reactor: Any = installed
    worker = Worker(brief, reactor=reactor, say=say)
    reactor.addSystemEventTrigger("before", "shutdown", worker.stopService)
    worker.start()

    def obey(order: bytes) -> None:
        reactor.callFromThread(worker.obey, order.decode())

    Thread(target=follow, args=(orders, obey), name="orders", daemon=True).start()
    reactor.run(installSignalHandlers=False)


def follow(orders: Iterator[bytes], obey: Callable[[bytes], None]) -> None:
    """Pass orders on; when they end the parent is dead, and so are we, even if the reactor is stuck.

    Nothing acknowledged is lost by that, and a new server can have the root at once.
    """
    try:
        for order in orders:
            obey(order)
    finally:
        os._exit(1)


def received_lines() -> Iterator[bytes]:
    """Yield what the parent sends, line by line, until it is gone. Blocks."""
    rest = b""
    while data := os.read(ORDERS_DESCRIPTOR, 65536):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def tell_parent(descriptor: int, said: bytes) -> None:
    """Tell the parent something; that it is gone is noticed elsewhere."""
    with suppress(OSError):
        os.write(descriptor, said)


if __name__ == "__main__":
    try:
        main()
    except Exception:  # noqa: BLE001 - the log is where the parent reads
        Logger(namespace="dockreg").failure("the worker failed")
        sys.exit(1)
