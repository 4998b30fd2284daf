"""The compose files, as they are written, by podman-compose."""

from __future__ import annotations

import os
import shutil
import time

import bcrypt

from tests.image.case import PATIENCE_SECONDS, ImageTestCase
from tests.integration.images import image
from tests.integration.test_listeners import write_certificate

PORT = 443


class ComposeTestCase(ImageTestCase):
    """One file of services."""

    file = "compose.yaml"

    def setUp(self) -> None:
        """Lay the file out alone: nothing else is needed where the image is there."""
        super().setUp()
        shutil.copy(self.engine.context / self.file, self.home / self.file)
        self.addCleanup(self.engine.run, "podman", "rm", "--all", "--force", "--time", "0")

    def compose(self, *arguments: str) -> str:
        """Run podman-compose; Debian's speaks of what it does on standard output too."""
        return self.engine.do("podman-compose", "-f", self.file, *arguments, directory=self.home)

    def end(self) -> None:
        """Stop everything; the server must end well."""
        [container] = self.engine.containers()
        self.compose("stop")
        self.assertEqual("0", self.do("podman", "inspect", "--format", "{{.State.ExitCode}}", container))
        self.compose("down", "--volumes")
        self.assertEqual([], list(self.engine.containers()))

    def admin(self) -> str:
        """Return name and password of the first user, found as the file says."""
        printed = self.compose("exec", "-T", "registry", "cat", "/var/lib/dockreg/admin-password")
        return f"admin:{printed.split()[-1]}" if "exit code" not in printed else f"admin:{printed.split()[0]}"


class PlainTests(ComposeTestCase):
    def test_plain(self) -> None:
        """The service starts, serves, shows metrics, can be administered and ends."""
        self.compose("up", "-d")
        self.wait_for("http://127.0.0.1:5000/readyz")
        who = self.admin()
        self.round_trip(image("composed"), "127.0.0.1:5000/team/app:v1", who, "tls-verify=false")
        self.assertIn("dockreg_build_info", self.curl("-f", "http://127.0.0.1:5001/metrics"))
        self.assertIn("team/app", self.compose("exec", "-T", "registry", "dockreg", "repo", "list"))
        [container] = self.engine.containers()
        read_only = self.do("podman", "inspect", "--format", "{{.HostConfig.ReadonlyRootfs}}", container)
        self.assertEqual("true", read_only)
        self.end()


class TlsTests(ComposeTestCase):
    file = "compose.tls.yaml"

    def setUp(self) -> None:
        """Write certificate, key and users."""
        super().setUp()
        self.tls, users = self.home / "tls", self.home / "users"
        for directory in (self.home, self.tls, users):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        write_certificate(self.tls)
        digest = bcrypt.hashpw(b"carols secret", bcrypt.gensalt(4)).decode()
        (users / "htpasswd").write_text(f"carol:{digest}\n")
        self.own()
        (self.home / "authorities").mkdir()
        shutil.copy(self.tls / "certificate.pem", self.home / "authorities" / "ca.crt")

    def own(self) -> None:
        """Make the key the server's."""
        for path in (self.tls / "key.pem", self.home / "users" / "htpasswd"):
            os.chown(path, 5000, 5000)
            path.chmod(0o400)

    def served(self) -> str:
        """Return the certificate that clients are shown."""
        shown = self.engine.run("openssl", "s_client", "-connect", f"127.0.0.1:{PORT}").stdout
        begin, end = shown.find("-----BEGIN"), shown.find("-----END CERTIFICATE-----")
        return shown[begin:end] if begin >= 0 else ""

    def test_tls_and_users(self) -> None:
        """TLS only, users of the file only, and a replaced certificate is taken without a restart."""
        self.compose("up", "-d")
        trust = ("--cacert", str(self.home / "authorities" / "ca.crt"))
        self.wait_for("https://127.0.0.1/readyz", *trust)
        flags = (f"cert-dir={self.home}/authorities",)
        self.round_trip(image("over TLS"), "127.0.0.1/team/app:v1", "carol:carols secret", *flags)
        self.assertEqual("401", self.status(*trust, "https://127.0.0.1/v2/"))
        self.assertEqual("401", self.status(*trust, "-u", "carol:wrong", "https://127.0.0.1/v2/"))
        self.assertEqual("200", self.status(*trust, "-u", self.admin(), "https://127.0.0.1/v2/"))
        self.assertNotEqual("200", self.status("http://127.0.0.1:443/healthz"))
        [container] = self.engine.containers()
        self.assertEqual("", self.do("podman", "healthcheck", "run", container))
        self.replace_certificate()
        self.end()

    def replace_certificate(self) -> None:
        """Exchange certificate and key, and wait until the new one is served."""
        new = self.home / "new"
        new.mkdir()
        certificate, key = write_certificate(new)
        key.replace(self.tls / "key.pem")
        certificate.replace(self.tls / "certificate.pem")
        self.own()
        wanted = (self.tls / "certificate.pem").read_text().strip().removesuffix("-----END CERTIFICATE-----")
        end = time.monotonic() + PATIENCE_SECONDS
        while self.served().strip() != wanted.strip():
            self.assertTrue(time.monotonic() < end, "the old certificate is still served")
            time.sleep(0.5)  # the server looks every few seconds
