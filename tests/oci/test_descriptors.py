"""Tests of ``dockreg_tx.oci.descriptors``."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.descriptors import Descriptor, nondistributable_layers, parse_descriptor
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import ManifestInvalid

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DIGEST = Digest.of(b"content")


def descriptor(**fields: object) -> dict[str, object]:
    """Return the JSON object of a descriptor; a field of None is there as null."""
    return {"mediaType": LAYER, "digest": str(DIGEST), "size": 7, **fields}


class ParseDescriptorTests(SynchronousTestCase):
    """``parse_descriptor``."""

    def refused(self, value: object) -> str:
        """Return the message of a refusal."""
        error: ManifestInvalid = self.assertRaises(ManifestInvalid, parse_descriptor, value, "$.layers[3]")
        return error.message

    def test_smallest(self) -> None:
        """Type, digest and size are enough."""
        self.assertEqual(Descriptor(LAYER, DIGEST, 7), parse_descriptor(descriptor(), "$"))

    def test_everything(self) -> None:
        """Optional and unknown fields are accepted, and inline data is not looked at."""
        value = descriptor(
            artifactType="application/x", urls=["https://a/b"], annotations={"k": "v"}, platform={"os": 1},
            data="not base64!", custom={"deep": [None]},
        )  # fmt: skip
        self.assertEqual(
            Descriptor(LAYER, DIGEST, 7, "application/x", ("https://a/b",)), parse_descriptor(value, "$")
        )

    def test_null(self) -> None:
        """An optional field may be null, as Go writes it."""
        value = descriptor(artifactType=None, urls=None, annotations=None, platform=None, data=None)
        self.assertEqual(Descriptor(LAYER, DIGEST, 7), parse_descriptor(value, "$"))

    def test_any_algorithm(self) -> None:
        """Content under an algorithm that we cannot store may still be named."""
        self.assertEqual("md5", parse_descriptor(descriptor(digest="md5:abc"), "$").digest.algorithm)

    def test_refused(self) -> None:
        """What is wrong is refused, and the message names the place."""
        wrong: dict[str, list[object]] = {
            "": [None, [], "text", 1],
            ".mediaType": [None, "", 1, [LAYER], "\ud800"],
            ".digest": [None, 1, "", "sha256:bad", f"sha256:{'A' * 64}", str(DIGEST) + "\n"],
            ".size": [None, "7", -1, 7.0, True, False, 2**63],
            ".urls": ["https://a", {}, 1],
            ".urls[1]": [["https://a", 1], ["", None], ["", "\ud800"]],
            ".annotations": [[], "text", {"k": 1}, {"k": None}, {"\udfff": "v"}, {"k": "\ud800"}],
            ".artifactType": [1, {}, "\udc00"],
        }
        for field, values in wrong.items():
            for value in values:
                name = field.strip(".").partition("[")[0]
                with self.subTest(field=field, value=value):
                    message = self.refused(descriptor(**{name: value}) if name else value)
                    self.assertTrue(message.startswith(f"$.layers[3]{field}"), message)
                    self.assertEqual(message, message.encode("ascii").decode())

    def test_sizes(self) -> None:
        """A size is anything from nothing to the widest number that clients hold."""
        for size in (0, 2**63 - 1):
            self.assertEqual(size, parse_descriptor(descriptor(size=size), "$").size_bytes)

    def test_lookalikes(self) -> None:
        """A field in other letter case is refused: clients in Go would read it instead."""
        for name in ("Digest", "MEDIATYPE", "\u017fize"):
            self.assertIn("other letter case", self.refused(descriptor(**{name: "x"})))

    def test_nondistributable(self) -> None:
        """Foreign and nondistributable layers are told from others."""
        for media_type, expected in [
            (LAYER, False),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", True),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", True),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", False),
        ]:
            self.assertEqual(expected, Descriptor(media_type, DIGEST, 7).is_nondistributable)

    def test_layers_that_may_be_left_out(self) -> None:
        """They are found in a manifest's bytes; in bytes that cannot be read there are none."""
        foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        layers = [{"mediaType": foreign, "digest": "a"}, {"mediaType": "text/plain", "digest": "b"}]
        self.assertEqual({"a"}, nondistributable_layers(json.dumps({"layers": layers}).encode()))
        for content in (None, b"", b"{}", b"[]", b"{", b'{"layers":[{}]}', b'{"layers":[1]}', b"\xff"):
            self.assertEqual(set(), nondistributable_layers(content))
