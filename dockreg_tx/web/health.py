"""Signs of life for load balancers and orchestrators; none needs credentials, none tells a secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from dockreg_tx.oci.errors import RegistryError, StoreUnavailable
from dockreg_tx.web.answers import Answer, json_answer
from dockreg_tx.web.calls import Call

#: Does nothing when a part works, else raises StoreUnavailable.
Check = Callable[[], Awaitable[None]]


class Health:
    """``/``, ``/healthz``, ``/readyz`` and ``/debug/health``."""

    def __init__(self, *, checks: dict[str, Check]) -> None:
        self._checks = checks

    async def root(self, call: Call) -> Answer:
        """Answer 200 with a line for people who open the address in a browser."""
        text = "dockreg, a container registry. Its API is under /v2/.\n"
        return Answer(
            200, (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-cache")), text.encode()
        )

    async def alive(self, call: Call) -> Answer:
        """Answer 200 while the process runs its reactor."""
        return json_answer({"status": "ok"})

    async def ready(self, call: Call) -> Answer:
        """Answer 200 when every part works.

        Raises:
            StoreUnavailable: naming the parts that do not.
        """
        reasons = await self.reasons()
        if reasons:
            raise StoreUnavailable(
                f"not ready: {', '.join(reasons)} cannot be used",
                {"failed": list(reasons), "reasons": reasons},
            )
        return json_answer({"status": "ok"})

    async def debug(self, call: Call) -> Answer:
        """Answer as distribution's debug server does: an empty object, or 503 with what fails and why."""
        return debug_answer(await self.reasons())

    async def reasons(self) -> dict[str, str]:
        """Return why parts do not work, by their names; empty when all do."""
        return {name: reason for name, check in self._checks.items() if (reason := await _reason(check))}


def debug_answer(reasons: Mapping[str, str]) -> Answer:
    """Return what ``/debug/health`` says of these reasons."""
    return json_answer(dict(reasons), status=503 if reasons else 200)


async def _reason(check: Check) -> str:
    """Return why a check fails, nothing when it passes."""
    try:
        await check()
    except RegistryError as error:
        return error.message
    return ""
