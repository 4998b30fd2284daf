"""Every client against both challenges: it logs in, pushes and pulls with Bearer, and with Basic."""

from __future__ import annotations

from typing import ClassVar

from tests.clients import logins
from tests.clients.case import PASSWORD, USER
from tests.clients.logins import COPY, HOST
from tests.clients.namespace import missing


class BearerTests(logins.LoginCase):
    skip = missing("curl") or None
    challenge = "bearer"
    server_environment: ClassVar = {"DOCKREG_ACCESS_ANONYMOUS_GRANTS": '["pull:public/**"]'}

    def test_public_docker(self) -> None:
        """Docker pulls what is public without credentials, and pushes there once it has logged in."""
        self.needs("docker", "dockerd")
        name, private = f"{HOST}/public/docker:v1", f"{HOST}/private/docker:v1"
        self.docker_push_and_pull(private)
        self.docker_push_and_pull(name)
        self.docker("logout", HOST)
        self.docker("pull", name)
        self.assertIn("anonymous", self.tokens())
        self.refused("docker", "push", name)
        self.refused("docker", "pull", private)
        self.docker_login()
        self.docker("push", name)

    def test_public_skopeo(self) -> None:
        """Skopeo pulls what is public without credentials, and pushes there once it has logged in."""
        self.needs("skopeo")
        name, private = (f"docker://{HOST}/{part}/skopeo:v1" for part in ("public", "private"))
        layout = self.layout(self.content)
        self.refused("skopeo", "--insecure-policy", *COPY, layout, name)
        self.skopeo("login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, HOST)
        for each in (name, private):
            self.skopeo(*COPY, layout, each)
        self.skopeo("logout", HOST)
        self.skopeo(*COPY, name, f"oci:{self.home}/back:v1")
        self.came_back(self.home / "back")
        self.refused("skopeo", "--insecure-policy", *COPY, private, f"oci:{self.home}/private:v1")


class BasicTests(logins.LoginCase):
    skip = missing("curl") or None
    challenge = "basic"
    server_environment: ClassVar = {"DOCKREG_ACCESS_CHALLENGE": "basic"}
