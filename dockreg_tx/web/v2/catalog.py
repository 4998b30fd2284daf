"""``/v2/_catalog``: the repositories that the caller may pull (an extension of Docker's)."""

from __future__ import annotations

from dockreg_tx.oci.pagination import next_link, parse_page
from dockreg_tx.registry.browse import Browse
from dockreg_tx.web.answers import Answer, json_answer
from dockreg_tx.web.calls import Call
from dockreg_tx.web.links import Links

#: Page size without ``n``, as in distribution; further pages follow by Link.
PAGE_DEFAULT = 100
PAGE_MAXIMUM = 1000


class Catalog:
    """The repositories."""

    def __init__(self, *, browse: Browse, links: Links) -> None:
        self._browse = browse
        self._links = links

    async def get(self, call: Call) -> Answer:
        """List a page of repositories in byte order."""
        page = parse_page(
            call.query.first("n"), call.query.first("last"), maximum=PAGE_MAXIMUM, default=PAGE_DEFAULT
        )
        listing = await self._browse.catalog(page, may=None if call.lists_everything else call.may_list)
        headers = []
        if listing.has_more and page.limit is not None:
            link = next_link(self._links.to("/v2/_catalog"), page.limit, listing.names[-1])
            headers.append(("Link", link))
        return json_answer({"repositories": listing.names}, headers=headers)
