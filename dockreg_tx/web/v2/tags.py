"""``/v2/<name>/tags/list`` (spec: end-8)."""

from __future__ import annotations

from dockreg_tx.oci.pagination import next_link, parse_page
from dockreg_tx.registry.browse import Browse
from dockreg_tx.web.answers import Answer, json_answer
from dockreg_tx.web.calls import Call
from dockreg_tx.web.links import Links

#: Largest page that ``n`` can ask for; a greater n is lowered to it, with a Link to the rest.
PAGE_MAXIMUM = 10_000


class Tags:
    """The tags of a repository."""

    def __init__(self, *, browse: Browse, links: Links) -> None:
        self._browse = browse
        self._links = links

    async def get(self, call: Call) -> Answer:
        """List tags in byte order: all of them, or a page."""
        page = parse_page(call.query.first("n"), call.query.first("last"), maximum=PAGE_MAXIMUM, default=None)
        listing = await self._browse.tags(call.repository, page)
        headers = []
        if listing.has_more and page.limit is not None:
            path = self._links.to(f"/v2/{call.repository}/tags/list")
            headers.append(("Link", next_link(path, page.limit, listing.names[-1])))
        return json_answer({"name": str(call.repository), "tags": listing.names}, headers=headers)
