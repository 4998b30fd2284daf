"""cosign: signatures and attestations beside an image.

It takes minutes to build, so only ``make fault ONLY=cosign`` does that.
"""

from __future__ import annotations

import json
import shutil

from tests.clients.case import PASSWORD, USER
from tests.clients.local import PATH, LocalClientTestCase
from tests.integration.images import image

INSECURE = "--allow-insecure-registry"
#: How signatures and attestations are attached through the referrers API; without these, as tags.
AS_REFERRER = ("--registry-referrers-mode=oci-1-1",)


class CosignTests(LocalClientTestCase):
    skip = (
        None
        if shutil.which("cosign", path=PATH)
        else "cosign is not built (make fault ONLY=cosign builds it)"
    )

    def setUp(self) -> None:
        """Log in, push an image, and make a pair of keys."""
        super().setUp()
        self.cosign("login", self.host, "-u", USER, "-p", PASSWORD)
        content = image(self.id())
        self.repository = f"cosign/{self._testMethodName}"
        name = f"{self.host}/{self.repository}"
        self.run_program(
            "skopeo", "copy", "--dest-tls-verify=false", self.layout(content), f"docker://{name}:v1"
        )
        self.digest = content.manifest.digest
        self.target = f"{name}@{self.digest}"
        self.cosign("generate-key-pair", "--output-key-prefix", str(self.home / "pair"))
        self.private = ("--key", str(self.home / "pair.key"), "--tlog-upload=false", "--yes", INSECURE)
        self.public = ("--key", str(self.home / "pair.pub"), "--insecure-ignore-tlog", INSECURE)

    @property
    def environment(self) -> dict[str, str]:
        """Keys of these tests have no password; skopeo finds the login where cosign left it."""
        return {
            **super().environment,
            "COSIGN_PASSWORD": "",
            "COSIGN_EXPERIMENTAL": "1",
            "REGISTRY_AUTH_FILE": str(self.home / "docker" / "config.json"),
        }

    def cosign(self, *arguments: str) -> str:
        """Run a command that must succeed and return its output."""
        return self.run_program("cosign", *arguments)

    def artifact_types(self) -> list[str]:
        """Return what the registry's referrers API knows of the image."""
        address = f"http://{self.host}/v2/{self.repository}/referrers/{self.digest}"
        found = json.loads(self.curl("-f", "-u", f"{USER}:{PASSWORD}", address))
        return [each["artifactType"] for each in found["manifests"]]

    def test_sign(self) -> None:
        """A signature is stored as a tag, found again and verified."""
        self.cosign("sign", *self.private, self.target)
        self.assertIn(self.digest, self.cosign("verify", *self.public, "--output=json", self.target))

    def test_sign_through_referrers(self) -> None:
        """A signature is stored as a referrer of its image, found again and verified."""
        self.cosign("sign", *self.private, *AS_REFERRER, self.target)
        self.assertEqual(1, len(self.artifact_types()))
        verified = self.cosign("verify", *self.public, "--experimental-oci11", "--output=json", self.target)
        self.assertIn(self.digest, verified)

    def test_unsigned(self) -> None:
        """An image without a signature is not verified."""
        self.assertIn("no signatures found", self.refused("cosign", "verify", *self.public, self.target))

    def test_attest(self) -> None:
        """An attestation is stored as a tag and verified."""
        self.attest()
        self.cosign("verify-attestation", *self.public, self.target)

    def test_attest_with_a_bundle(self) -> None:
        """An attestation in a bundle is stored as a referrer and verified."""
        self.attest("--new-bundle-format")
        self.assertEqual(1, len(self.artifact_types()))
        root = self.home / "root.json"
        root.write_text(
            json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"})
        )
        bundle = ("--new-bundle-format", "--trusted-root", str(root))
        self.cosign("verify-attestation", *self.public, *bundle, self.target)

    def attest(self, *options: str) -> None:
        """Attach a statement about the image."""
        predicate = self.home / "predicate.json"
        predicate.write_text(json.dumps({"checked": True}))
        self.cosign("attest", *self.private, "--predicate", str(predicate), *options, self.target)

    def test_tree_and_clean(self) -> None:
        """What is attached to an image is listed, and removed."""
        self.cosign("sign", *self.private, self.target)
        self.attest()
        tree = self.cosign("tree", INSECURE, self.target)
        self.assertIn("Signatures for an image tag", tree)
        self.assertIn("Attestations for an image tag", tree)
        self.cosign("clean", "--force", INSECURE, self.target)
        self.refused("cosign", "verify", *self.public, self.target)
