"""Listings: tags and referrers of a repository, and the repositories that the caller may pull."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import NameUnknown
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.pagination import Page
from dockreg_tx.ports import BrowseRecords, May, PullRecords, ReferrerRecord

#: Names fetched at a time while filtering the catalog.
_BATCH = 1000
#: Annotations on one page of referrers; oras and containerd read at most 4 MiB of an index.
_ANNOTATIONS_LIMIT_CHARACTERS = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReferrerListing:
    """One page of referrers, by digest; ``has_more`` tells whether another follows."""

    referrers: list[ReferrerRecord]
    has_more: bool


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

    async def referrers(
        self, repository: RepositoryName, subject: Digest, artifact_types: Sequence[str], page: Page
    ) -> ReferrerListing:
        """Return a page of the manifests whose subject this is (spec: "Listing Referrers").

        Neither repository nor subject need exist: then there are none, which is no error.

        Args:
            repository: where to look.
            subject: what is referred to.
            artifact_types: these types only, unless empty.
            page: with a limit.
        """
        limit = page.limit or 0
        found = await self.records.referrers(repository, subject, artifact_types, page.after, limit + 1)
        fitting = _fitting(found[:limit])
        return ReferrerListing(found[:fitting], limit > 0 and len(found) > fitting)

    async def catalog(self, page: Page, *, may: May | None) -> Listing:
        """Return a page of the repositories that the caller may pull; all count when ``may`` is None."""
        limit = _BATCH if page.limit is None else page.limit
        wanted = limit + 1
        names: list[str] = []
        after = page.after
        # Most callers may see the most of it; the others' pages are gathered from longer stretches.
        batch_size = min(wanted, _BATCH)
        while len(names) < wanted:
            batch = await self.records.repositories(after, batch_size)
            names += [name for name in batch if may is None or may("pull", RepositoryName(name))]
            if len(batch) < batch_size:
                break
            after, batch_size = batch[-1], _BATCH
        return _cut(names, limit)


def _cut(names: list[str], limit: int | None) -> Listing:
    if limit is None or len(names) <= limit:
        return Listing(names, False)
    # A page of nothing (n=0) has no last entry to go on from, so it never announces more.
    return Listing(names[:limit], limit > 0)


def _fitting(referrers: list[ReferrerRecord]) -> int:
    """Return how many of these make a page that clients read: at least one, or the next would never come."""
    characters = 0
    for count, referrer in enumerate(referrers):
        characters += sum(len(key) + len(value) for key, value in referrer.annotations.items())
        if count > 0 and characters > _ANNOTATIONS_LIMIT_CHARACTERS:
            return count
    return len(referrers)
