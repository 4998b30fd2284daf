"""``/v2/_oci/ext/discover``: tells which extensions of the specification are offered."""

from __future__ import annotations

from dockreg_tx.web.answers import Answer, json_answer
from dockreg_tx.web.calls import Call

_DISCOVERY = {
    "name": "_oci",
    "url": "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md",
    "description": "discovery of extensions",
    "endpoints": ["_oci/ext/discover"],
}


class Extensions:
    """The extensions of the whole registry."""

    async def discover(self, call: Call) -> Answer:
        """List them."""
        return json_answer({"extensions": [_DISCOVERY]})
