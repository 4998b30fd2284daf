"""Pages of a listing ("Listing Tags"): the ``n`` and ``last`` of a request, and the Link to the next page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from dockreg_tx.oci.errors import PageSizeInvalid

_DIGITS = re.compile(r"[0-9]+")
#: Longer than any name: what stands beyond cannot change where it sorts.
_AFTER_LIMIT_CHARACTERS = 512
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Page:
    """Up to ``limit`` entries (None: all) that sort strictly after ``after``, which need not exist."""

    limit: int | None
    after: str


def parse_page(n: str | None, last: str | None, *, maximum: int, default: int | None) -> Page:
    """Return the page that a request asks for.

    Args:
        n: most entries wanted; 0 is an empty page.
        last: the last entry of the page before.
        maximum: larger ``n`` are cut to it.
        default: the limit without ``n``, None for everything.

    Raises:
        PageSizeInvalid: ``n`` is not a whole number of 0 or more.
    """
    # Half a surrogate pair cannot go to a database; its replacement sorts after every name as well.
    after = _SURROGATE.sub("\ufffd", (last or "")[:_AFTER_LIMIT_CHARACTERS])
    if n is None:
        return Page(default, after)
    if _DIGITS.fullmatch(n) is None:
        raise PageSizeInvalid(n)
    significant = n.lstrip("0")
    if len(significant) > len(str(maximum)):
        return Page(maximum, after)
    return Page(min(int(significant or "0"), maximum), after)


def next_link(path: str, page_limit: int, last: str, extra: Iterable[tuple[str, str]] = ()) -> str:
    """Return the Link header to the page after ``last``.

    Args:
        path: of the listing, not percent-encoded, or its absolute URL.
        page_limit: the ``n`` of the next page.
        last: the last entry of this page.
        extra: other query pairs to keep, such as the ``artifactType`` of a filter.
    """
    query = urlencode(
        [("n", str(page_limit)), ("last", last), *extra], quote_via=quote, safe="", errors="replace"
    )
    return f'<{quote(path, safe="/:[]", errors="replace")}?{query}>; rel="next"'
