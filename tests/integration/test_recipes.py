"""What the pages tell people to type, typed: certificates, users of a CI farm, images carried over."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.images import image, index, write_oci_layout
from tests.integration.server import PROGRAMS, RegistryProcess, clean_environment
from tests.integration.sockets import Connection, basic
from tests.recipes import TOP, shell_block

NAME = "registry.example.org"
PATIENCE_SECONDS = 30.0


class RecipeTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a directory to type in."""
        super().setUp()
        temporary = tempfile.TemporaryDirectory(prefix="dockreg-test-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)

    def type(self, page: str, name: str, root: Path | None = None) -> str:
        """Run a block of a page, and return what it prints."""
        environment = clean_environment({"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"})
        if root is not None:
            environment["DOCKREG_STORAGE_ROOT"] = str(root)
        done = subprocess.run(
            ["sh", "-eu", "-c", shell_block(page, name)],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout

    def server(self, name: str, **environment: str) -> RegistryProcess:
        """Start a registry on a root of this name."""
        made = RegistryProcess(self.directory / name, environment=environment)
        made.start()
        self.addCleanup(made.kill)
        return made


class CertificateTests(RecipeTestCase):
    skip = (
        None if shutil.which("openssl") else "not installed: openssl (tests/clients/install.sh installs it)"
    )

    def renew(self) -> bytes:
        """Issue a certificate, hand it over as certbot does, and return it as a client sees it."""
        self.type("tls.md", "own-certificate")
        lineage = self.directory / "live"
        lineage.mkdir(exist_ok=True)
        (self.directory / "certificate.pem").rename(lineage / "fullchain.pem")
        (self.directory / "key.pem").rename(lineage / "privkey.pem")
        environment = {
            "PATH": os.environ["PATH"],
            "RENEWED_LINEAGE": str(lineage),
            "RENEWED_DOMAINS": f"other.example.org {NAME}",
            "DOCKREG_TLS_DIRECTORY": str(self.directory / "tls"),
            "DOCKREG_USER": getpass.getuser(),
            "DOCKREG_DOMAIN": NAME,
        }
        subprocess.run([str(TOP / "etc" / "certbot-deploy-hook")], env=environment, check=True, timeout=30)
        pem = (lineage / "fullchain.pem").read_text()
        return ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN") :])

    def served(self, port: int) -> bytes | None:
        """Return the certificate that a client is shown who trusts the authority alone."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        with Connection(port, wrap=lambda plain: context.wrap_socket(plain, server_hostname=NAME)) as client:
            self.assertEqual(200, client.request("GET", "/healthz").status)
            assert isinstance(client.socket, ssl.SSLSocket)
            return client.socket.getpeercert(binary_form=True)

    def test_own_authority_and_hook(self) -> None:
        """Clients trust what the page's lines make; certbot's hook brings a new one in without a restart."""
        self.type("tls.md", "own-authority")
        first = self.renew()
        tls = self.directory / "tls"
        server = self.server(
            "root", DOCKREG_TLS_CERTIFICATE=f"{tls}/certificate.pem", DOCKREG_TLS_KEY=f"{tls}/key.pem"
        )
        self.assertEqual(first, self.served(server.port))
        self.assertEqual(0o400, (tls / "key.pem").stat().st_mode & 0o777)
        second = self.renew()
        end = time.monotonic() + PATIENCE_SECONDS
        while self.served(server.port) != second:
            self.assertTrue(time.monotonic() < end, "the old certificate is still served")
            time.sleep(0.2)  # the server looks every few seconds
        server.stop()

    def test_hook_of_another_domain(self) -> None:
        """The hook leaves alone what was issued for somebody else."""
        environment = {
            "PATH": os.environ["PATH"],
            "RENEWED_LINEAGE": str(self.directory),
            "RENEWED_DOMAINS": "other.example.org",
            "DOCKREG_DOMAIN": "example.org",
            "DOCKREG_TLS_DIRECTORY": str(self.directory / "tls"),
        }
        subprocess.run([str(TOP / "etc" / "certbot-deploy-hook")], env=environment, check=True, timeout=30)
        self.assertFalse((self.directory / "tls").exists())


class FarmTests(RecipeTestCase):
    def test_users(self) -> None:
        """The pipeline's robot pushes its own image and no other; that of the nodes pulls only."""
        server = self.server("root")
        printed = self.type("ci.md", "ci-users", server.root)
        pipeline, nodes = re.findall(r"dkr_\S+", printed)
        content = b"built by a job"
        digest = "sha256:" + hashlib.sha256(content).hexdigest()

        def push(token: str, repository: str) -> int:
            with Connection(server.port, basic("ci", token)) as client:
                return client.request(
                    "POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", content
                ).status

        self.assertEqual(201, push(pipeline, "ci/app/api"))
        self.assertEqual(403, push(pipeline, "ci/other"))
        self.assertEqual(403, push(nodes, "ci/app/api"))
        with Connection(server.port, basic("ci", nodes)) as client:
            self.assertEqual(content, client.request("GET", f"/v2/ci/app/api/blobs/{digest}").body)
        server.stop()


class CarriedOverTests(RecipeTestCase):
    def test_archive(self) -> None:
        """Images of one registry are in the other under the same names and digests, for all platforms."""
        outside, inside = self.directory / "outside", self.directory / "inside"
        app = index([image("carried", architecture=each) for each in ("amd64", "arm64")])
        base = image("carried base")
        for content, name in ((app, "team/app:v1"), (base, "team/base:1")):
            layout = self.directory / name.replace("/", "-")
            write_oci_layout(layout, content, "any")
            self.run_dockreg(outside, "import", "oci", str(layout), "--as", name)
        self.type("air-gapped.md", "export", outside)
        self.run_dockreg(inside, "init")
        self.type("air-gapped.md", "import", inside)
        for content, name in ((app, "team/app"), (base, "team/base")):
            [tag] = json.loads(self.run_dockreg(inside, "repo", "tags", name, "--json"))
            self.assertEqual(content.manifest.digest, tag["digest"])
        self.run_dockreg(inside, "verify")

    def run_dockreg(self, root: Path, *arguments: str) -> str:
        """Run the admin command, which must succeed."""
        command = [str(PROGRAMS / "dockreg"), "--root", str(root)]
        if not root.exists():
            subprocess.run([*command, "init"], check=True, capture_output=True, timeout=60)
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout
