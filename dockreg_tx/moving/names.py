"""Names of images in layouts and archives, and the repositories and tags they become here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dockreg_tx.oci.names import RepositoryName, Tag

#: image-spec, annotations.
REF_NAME = "org.opencontainers.image.ref.name"
#: What containerd and docker write beside it.
IMAGE_NAME = "io.containerd.image.name"
#: What our own exports write: the repository as it was, for those with a tag and without.
REPOSITORY = "dockreg.repository"
_DOCKER_HUB = ("docker.io/", "index.docker.io/")


@dataclass(frozen=True, slots=True)
class ImageName:
    """Where an image goes; without a tag it is known by its digest alone."""

    repository: RepositoryName
    tag: Tag | None = None

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}" if self.tag else self.repository.text


def parse_image_name(text: str) -> ImageName:
    """Return what a reference such as ``docker.io/library/alpine:3`` means here; the host is left out.

    Raises:
        NameInvalid, TagInvalid: it is no reference.
    """
    name, _, tag = text.partition("@")[0].rpartition(":")
    if not name or "/" in tag:
        name, tag = text.partition("@")[0], ""
    return ImageName(RepositoryName.parse(_without_host(name)), Tag.parse(tag) if tag else None)


def is_fallback(tag: Tag | None) -> bool:
    """Tell whether a tag stands for what refers to an image: the spec's referrers tag, and cosign's."""
    return tag is not None and tag.text.startswith(("sha256-", "sha512-"))


def _without_host(name: str) -> str:
    for hub in _DOCKER_HUB:
        if name.startswith(hub):
            return name.removeprefix(hub).removeprefix("library/")
    host, _, rest = name.partition("/")
    # As docker tells them apart: a host has a dot or a port, or is localhost.
    return rest if rest and ("." in host or ":" in host or host == "localhost") else name


def annotated_name(annotations: Mapping[str, str]) -> ImageName | Tag | None:
    """Return the name that an entry of an ``index.json`` carries: whole, a tag alone, or none.

    Raises:
        NameInvalid, TagInvalid: it is malformed.
    """
    reference = annotations.get(REF_NAME, "")
    if repository := annotations.get(REPOSITORY):
        tag = reference.rpartition(":")[2]
        return ImageName(RepositoryName.parse(repository), Tag.parse(tag) if tag else None)
    if full := annotations.get(IMAGE_NAME):
        return parse_image_name(full)
    if "/" in reference or ":" in reference:
        return parse_image_name(reference)
    return Tag.parse(reference) if reference else None
