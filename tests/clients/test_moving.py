"""Moving in from a real ``registry:2`` (Debian's docker-registry) that real clients filled, and out again.

``TEST_REGISTRY2_IMAGES`` says how many images it is filled with.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

from tests.clients.case import PASSWORD, REGISTRY, USER, ClientTestCase
from tests.clients.docker_daemon import DockerDaemon
from tests.clients.local import TOOLS, lacking
from tests.clients.namespace import missing
from tests.clients.test_skopeo import POLICY
from tests.integration.images import Content, Image, Index, as_json, image, index, write_docker_archive
from tests.integration.server import PROGRAMS, clean_environment

OLD = "127.0.0.1:5001"
IMAGES = int(os.environ.get("TEST_REGISTRY2_IMAGES", "12"))
CONFIG = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {directory}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:5001"}}
"""


class MovingTests(ClientTestCase):
    skip = missing("docker", "dockerd", "skopeo", "curl", "docker-registry") or lacking("crane") or None
    daemon: ClassVar[DockerDaemon]
    old: ClassVar[subprocess.Popen[bytes]]
    tree: ClassVar[Path]

    @classmethod
    def start_class(cls) -> None:
        """Start the daemon and the old registry as well."""
        super().start_class()
        try:
            cls.daemon = DockerDaemon(cls.directory / "dockerd", cls.namespace, REGISTRY)
            cls.tree = cls.directory / "tree"
            config = cls.directory / "config.yml"
            config.write_text(CONFIG.format(directory=cls.tree))
            cls.old = subprocess.Popen(
                [*cls.namespace.prefix, "docker-registry", "serve", str(config)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except BaseException:
            super().stop_class()
            raise

    @classmethod
    def stop_class(cls) -> None:
        """Stop them first."""
        cls.old.terminate()
        cls.old.wait()
        cls.daemon.close()
        super().stop_class()

    def setUp(self) -> None:
        """Wait for the old registry."""
        super().setUp()
        self.policy = self.home / "policy.json"
        self.policy.write_text(POLICY)
        deadline = time.monotonic() + 30
        while self.namespace.run(("curl", "-sf", f"http://{OLD}/"), self.environment).returncode:
            self.assertLess(time.monotonic(), deadline, "docker-registry does not answer")
            time.sleep(0.1)  # it does not tell when it is ready

    @property
    def environment(self) -> dict[str, str]:
        """As all clients', with the daemon's address, and Go's clients."""
        path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
        return {**super().environment, "PATH": path, "DOCKER_HOST": self.daemon.address}

    def dockreg(self, *arguments: str) -> str:
        """Run the command on the running registry."""
        done = subprocess.run(
            [str(PROGRAMS / "dockreg"), "--root", str(self.server.root), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=clean_environment(),
        )
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout

    def skopeo(self, *arguments: str) -> str:
        """Run skopeo."""
        return self.run_program("skopeo", "--policy", str(self.policy), *arguments)

    def by_skopeo(self, name: str, content: Image | Index) -> None:
        """Push with skopeo."""
        source, flags = self.layout(content), ("--all", "--preserve-digests", "--dest-tls-verify=false")
        self.skopeo("copy", *flags, source, f"docker://{OLD}/{name}")

    def by_crane(self, name: str, content: Image) -> None:
        """Push with crane, which takes layouts with one entry."""
        directory = self.layout(content).removeprefix("oci:").rpartition(":")[0]
        self.run_program("crane", "push", "--insecure", directory, f"{OLD}/{name}")

    def by_docker(self, name: str, content: Image) -> None:
        """Push with docker."""
        archive = self.home / "image.tar"
        write_docker_archive(archive, content, f"{OLD}/{name}")
        self.run_program("docker", "load", "--quiet", "-i", str(archive))
        self.run_program("docker", "push", "--quiet", f"{OLD}/{name}")
        self.run_program("docker", "rmi", f"{OLD}/{name}")

    def fill(self) -> list[str]:
        """Fill the old registry and return the names of what is whole in it."""
        names = []
        for number in range(IMAGES):
            name, content = f"team{number % 3}/app{number % 5}:v{number}", image(f"moving {number}")
            if number % 4 == 3:
                arches = [image(f"moving {number}", architecture=each) for each in ("amd64", "arm64")]
                self.by_skopeo(name, index(arches))
            else:
                (self.by_skopeo, self.by_crane, self.by_docker)[number % 3](name, content)
            names.append(name)
        return names

    def sign(self, name: str) -> tuple[str, Content]:
        """Push a signature as cosign does, and a referrer; return the signature's name and the referrer."""
        digest = self.head(OLD, name)
        repository, _, tag = name.partition(":")
        signature = f"{repository}:{digest.replace(':', '-')}.sig"
        base = image(f"signature of {name}", layers=1)
        self.by_skopeo(signature, base)
        size = len(
            self.run_program("curl", "-sf", f"http://{OLD}/v2/{repository}/manifests/{tag}", *self.accept)
        )
        document = {
            "schemaVersion": 2,
            "mediaType": base.manifest.media_type,
            "config": base.config.descriptor,
            "layers": [layer.descriptor for layer in base.layers],
            "subject": {"mediaType": base.manifest.media_type, "digest": digest, "size": size},
            "artifactType": "application/vnd.example.sbom",
        }
        referrer = Content(base.manifest.media_type, as_json(document))
        path = self.home / "referrer"
        path.write_bytes(referrer.content)
        url = f"http://{OLD}/v2/{repository}/manifests/{referrer.digest}"
        self.assertEqual(
            "201", self.status("-T", str(path), "-H", f"Content-Type: {referrer.media_type}", url)
        )
        return signature, referrer

    @property
    def accept(self) -> tuple[str, str]:
        """The header that lets the old registry answer with what was pushed."""
        kinds = [
            *(f"application/vnd.oci.image.{kind}.v1+json" for kind in ("manifest", "index")),
            *(f"application/vnd.docker.distribution.manifest.{kind}+json" for kind in ("v2", "list.v2")),
        ]
        return ("-H", f"Accept: {', '.join(kinds)}")

    def head(self, host: str, name: str) -> str:
        """Return the digest of a tag."""
        repository, _, tag = name.partition(":")
        url = f"http://{host}/v2/{repository}/manifests/{tag}"
        lines = self.curl("-I", "-u", f"{USER}:{PASSWORD}", *self.accept, url).splitlines()
        found = [
            line.partition(": ")[2] for line in lines if line.lower().startswith("docker-content-digest")
        ]
        return found[0].strip() if found else lines[0]

    def spoil(self) -> None:
        """Delete and break some of what is pushed here for that."""
        for tag in ("deleted", "untagged", "broken", "empty"):
            self.by_skopeo(f"spoiled/app:{tag}", image(f"spoiled {tag}"))
        url = f"http://{OLD}/v2/spoiled/app/manifests/{self.head(OLD, 'spoiled/app:deleted')}"
        self.assertEqual("202", self.status("-X", "DELETE", url))
        tags = self.tree / "docker/registry/v2/repositories/spoiled/app/_manifests/tags"
        (tags / "untagged/current/link").unlink()
        (tags / "broken/current/link").write_text("sha256:" + "0" * 64)
        (tags / "empty/current/link").write_text("")

    def test_from_registry2(self) -> None:
        """Every tag pulls with the same digest afterwards, from a registry that runs all the while."""
        names = self.fill()
        signature, referrer = self.sign(names[0])
        self.spoil()
        before = {name: self.head(OLD, name) for name in (*names, signature)}
        report: dict[str, Any] = json.loads(self.dockreg("import", "registry2", str(self.tree), "--json"))
        self.assertEqual(len(before), report["tags"], report)
        self.assertEqual(before, {name: self.head(REGISTRY, name) for name in before})
        for found in ("broken_tag", "empty_link", "deleted_tag", "deleted_manifest"):
            self.assertEqual(1, report["findings"][found]["count"], report["findings"])
        for name in before:
            target = self.home / "pulled"
            flags = ("--all", "--src-tls-verify=false", "--src-creds", f"{USER}:{PASSWORD}")
            self.skopeo("copy", *flags, f"docker://{REGISTRY}/{name}", f"dir:{target}")
            shutil.rmtree(target)
        repository = names[0].partition(":")[0]
        listed = self.get(f"/v2/{repository}/referrers/{before[names[0]]}")["manifests"]
        self.assertEqual([referrer.digest], [each["digest"] for each in listed])
        self.assertEqual("", self.dockreg("verify"))
        self.assertEqual(0, json.loads(self.dockreg("import", "registry2", str(self.tree), "--json"))["tags"])

    def test_export(self) -> None:
        """Docker loads an export of two platforms; skopeo and crane read it; what docker saves comes in."""
        content = index([image("exported", architecture=each) for each in ("amd64", "arm64")])
        layout = self.layout(content).removeprefix("oci:").rpartition(":")[0]
        self.dockreg("import", "oci", layout, "--as", "team/exported:v1")
        file = self.home / "exported.tar"
        self.dockreg("export", "team/exported:v1", str(file), "--platform", "linux/amd64")
        self.assertIn("team/exported:v1", self.run_program("docker", "load", "-i", str(file)))
        shown = self.run_program("docker", "image", "inspect", "--format", "{{.Id}}", "team/exported:v1")
        self.assertEqual(content.images[0].config.digest, shown.strip())
        self.skopeo("copy", "--all", f"oci-archive:{file}:v1", f"oci:{self.home}/back:v1")
        entries = json.loads((self.home / "back" / "index.json").read_text())["manifests"]
        self.assertEqual([content.manifest.digest], [entry["digest"] for entry in entries])
        self.run_program("crane", "push", "--insecure", str(file), f"{OLD}/by/crane:v1")
        self.assertEqual(content.images[0].config.digest, self.config_of("by/crane", "v1"))
        shutil.rmtree(self.tree / "docker/registry/v2/repositories/by")
        saved = self.home / "saved.tar"
        self.run_program("docker", "save", "-o", str(saved), "team/exported:v1")
        self.dockreg("import", "docker-archive", str(saved), "--as", "team/saved:v1")
        document = self.get("/v2/team/saved/manifests/v1")
        self.assertEqual(content.images[0].config.digest, document["config"]["digest"])

    def config_of(self, repository: str, tag: str) -> str:
        """Return the id of an image in the old registry."""
        text = self.curl("-f", *self.accept, f"http://{OLD}/v2/{repository}/manifests/{tag}")
        return str(json.loads(text)["config"]["digest"])
