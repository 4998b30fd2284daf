"""Tests of ``dockreg_tx.oci.manifests``."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.oci.descriptors import Descriptor
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import ManifestInvalid
from dockreg_tx.oci.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    MANIFEST_MEDIA_TYPES,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
    parse_manifest,
)

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
Document = dict[str, object]


def entry(media_type: str, content: bytes = b"x") -> Document:
    """Return the JSON object of a descriptor."""
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


def described(media_type: str, content: bytes = b"x") -> Descriptor:
    """Return the value that ``entry`` spells."""
    return Descriptor(media_type, Digest.of(content), len(content))


def image(media_type: str | None = OCI_MANIFEST, /, **fields: object) -> Document:
    """Return an image manifest of one layer."""
    typed = {} if media_type is None else {"mediaType": media_type}
    layers = [entry(LAYER_TYPE)]
    return {"schemaVersion": 2, **typed, "config": entry(CONFIG_TYPE), "layers": layers, **fields}


def index(media_type: str | None = OCI_INDEX, /, **fields: object) -> Document:
    """Return an index of one image."""
    typed = {} if media_type is None else {"mediaType": media_type}
    return {"schemaVersion": 2, **typed, "manifests": [entry(OCI_MANIFEST)], **fields}


def without(document: Document, *names: str) -> Document:
    """Return the document without some fields."""
    return {name: value for name, value in document.items() if name not in names}


def parse(document: Document, content_type: str | None = None) -> Manifest:
    """Parse a document as it would be pushed."""
    return parse_manifest(json.dumps(document).encode(), content_type)


class ManifestCase(SynchronousTestCase):
    """What the tests below share."""

    def refused(self, document: Document, content_type: str | None = None) -> str:
        """Return the message of a refusal, which any JSON writer can write."""
        error: ManifestInvalid = self.assertRaises(ManifestInvalid, parse, document, content_type)
        self.assertEqual(error.message, error.message.encode("ascii").decode())
        return error.message


class ParseTests(ManifestCase):
    """What ``parse_manifest`` returns."""

    def test_image(self) -> None:
        """An image refers to its config, its layers in order, and its subject."""
        document = image(
            layers=[entry(LAYER_TYPE, b"1"), entry(LAYER_TYPE, b"2")],
            subject=entry(OCI_MANIFEST, b"s"),
            annotations={"k": "v"},
        )
        expected = Manifest(
            media_type=OCI_MANIFEST,
            config=described(CONFIG_TYPE),
            layers=(described(LAYER_TYPE, b"1"), described(LAYER_TYPE, b"2")),
            children=(),
            subject=described(OCI_MANIFEST, b"s"),
            artifact_type=CONFIG_TYPE,
            annotations={"k": "v"},
        )
        self.assertEqual(expected, parse(document, OCI_MANIFEST))
        self.assertFalse(expected.is_index)

    def test_index(self) -> None:
        """An index refers to its children, which may be blobs of a build cache, and to its subject."""
        document = index(
            manifests=[{**entry(OCI_INDEX), "platform": None}, entry(LAYER_TYPE)], subject=entry(OCI_MANIFEST)
        )
        parsed = parse(document, OCI_INDEX)
        self.assertTrue(parsed.is_index)
        self.assertEqual((described(OCI_INDEX), described(LAYER_TYPE)), parsed.children)
        self.assertEqual((None, (), ""), (parsed.config, parsed.layers, parsed.artifact_type))
        self.assertEqual(described(OCI_MANIFEST), parsed.subject)

    def test_docker(self) -> None:
        """Docker's types are the same with other names, and a subject in them means nothing."""
        parsed = parse(image(DOCKER_MANIFEST, subject="whatever"), DOCKER_MANIFEST)
        self.assertEqual((DOCKER_MANIFEST, None, False), (parsed.media_type, parsed.subject, parsed.is_index))
        parsed = parse(index(DOCKER_LIST, subject=entry(OCI_MANIFEST)), DOCKER_LIST)
        self.assertEqual((DOCKER_LIST, None, True), (parsed.media_type, parsed.subject, parsed.is_index))

    def test_artifact(self) -> None:
        """The blobs of an artifact manifest are its layers; schemaVersion and blobs may be missing."""
        document: Document = {
            "mediaType": OCI_ARTIFACT,
            "artifactType": "application/x",
            "subject": entry(OCI_MANIFEST),
        }
        parsed = parse({**document, "blobs": [entry("text/plain")]}, OCI_ARTIFACT)
        self.assertEqual((described("text/plain"),), parsed.layers)
        self.assertEqual((described(OCI_MANIFEST), "application/x"), (parsed.subject, parsed.artifact_type))
        self.assertEqual((), parse(document, OCI_ARTIFACT).layers)

    def test_empty(self) -> None:
        """An image without layers and an index without children are legal."""
        self.assertEqual((), parse(image(layers=[]), OCI_MANIFEST).layers)
        self.assertEqual((), parse(index(manifests=[]), OCI_INDEX).children)

    def test_artifact_type(self) -> None:
        """The artifact type is the document's own, else that of the config."""
        self.assertEqual("application/x", parse(image(artifactType="application/x")).artifact_type)
        self.assertEqual("application/x", parse(index(artifactType="application/x")).artifact_type)
        for nothing in ("", None):
            self.assertEqual(CONFIG_TYPE, parse(image(artifactType=nothing)).artifact_type)

    def test_null(self) -> None:
        """A subject and annotations of null are none."""
        parsed = parse(image(subject=None, annotations=None))
        self.assertEqual((None, {}), (parsed.subject, parsed.annotations))

    def test_unknown_fields(self) -> None:
        """Fields that we do not know are accepted everywhere."""
        extra = {"org.example": {"deep": [1, {"a": None}]}}
        document = {**image(config={**entry("application/x"), **extra}), **extra}
        self.assertEqual("application/x", parse(document).artifact_type)

    def test_large(self) -> None:
        """Four thousand and ninety-six entries are read; one more is refused."""
        for build, name in ((image, "layers"), (index, "manifests")):
            entries = [entry(LAYER_TYPE)] * 4096
            parsed = parse(build(**{name: entries}))
            self.assertEqual(4096, len(parsed.layers + parsed.children))
            self.assertIn(
                f"$.{name} has 4097 entries", self.refused(build(**{name: [*entries, entry("a/b")]}))
            )


class MediaTypeTests(ManifestCase):
    """How the type is found."""

    def test_agreement(self) -> None:
        """Parameters and letter case of the Content-Type do not matter; another type does."""
        for content_type in (OCI_MANIFEST, OCI_MANIFEST.upper(), f" {OCI_MANIFEST} ; charset=utf-8"):
            self.assertEqual(OCI_MANIFEST, parse(image(), content_type).media_type)
        for other in (OCI_INDEX, DOCKER_MANIFEST, "text/html", "x" * 100_000):
            message = self.refused(image(), other)
            self.assertIn("Content-Type is", message)
            self.assertLess(len(message), 500)

    def test_header_alone(self) -> None:
        """An OCI document without mediaType has the type of its header; a Docker document must carry it."""
        self.assertEqual(OCI_MANIFEST, parse(image(None), OCI_MANIFEST).media_type)
        self.assertEqual(OCI_INDEX, parse(index(None), OCI_INDEX).media_type)
        self.assertEqual(OCI_MANIFEST, parse(image(mediaType=None), OCI_MANIFEST).media_type)
        self.assertIn("must carry", self.refused(image(None), DOCKER_MANIFEST))
        self.assertIn("must carry", self.refused(index(None), DOCKER_LIST))

    def test_generic(self) -> None:
        """Without a telling header the document decides, and without mediaType its fields do."""
        for generic in (
            None,
            "",
            "application/json",
            "text/plain; charset=utf-8",
            "application/octet-stream",
        ):
            for media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
                self.assertEqual(media_type, parse(image(media_type), generic).media_type)
            self.assertEqual(OCI_MANIFEST, parse(image(None), generic).media_type)
            self.assertEqual(OCI_INDEX, parse(index(None), generic).media_type)
            unknown: list[Document] = [{}, {"config": {}}, {"layers": []}, {"manifests": {}}, {"blobs": []}]
            for document in unknown:
                self.assertIn("is unknown", self.refused({"schemaVersion": 2, **document}, generic))

    def test_not_taken(self) -> None:
        """Other types are refused, schema 1 with what to do."""
        for schema1 in (DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED):
            self.assertIn("schema 1", self.refused({"schemaVersion": 1}, schema1))
        self.assertIn("'text/html' are not taken", self.refused(image(None), "text/html"))
        self.assertIn("'\\ud800' are not taken", self.refused(image("\ud800")))
        self.assertIn("must be text", self.refused(image(mediaType=2)))
        self.assertIn("'' are not taken", self.refused(image(mediaType="")))


class AmbiguityTests(ManifestCase):
    """Documents that two clients could understand differently (CVE-2021-41190)."""

    def test_two_kinds_in_one(self) -> None:
        """A document with the fields of another kind is refused under every type."""
        foreign: dict[str, list[Document]] = {
            OCI_MANIFEST: [image(manifests=[]), image(manifests=None), image(None, manifests=[])],
            DOCKER_MANIFEST: [image(DOCKER_MANIFEST, manifests=[entry(OCI_MANIFEST)])],
            OCI_INDEX: [index(layers=[]), index(config=entry(CONFIG_TYPE)), index(None, config=None)],
            DOCKER_LIST: [index(DOCKER_LIST, layers=[]), index(DOCKER_LIST, config=None)],
            OCI_ARTIFACT: [image(OCI_ARTIFACT), index(OCI_ARTIFACT), index(None)],
        }
        for content_type, documents in foreign.items():
            for document in documents:
                with self.subTest(content_type=content_type, document=document):
                    self.assertIn("another type", self.refused(document, content_type))
        self.assertIn("another type", self.refused({**image(None), **index(None)}))

    def test_wrong_kind(self) -> None:
        """The fields of an index under the name of an image, and the other way round, are refused."""
        for content_type, document in [(OCI_MANIFEST, index(None)), (OCI_INDEX, image(None))]:
            self.refused(document, content_type)
            self.refused({**document, "mediaType": content_type})

    def test_lookalikes(self) -> None:
        """A known field in other letter case is refused, as clients in Go would read it."""
        for name in ("Layers", "MANIFESTS", "mediatype", "\u017fubject", "Blobs"):
            self.assertIn("other letter case", self.refused(image(**{name: []})))

    def test_duplicate_keys(self) -> None:
        """The same field twice is refused."""
        content = json.dumps(image())[:-1] + ', "layers": []}'
        self.assertRaises(ManifestInvalid, parse_manifest, content.encode(), OCI_MANIFEST)


class SchemaTests(ManifestCase):
    """Fields that are missing or wrong."""

    def test_schema_version(self) -> None:
        """The schema version is the number 2, nothing that equals it."""
        for version in (1, 3, "2", 2.0, True, None, [2]):
            self.assertIn("$.schemaVersion", self.refused(image(schemaVersion=version)))
        self.assertIn("$.schemaVersion", self.refused(without(index(), "schemaVersion")))
        self.assertIn("$.schemaVersion", self.refused({"mediaType": OCI_ARTIFACT, "schemaVersion": 1}))

    def test_paths(self) -> None:
        """The message names the place of the fault."""
        bad = {**entry(LAYER_TYPE), "size": -1}
        faults: list[tuple[str, Document]] = [
            ("$.config must", without(image(), "config")),
            ("$.config must", image(config=[])),
            ("$.config.size", image(config=bad)),
            ("$.layers must", without(image(), "layers")),
            ("$.layers must", image(layers=None)),
            ("$.layers must", image(layers={})),
            ("$.layers[1].size", image(layers=[entry(LAYER_TYPE), bad])),
            ("$.layers[0] must", image(layers=[[]])),
            ("$.manifests must", without(index(), "manifests")),
            ("$.manifests[0].size", index(manifests=[bad])),
            ("$.blobs must", {"mediaType": OCI_ARTIFACT, "blobs": None}),
            ("$.subject must", image(subject="x")),
            ("$.subject must", index(subject=[])),
            ("$.subject.size", {"mediaType": OCI_ARTIFACT, "subject": bad}),
            ("$.annotations must", image(annotations=[])),
            ("$.annotations must", index(annotations={"k": 1})),
            ("$.artifactType must", image(artifactType=1)),
            ("$.artifactType must", index(artifactType={})),
        ]
        for path, document in faults:
            with self.subTest(path=path, document=document):
                self.assertTrue(self.refused(document).startswith(path), self.refused(document))

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(
        st.sampled_from([None, *sorted(MANIFEST_MEDIA_TYPES)]),
        st.dictionaries(
            st.sampled_from(
                ["schemaVersion", "mediaType", "config", "layers", "manifests", "blobs", "subject"]
            ),
            st.sampled_from(
                [
                    2,
                    None,
                    [],
                    {},
                    OCI_MANIFEST,
                    OCI_INDEX,
                    DOCKER_LIST,
                    entry(CONFIG_TYPE),
                    [entry(LAYER_TYPE)],
                ]
            ),
        ),
    )
    def test_no_type_confusion(self, content_type: str | None, document: Document) -> None:
        """Whatever is accepted is of one kind, and of the type that was declared."""
        try:
            parsed = parse(document, content_type)
        except ManifestInvalid:
            return
        self.assertIn(content_type, (None, parsed.media_type))
        self.assertIn(document.get("mediaType"), (None, parsed.media_type))
        self.assertEqual(parsed.is_index, "manifests" in document)
        self.assertFalse(parsed.is_index and ("layers" in document or "config" in document))
