"""What a client accepts of a tag that means an index: clients without indexes get the image they can run.

The spec's own page on content negotiation is unfinished; this follows what registries do for old clients.
"""

from __future__ import annotations

import json

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import DigestInvalid
from dockreg_tx.oci.manifests import DOCKER_LIST, DOCKER_MANIFEST, INDEX_MEDIA_TYPES, OCI_INDEX, OCI_MANIFEST

#: The image that an index offers to clients that read no index, by the index's own family.
_IMAGE_TYPE_OF_INDEX = {OCI_INDEX: OCI_MANIFEST, DOCKER_LIST: DOCKER_MANIFEST}
#: The platform that such clients are taken to run on.
_PLATFORM = ("linux", "amd64")


def accepted_types(accept: str | None) -> frozenset[str]:
    """Return the media types of an Accept header, lower-cased, those refused by ``q=0`` left out."""
    types = set()
    for item in (accept or "").split(","):
        media_type, *parameters = [part.strip().lower() for part in item.split(";")]
        if media_type and not any(_is_refusal(parameter) for parameter in parameters):
            types.add(media_type)
    return frozenset(types)


def wants_image_of(index_type: str, accept: str | None) -> bool:
    """Tell whether a client lists the image type that goes with an index, but no index and no wildcard."""
    if index_type not in _IMAGE_TYPE_OF_INDEX:
        return False
    types = accepted_types(accept)
    if not types or types & INDEX_MEDIA_TYPES or types & {"*/*", "application/*", "application/json"}:
        return False
    return _IMAGE_TYPE_OF_INDEX[index_type] in types


def image_for_plain_clients(index: bytes, index_type: str) -> Digest | None:
    """Return the digest of the linux/amd64 image of an index that was valid when it was stored, or None."""
    wanted = _IMAGE_TYPE_OF_INDEX.get(index_type)
    for entry in json.loads(index)["manifests"]:
        platform = entry.get("platform") or {}
        if entry["mediaType"] == wanted and (platform.get("os"), platform.get("architecture")) == _PLATFORM:
            try:
                return Digest.parse_supported(entry["digest"])
            except DigestInvalid:
                return None
    return None


def _is_refusal(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in {"", "0", "0."} and value.strip() != ""
