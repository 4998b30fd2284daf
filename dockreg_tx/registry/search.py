"""Finding repositories by a part of their name."""

from __future__ import annotations

from dataclasses import dataclass

from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.ports import BrowseRecords, May

#: Names fetched at a time.
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Search:
    """The use case of searching."""

    records: BrowseRecords

    async def repositories(self, text: str, limit: int, *, may: May) -> list[str]:
        """Return the first names in byte order that contain ``text`` and that the caller may pull.

        Args:
            text: any case, as names have lower case only; empty finds every name.
            limit: most names to return.
            may: tells what the caller may do.
        """
        part = text.lower()
        found: list[str] = []
        after = ""
        while len(found) < limit:
            batch = await self.records.repositories(after, _BATCH)
            # The cheap test first: most names do not contain the text.
            found += [name for name in batch if part in name and may("pull", RepositoryName(name))]
            if len(batch) < _BATCH:
                break
            after = batch[-1]
        return found[:limit]
