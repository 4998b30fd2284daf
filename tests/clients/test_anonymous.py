"""Clients that never log in, as far as the registry lets them."""

from __future__ import annotations

from tests.clients.case import REGISTRY, ClientTestCase
from tests.clients.namespace import missing
from tests.integration.images import image

FLAGS = ("--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false")


class AnonymousPullTests(ClientTestCase):
    skip = missing("skopeo", "curl") or None
    options = ("--anonymous", "pull")

    def test_pull_only(self) -> None:
        """Everybody pulls, nobody pushes or deletes without credentials."""
        self.curl_push("open/image", "v1", image("open"))
        name = f"docker://{REGISTRY}/open/image:v1"
        self.run_program("skopeo", *FLAGS, name, f"dir:{self.home}/back")
        self.refused("skopeo", *FLAGS, self.layout(image("mine")), f"docker://{REGISTRY}/open/mine:v1")
        self.refused("skopeo", "--insecure-policy", "delete", "--tls-verify=false", name)
        self.assertEqual("401", self.status("-X", "POST", f"http://{REGISTRY}/v2/open/image/blobs/uploads/"))
        self.assertEqual(["open/image"], self.get("/v2/_catalog")["repositories"])


class AnonymousPushTests(ClientTestCase):
    skip = missing("skopeo", "curl") or None
    options = ("--anonymous", "push")

    def test_push_and_pull(self) -> None:
        """Everybody pushes and pulls; deleting needs credentials."""
        name = f"docker://{REGISTRY}/open/image:v1"
        self.run_program("skopeo", *FLAGS, self.layout(image("open")), name)
        self.run_program("skopeo", *FLAGS, name, f"dir:{self.home}/back")
        self.refused("skopeo", "--insecure-policy", "delete", "--tls-verify=false", name)
        url = f"http://{REGISTRY}/v2/open/image/manifests/v1"
        self.assertEqual("401", self.status("-X", "DELETE", url))
