"""Listings: the tags of a repository, and the repositories that the caller may pull."""

from __future__ import annotations

from dataclasses import dataclass

from dockreg_tx.oci.errors import NameUnknown
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.pagination import Page
from dockreg_tx.ports import BrowseRecords, May, PullRecords

#: Names fetched at a time while filtering the catalog.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Listing:
    """One page, in byte order; ``has_more`` tells whether another follows."""

    names: list[str]
    has_more: bool


@dataclass(frozen=True, kw_only=True)
class Browse:
    """The use cases of listing."""

    records: BrowseRecords
    pull: PullRecords

    async def tags(self, repository: RepositoryName, page: Page) -> Listing:
        """Return a page of tags.

        Raises:
            NameUnknown: nothing was ever stored in the repository.
        """
        limit = None if page.limit is None else page.limit + 1
        names = await self.records.tags(repository, page.after, limit)
        if not names and not await self.pull.repository_exists(repository):
            raise NameUnknown(str(repository))
        return _cut(names, page.limit)

    async def catalog(self, page: Page, *, may: May) -> Listing:
        """Return a page of the repositories that the caller may pull."""
        limit = _BATCH if page.limit is None else page.limit
        wanted = limit + 1
        names: list[str] = []
        after = page.after
        while len(names) < wanted:
            batch = await self.records.repositories(after, _BATCH)
            names += [name for name in batch if may("pull", RepositoryName(name))]
            if len(batch) < _BATCH:
                break
            after = batch[-1]
        return _cut(names, limit)


def _cut(names: list[str], limit: int | None) -> Listing:
    if limit is None or len(names) <= limit:
        return Listing(names, False)
    # A page of nothing (n=0) has no last entry to go on from, so it never announces more.
    return Listing(names[:limit], limit > 0)
