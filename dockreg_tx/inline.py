"""Runs coroutines to their end in one go: for the ``dockreg`` command, and before a fork."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_inline(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what the coroutine returns.

    Raises:
        RuntimeError: it waited for something; only a reactor could go on with it.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine that must not wait has waited")
