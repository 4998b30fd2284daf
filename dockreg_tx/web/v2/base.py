"""``/v2/``: tells that this is a registry, and whether credentials are good (spec: end-1)."""

from __future__ import annotations

from dockreg_tx.web.answers import Answer, json_answer
from dockreg_tx.web.calls import Call


class Base:
    """The root of the API."""

    async def get(self, call: Call) -> Answer:
        """Answer an empty JSON object; the guard has done all there is to do."""
        return json_answer({})
