"""``dockreg import oci``, ``import docker-archive``, ``export``: layouts and archives, honest and hostile."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
import threading
from pathlib import Path

from tests.integration.images import (
    Content,
    Image,
    Index,
    as_json,
    image,
    index,
    sha256,
    tar_of,
    write_docker_archive,
    write_oci_layout,
)
from tests.moving.case import MovingCase
from tests.moving.trees import Tree

SBOM = "application/vnd.example.sbom"


def referrer(subject: Content, base: Image) -> Content:
    """Return a manifest that refers to another."""
    document = {
        "schemaVersion": 2,
        "mediaType": base.manifest.media_type,
        "artifactType": SBOM,
        "config": base.config.descriptor,
        "layers": [base.layers[0].descriptor],
        "subject": subject.descriptor,
    }
    return Content(base.manifest.media_type, as_json(document))


def tar_directory(directory: Path, path: Path) -> None:
    """Write a tar of a directory's content."""
    with tarfile.open(path, "w") as archive:
        for each in sorted(directory.rglob("*"), reverse=True):
            archive.add(each, str(each.relative_to(directory)), recursive=False)


class LayoutTests(MovingCase):
    """Layouts as skopeo, buildah and oras write them."""

    def setUp(self) -> None:
        """Write one."""
        super().setUp()
        self.layout_directory = self.directory / "layout"
        self.image = image("layout")

    def write(self, content: Image | Index, name: str = "v1") -> str:
        """Write a layout with one entry."""
        write_oci_layout(self.layout_directory, content, name)
        return str(self.layout_directory)

    def test_directory(self) -> None:
        """A tag needs the name of a repository; a whole name does not; --as with a tag replaces it."""
        path = self.write(self.image)
        self.assertIn("--as NAME", self.refused("import", "oci", path))
        self.done("import", "oci", path, "--as", "team/app")
        self.require("team/app", "v1", self.image)
        self.done("import", "oci", path, "--as", "registry.example.org:5000/team/other:2")
        self.require("team/other", "2", self.image)
        again = self.listed("import", "oci", path, "--as", "team/app")
        self.assertEqual((0, {}), (again["tags"], again["findings"]))

    def test_whole_name(self) -> None:
        """The host of a name is left out, docker.io's library too."""
        path = self.write(self.image, "docker.io/library/alpine:3")
        self.done("import", "oci", path)
        self.require("alpine", "3", self.image)

    def test_tar(self) -> None:
        """A tar of it, plain, gzipped or from standard input, gives the same."""
        multi = index([image("multi", architecture=name) for name in ("amd64", "arm64")])
        plain, packed = self.directory / "plain.tar", self.directory / "packed.tar.gz"
        tar_directory(Path(self.write(multi)), plain)
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        for number, path in enumerate((plain, packed)):
            self.done("import", "oci", str(path), "--as", f"tar/{number}")
            self.require(f"tar/{number}", "v1", multi)
        self.assertEqual("", self.done("verify"))
        self.assertEqual([], self.passing_files())

    def test_referrers(self) -> None:
        """Referrers without a name go where their subject goes, theirs too."""
        path = Path(self.write(self.image, "team/app:v1"))
        first = referrer(self.image.manifest, self.image)
        second = referrer(first, self.image)
        lone = referrer(Content("", b"nothing"), self.image)
        entries = json.loads((path / "index.json").read_text())
        for each in (second, first, lone):
            (path / "blobs" / "sha256" / each.digest[7:]).write_bytes(each.content)
            entries["manifests"].append(each.descriptor)
        (path / "index.json").write_bytes(as_json(entries))
        report = self.listed("import", "oci", str(path))
        self.assertEqual({"unnamed": 1}, self.findings(report))
        for subject, found in ((self.image.manifest, first), (first, second)):
            listed = self.referrers("team/app", subject.digest)
            self.assertEqual([found.digest], [str(each.digest) for each in listed])

    def test_incomplete(self) -> None:
        """An image that lacks a layer is not taken over; an index that lacks a child is."""
        path = Path(self.write(self.image, "team/app:v1"))
        (path / "blobs" / "sha256" / self.image.layers[0].digest[7:]).unlink()
        self.assertEqual(1, self.run_command("import", "oci", str(path)).exit_code)
        self.assertIsNone(self.digest_of("team/app", "v1"))
        multi = index([image("multi", architecture=name) for name in ("amd64", "arm64")])
        self.layout_directory = self.directory / "sparse"
        path = Path(self.write(multi, "team/multi:v1"))
        (path / "blobs" / "sha256" / multi.images[1].manifest.digest[7:]).unlink()
        self.done("import", "oci", str(path))
        self.assertEqual(multi.manifest.digest, self.digest_of("team/multi", "v1"))

    def test_damaged(self) -> None:
        """Bytes that are not what their name says are refused, and not kept."""
        path = Path(self.write(self.image, "team/app:v1"))
        digest = self.image.layers[0].digest
        (path / "blobs" / "sha256" / digest[7:]).write_bytes(b"other")
        self.assertIn("damaged", self.refused("import", "oci", str(path)))
        tar_directory(path, self.directory / "damaged.tar")
        self.assertIn("damaged", self.refused("import", "oci", str(self.directory / "damaged.tar")))
        self.assertFalse(Path(self.path(digest)).exists())
        self.assertEqual([], self.passing_files())

    def test_no_layout(self) -> None:
        """Other directories and files are refused by name."""
        self.assertIn("index.json", self.refused("import", "oci", str(self.directory)))
        (self.directory / "text").write_text("no archive")
        self.assertIn("no tar archive", self.refused("import", "oci", str(self.directory / "text")))
        self.assertIn("No such file", self.refused("import", "oci", str(self.directory / "nothing.tar")))


class DockerArchiveTests(MovingCase):
    """What docker save writes."""

    def test_older_form(self) -> None:
        """Layers stay as they are, and the image keeps its id; links to layers are followed by name."""
        content, path = image("docker"), self.directory / "saved.tar"
        write_docker_archive(path, content, "registry.example.org/team/app:v1")
        self.done("import", "docker-archive", str(path))
        digest = self.digest_of("team/app", "v1")
        assert digest is not None
        document = json.loads(self.content(digest))
        self.assertEqual(content.config.digest, document["config"]["digest"])
        self.assertEqual(
            [sha256(tar) for tar in content.tars], [each["digest"] for each in document["layers"]]
        )
        self.assertEqual("", self.done("verify"))
        self.assertIn("docker-archive", self.refused("import", "oci", str(path)))

    def test_links(self) -> None:
        """Equal layers may be links; one that leads out is refused."""
        config, layer = b'{"rootfs":{}}', tar_of({"a": b"a"})
        manifest = as_json([{"Config": "c.json", "RepoTags": None, "Layers": ["1/layer.tar", "2/layer.tar"]}])
        for target, is_good in (("../1/layer.tar", True), ("../../../etc/passwd", False)):
            path = self.directory / "linked.tar"
            with tarfile.open(path, "w") as archive:
                for name, content in (
                    ("c.json", config),
                    ("1/layer.tar", layer),
                    ("manifest.json", manifest),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
                link = tarfile.TarInfo("2/layer.tar")
                link.type, link.linkname = tarfile.SYMTYPE, target
                archive.addfile(link)
            if is_good:
                self.done("import", "docker-archive", str(path), "--as", "linked:v1")
                self.assertIsNotNone(self.digest_of("linked", "v1"))
            else:
                self.assertIn("leads out", self.refused("import", "docker-archive", str(path)))

    def test_malformed(self) -> None:
        """Documents that say nothing sensible are one line each."""
        path = self.directory / "bad.tar"
        for document in (b"no json", b"{}", b'[{"Config": 1}]', b'[{"Config":"c","Layers":["x"]}]'):
            path.write_bytes(tar_of({"manifest.json": document}))
            self.refused("import", "docker-archive", str(path), "--as", "bad:v1")
        path.write_bytes(tar_of({"other": b""}))
        self.assertIn("holds no", self.refused("import", "docker-archive", str(path)))


class HostileTests(MovingCase):
    """Archives that want to harm."""

    def hostile(self, *members: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> str:
        """Return how an archive of such members is refused."""
        path = self.directory / "hostile.tar"
        with tarfile.open(path, "w", format=form) as archive:
            for member in members:
                archive.addfile(member, io.BytesIO(b"\0" * member.size))
        line = self.refused("import", "oci", str(path))
        self.assertEqual([], self.passing_files())
        return line

    def member(
        self, name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, target: str = ""
    ) -> tarfile.TarInfo:
        """Return a member."""
        member = tarfile.TarInfo(name)
        member.type, member.size, member.linkname = kind, size, target
        return member

    def test_paths(self) -> None:
        """Paths and links out of the archive, devices, and names that are no digest."""
        for name in ("blobs/sha256/../x", "../x.tar", "/etc/x.tar", "a/../../x.tar", "a\nb.tar"):
            self.assertIn("leads out", self.hostile(self.member(name)))
        self.assertIn("leads out", self.hostile(self.member("a", tarfile.LNKTYPE, target="../b")))
        self.assertIn("neither", self.hostile(self.member("a", tarfile.FIFOTYPE)))
        self.assertIn("no digest", self.hostile(self.member("blobs/sha256/ABC")))

    def test_memory(self) -> None:
        """Long headers, sparse files and long documents are not taken into memory."""
        self.assertIn("header of more", self.hostile(self.member("a", tarfile.XHDTYPE, 2 * 1024 * 1024)))
        self.assertIn(
            "header of more", self.hostile(self.member("a", tarfile.GNUTYPE_LONGNAME, 2 * 1024 * 1024))
        )
        self.assertIn("sparse", self.hostile(self.member("a", tarfile.GNUTYPE_SPARSE, 512)))
        self.assertIn("longer", self.hostile(self.member("index.json", size=9 * 1024 * 1024)))

    def test_cut(self) -> None:
        """An archive that ends early is refused; a damaged gzip too."""
        path = self.directory / "cut.tar"
        whole = tar_of({"blobs/sha256/" + "a" * 64: b"x" * 5000})
        for content in (whole[:2000], gzip.compress(whole)[:-20], b"\x1f\x8bnothing"):
            path.write_bytes(content)
            self.refused("import", "oci", str(path))


class ExportTests(MovingCase):
    """Images go out, and into another registry."""

    def setUp(self) -> None:
        """Fill the registry."""
        super().setUp()
        tree = Tree(self.directory / "tree")
        self.app = image("app")
        self.multi = index([image("multi", architecture=name) for name in ("amd64", "arm64")])
        self.referrer = referrer(self.multi.manifest, self.app)
        self.signature = image("signature", layers=1)
        self.signature_tag = self.multi.manifest.digest.replace(":", "-") + ".sig"
        tree.push("library/app", "v1", self.app)
        tree.push("team/multi", "v1", self.multi)
        tree.push("team/multi", self.signature_tag, self.signature)
        tree.push("team/multi", "other", self.app)
        tree.put_manifest("team/multi", self.referrer)
        self.done("import", "registry2", str(tree.directory))
        self.file = self.directory / "images.tar"

    def documents(self) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """Return the entries of the archive's index.json and manifest.json."""
        with tarfile.open(self.file) as archive:
            names = archive.getnames()
            self.assertEqual(len(names), len(set(names)))
            texts = {
                name: json.load(archive.extractfile(name) or io.BytesIO())
                for name in ("index.json", "manifest.json")
                if name in names
            }
        return texts["index.json"]["manifests"], texts.get("manifest.json", [])

    def second(self) -> None:
        """Continue with another, empty registry."""
        self.root = self.mktemp()
        self.layout = type(self.layout)(self.root)
        self.done("init")

    def test_round_trip(self) -> None:
        """A multi-arch image with referrers has the same digests in a second registry."""
        self.done("export", "team/multi:v1", "library/app", str(self.file))
        self.assertEqual(["images.tar", "tree"], sorted(each.name for each in self.directory.iterdir()))
        self.second()
        self.assertEqual({}, self.listed("import", "oci", str(self.file))["findings"])
        self.require("team/multi", "v1", self.multi)
        self.require("team/multi", self.signature_tag, self.signature)
        self.require("library/app", "v1", self.app)
        self.assertIsNone(self.digest_of("team/multi", "other"))
        found = self.referrers("team/multi", self.multi.manifest.digest)
        self.assertEqual([self.referrer.digest], [str(each.digest) for each in found])
        first = self.file.read_bytes()
        self.done("export", "team/multi:v1", "library/app", str(self.file))
        self.assertEqual(first, self.file.read_bytes())

    def test_renamed(self) -> None:
        """--as gives an exported image with its referrers another name."""
        self.done("export", "team/multi:v1", str(self.file))
        self.second()
        self.done("import", "oci", str(self.file), "--as", "copy:2")
        self.require("copy", "2", self.multi)
        self.require("copy", self.signature_tag, self.signature)
        self.assertEqual(1, len(self.referrers("copy", self.multi.manifest.digest)))

    def test_documents(self) -> None:
        """Docker loads one platform; names are tags for skopeo; without referrers there is one entry."""
        self.done("export", "team/multi:v1", str(self.file), "--no-referrers", "--platform", "linux/arm64")
        entries, images = self.documents()
        self.assertEqual(
            [
                {
                    "dockreg.repository": "team/multi",
                    "org.opencontainers.image.ref.name": "v1",
                    "io.containerd.image.name": "docker.io/team/multi:v1",
                }
            ],
            [entry["annotations"] for entry in entries],
        )
        config = "blobs/sha256/" + self.multi.images[1].config.digest[7:]
        self.assertEqual(
            [(config, ["team/multi:v1"])], [(each["Config"], each["RepoTags"]) for each in images]
        )
        result = self.run_command("export", "team/multi:v1", str(self.file), "--platform", "linux/s390x")
        self.assertEqual(
            "dockreg: team/multi:v1 has no image for linux/s390x: docker load passes it over\n", result.stderr
        )
        self.assertEqual(0, result.exit_code)
        self.assertEqual([], self.documents()[1])

    def test_by_digest_to_standard_output(self) -> None:
        """``-`` writes to standard output; a digest names an image without a tag."""
        result = self.run_command("export", f"library/app@{self.app.manifest.digest}", "-")
        self.assertEqual(0, result.exit_code, result.output)
        self.file.write_bytes(result.stdout_bytes)
        entries, images = self.documents()
        self.assertEqual([self.app.manifest.digest], [entry["digest"] for entry in entries])
        self.assertEqual([[]], [each["RepoTags"] for each in images])

    def test_no_regular_file(self) -> None:
        """A pipe is written into and a link is followed; neither gives way to a file."""
        pipe, received = self.directory / "pipe", []
        os.mkfifo(pipe)
        reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
        reader.start()
        self.done("export", "library/app:v1", str(pipe))
        reader.join(10)
        self.assertTrue(stat.S_ISFIFO(pipe.lstat().st_mode))
        link = self.directory / "link"
        link.symlink_to("target.tar")
        self.done("export", "library/app:v1", str(link))
        self.assertTrue(link.is_symlink())
        self.assertEqual(received, [(self.directory / "target.tar").read_bytes()])

    def test_refused(self) -> None:
        """What is unknown or damaged is one line, and leaves no file."""
        self.refused("export", "nothing", str(self.file))
        self.assertIn("dockreg repo tags", self.refused("export", "library/app:nothing", str(self.file)))
        self.assertIn("is a directory", self.refused("export", "library/app:v1", str(self.directory)))
        nowhere = str(self.directory / "nowhere" / "app.tar")
        self.assertIn(f"{nowhere}: No such file", self.refused("export", "library/app:v1", nowhere))
        for text in ("arm64", "linux/", "", "linux arm64"):
            result = self.run_command("export", "library/app:v1", str(self.file), "--platform", text)
            self.assertEqual(2, result.exit_code, text)
            self.assertIn("is no platform such as linux/arm64", result.stderr)
        path = Path(self.path(self.app.layers[0].digest))
        content = path.read_bytes()
        for damaged in (content.swapcase(), content[:-1], None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            self.refused("export", "library/app:v1", str(self.file))
            self.assertEqual(["tree"], [each.name for each in self.directory.iterdir()])
            if damaged is None:
                break
