"""``/v1/_ping`` and ``/v1/search``: what is left of Docker's first API, for docker and podman search."""

from __future__ import annotations

from dockreg_tx.oci.pagination import parse_page
from dockreg_tx.registry.search import Search
from dockreg_tx.web.answers import Answer, json_answer
from dockreg_tx.web.calls import Call

#: How many names without ``n``, and at most; the clients' own bounds.
RESULTS_DEFAULT = 25
RESULTS_MAXIMUM = 100


class SearchIndex:
    """The index of names."""

    def __init__(self, *, search: Search) -> None:
        self._search = search

    async def ping(self, call: Call) -> Answer:
        """Tell docker that this registry has an index of its own."""
        return json_answer({"standalone": True})

    async def get(self, call: Call) -> Answer:
        """List repositories whose names contain ``q``, among those that the caller may pull."""
        text = call.query.first("q") or ""
        page = parse_page(call.query.first("n"), None, maximum=RESULTS_MAXIMUM, default=RESULTS_DEFAULT)
        names = await self._search.repositories(text, page.limit or 0, may=call.may_list)
        results = [_result(name) for name in names]
        return json_answer({"query": text, "num_results": len(results), "results": results})


def _result(name: str) -> dict[str, object]:
    """Return a result with every field that the clients decode."""
    return {
        "name": name,
        "description": "",
        "star_count": 0,
        "is_official": False,
        "is_automated": False,
    }
