"""Descriptors (image-spec, "OCI Content Descriptors"): what a manifest says about content that it names."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import DigestInvalid, ManifestInvalid

#: The widest number that every client and SQLite hold.
SIZE_LIMIT_BYTES = 2**63 - 1

#: Media types of layers that clients may leave out of the registry, for legal reasons.
NONDISTRIBUTABLE = frozenset(
    {
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    }
)
_FIELDS = frozenset(
    {"mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform"}
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Content by type, digest and size; the content need not exist."""

    media_type: str
    digest: Digest
    size_bytes: int
    artifact_type: str = ""
    urls: tuple[str, ...] = ()

    @property
    def is_nondistributable(self) -> bool:
        """Whether clients may leave the content out of the registry, for legal reasons."""
        return self.media_type in NONDISTRIBUTABLE


def nondistributable_layers(content: bytes | None) -> set[str]:
    """Return the digests of a manifest's layers that clients may leave out; none where it cannot be read."""
    try:
        layers = json.loads(content or b"{}").get("layers", [])
        return {layer["digest"] for layer in layers if layer["mediaType"] in NONDISTRIBUTABLE}
    except (ValueError, AttributeError, KeyError, TypeError):
        # A damaged copy: whoever looks at the rows says so.
        return set()


def parse_descriptor(value: object, path: str) -> Descriptor:
    """Return the descriptor that a JSON value spells; unknown fields are accepted.

    Args:
        value: what the JSON reader returned.
        path: where the value stands, for messages: ``$.layers[3]``.

    Raises:
        ManifestInvalid: a field is missing or wrong; the message names its path.
    """
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{path} must be an object")
    refuse_lookalikes(value, _FIELDS, path)
    media_type = optional_text(value, "mediaType", path)
    if not media_type:
        raise ManifestInvalid(f"{path}.mediaType must be a media type")
    parse_annotations(value, path)
    return Descriptor(
        media_type=media_type,
        digest=_digest(value, path),
        size_bytes=_size_bytes(value, path),
        artifact_type=optional_text(value, "artifactType", path),
        urls=_urls(value, path),
    )


def optional_text(document: Mapping[str, object], field: str, path: str) -> str:
    """Return a text field of a JSON object, empty when it is absent or null.

    Raises:
        ManifestInvalid: the field is no text, or not Unicode.
    """
    value = document.get(field)
    return "" if value is None else _text(value, f"{path}.{field}")


def parse_annotations(document: Mapping[str, object], path: str) -> dict[str, str]:
    """Return the annotations of a JSON object, empty when they are absent or null.

    Raises:
        ManifestInvalid: they do not map text to text.
    """
    value = document.get("annotations")
    if value is None:
        return {}
    where = f"{path}.annotations"
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{where} must be an object")
    return {_text(key, where): _text(text, where) for key, text in value.items()}


def refuse_lookalikes(document: Collection[str], fields: Collection[str], path: str) -> None:
    """Refuse keys that differ from a known field in case only.

    Clients written in Go match keys without regard to case: they would read ``Layers`` as ``layers`` and run
    content that nobody here has checked.

    Raises:
        ManifestInvalid: there is such a key.
    """
    strangers = [key for key in document if key not in fields]
    folded = {field.casefold() for field in fields} if strangers else ()
    for key in strangers:
        if key.casefold() in folded:
            raise ManifestInvalid(f"{path} has the field {key!a}, spelled with other letter case")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ManifestInvalid(f"{where} must be text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        # "\ud800" is valid JSON, and cannot be stored or sent.
        raise ManifestInvalid(f"{where} holds half of a surrogate pair") from error
    return value


def _digest(document: Mapping[str, object], path: str) -> Digest:
    value = document.get("digest")
    if not isinstance(value, str):
        raise ManifestInvalid(f"{path}.digest must be text")
    try:
        return Digest.parse(value)
    except DigestInvalid as error:
        raise ManifestInvalid(f"{path}.digest: {error.message}") from error


def _size_bytes(document: Mapping[str, object], path: str) -> int:
    value = document.get("size")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SIZE_LIMIT_BYTES:
        raise ManifestInvalid(f"{path}.size must be a whole number of bytes, 0 to {SIZE_LIMIT_BYTES}")
    return value


def _urls(document: Mapping[str, object], path: str) -> tuple[str, ...]:
    value = document.get("urls")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ManifestInvalid(f"{path}.urls must be an array")
    return tuple(_text(url, f"{path}.urls[{index}]") for index, url in enumerate(value))
