"""``/v2/<name>/referrers/<digest>`` (spec: end-12)."""

from __future__ import annotations

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.manifests import OCI_INDEX
from dockreg_tx.oci.pagination import next_link, parse_page
from dockreg_tx.ports import ReferrerRecord
from dockreg_tx.registry.browse import Browse
from dockreg_tx.web.answers import Answer, json_answer
from dockreg_tx.web.calls import Call
from dockreg_tx.web.links import Links

#: Large, since some clients do not follow the Link.
PAGE_MAXIMUM = 1000


class Referrers:
    """What refers to a manifest."""

    def __init__(self, *, browse: Browse, links: Links) -> None:
        self._browse = browse
        self._links = links

    async def get(self, call: Call) -> Answer:
        """List referrers as an image index; for an unknown subject an empty one."""
        subject = Digest.parse(call.parts["digest"])
        # A '+' that the client did not escape arrives as a space, which no media type has.
        wanted = [text.replace(" ", "+") for text in call.query.all("artifactType") if text]
        page = parse_page(
            call.query.first("n"), call.query.first("last"), maximum=PAGE_MAXIMUM, default=PAGE_MAXIMUM
        )
        listing = await self._browse.referrers(call.repository, subject, wanted, page)
        headers = [("OCI-Filters-Applied", "artifactType")] if wanted else []
        if listing.has_more and page.limit is not None:
            path = self._links.to(f"/v2/{call.repository}/referrers/{subject}")
            last = str(listing.referrers[-1].digest)
            extra = [("artifactType", text) for text in wanted]
            headers.append(("Link", next_link(path, page.limit, last, extra)))
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [_descriptor(referrer) for referrer in listing.referrers],
        }
        return json_answer(index, headers=headers, content_type=OCI_INDEX)


def _descriptor(referrer: ReferrerRecord) -> dict[str, object]:
    descriptor: dict[str, object] = {
        "mediaType": referrer.media_type,
        "digest": str(referrer.digest),
        "size": referrer.size_bytes,
    }
    if referrer.artifact_type:
        descriptor["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        descriptor["annotations"] = referrer.annotations
    return descriptor
