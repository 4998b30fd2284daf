"""What clients accept."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from dockreg_tx.oci.negotiation import accepted_types, image_for_plain_clients, wants_image_of

CHILD = Digest.of(b"child")


def index(*entries: dict[str, object]) -> bytes:
    """Return an index of these entries."""
    return json.dumps({"manifests": entries}).encode()


def entry(media_type: str = OCI_MANIFEST, *, digest: str = str(CHILD), **more: object) -> dict[str, object]:
    """Return an entry for linux/amd64, unless told otherwise."""
    return {
        "mediaType": media_type,
        "digest": digest,
        "platform": {"os": "linux", "architecture": "amd64"},
        **more,
    }


class AcceptTests(SynchronousTestCase):
    """Accept headers."""

    def test_types(self) -> None:
        """Types are split, lower-cased, freed of parameters; those with q=0 are refused."""
        for header, types in (
            (None, set()),
            ("", set()),
            ("A/b, c/d;q=0.5", {"a/b", "c/d"}),
            ("a/b;q=0, c/d; q=0.000 ,e/f;q=", {"e/f"}),
            ("a/b;charset=utf-8;q=1", {"a/b"}),
        ):
            self.assertEqual(types, set(accepted_types(header)), header)

    def test_wants_image(self) -> None:
        """Only who lists the image type of the family, and no index or wildcard, wants the image."""
        for stored, accept, wants in (
            (OCI_INDEX, OCI_MANIFEST, True),
            (DOCKER_LIST, f"{DOCKER_MANIFEST}, text/plain", True),
            (OCI_INDEX, DOCKER_MANIFEST, False),
            (OCI_INDEX, f"{OCI_MANIFEST}, {DOCKER_LIST}", False),
            (OCI_INDEX, f"{OCI_MANIFEST}, */*", False),
            (OCI_INDEX, None, False),
            (OCI_MANIFEST, OCI_MANIFEST, False),
        ):
            self.assertEqual(wants, wants_image_of(stored, accept), (stored, accept))


class ImageTests(SynchronousTestCase):
    """Choosing an image of an index."""

    def test_choice(self) -> None:
        """The linux/amd64 image of the index's family is taken; without one there is none."""
        other = entry(digest=str(Digest.of(b"x")), platform={"os": "linux", "architecture": "arm64"})
        self.assertEqual(CHILD, image_for_plain_clients(index(other, entry()), OCI_INDEX))
        for found in (
            index(),
            index(other),
            index(entry(platform=None)),
            index(entry(DOCKER_MANIFEST)),
            index(entry(digest="sha384:" + "a" * 96)),
        ):
            self.assertIsNone(image_for_plain_clients(found, OCI_INDEX))
