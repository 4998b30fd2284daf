"""``require_tls``: who may show a password or a token, by the way it came."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock

from dockreg_tx.web.origin import Origins
from dockreg_tx.web.routes import RegistryResource
from dockreg_tx.web.site import AccessEntry, RegistrySite
from tests.web.exchange import Exchange, exchange
from tests.web.test_matrix import basic, bearer
from tests.web.tokens import TokenCase

STRANGER = IPv4Address("TCP", "192.0.2.1", 4711)
PROXY = IPv4Address("TCP", "10.0.0.1", 4711)
REASON = "this registry takes passwords and tokens over TLS only: use https"
SCOPE = "repository:team/app:pull"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class WayCase(TokenCase):
    """A registry in memory, which may be reached from anywhere."""

    require_tls = True
    origins = Origins(trusted_proxies=["10.0.0.0/8"])

    async def fill(self) -> None:
        """Collect every kind of credentials."""
        await super().fill()
        document = await self.ask(SCOPE, user="puller", more="&offline_token=true")
        robot = await self.add_robot("puller")
        self.refresh = document["refresh_token"]
        self.credentials = {
            "password": basic("puller", "secret"),
            "wrong password": basic("puller", "wrong"),
            "robot as a password": basic("puller", robot),
            "robot as a token": bearer(robot),
            "access token": bearer(document["token"]),
            "anonymous token": bearer((await self.ask(SCOPE, user=None))["token"]),
            "nonsense": {"Authorization": "Bearer nonsense"},
            "another scheme": {"Authorization": "Digest x"},
        }
        self.log: list[AccessEntry] = []
        self.site = RegistrySite(
            RegistryResource(self._app()),
            clock=Clock(),
            new_request_id=lambda: "id",
            access_log=self.log.append,
            client_of=self.origins.client_of,
        )

    def get(
        self,
        peer: IAddress,
        headers: dict[str, str],
        *,
        target: str = "/v2/",
        is_tls: bool = False,
    ) -> Exchange:
        """Return the answer to a GET from somewhere."""
        return exchange(self.site, "GET", target, headers=headers, peer=peer, is_tls=is_tls)

    def password_status(
        self, peer: IAddress, forwarded: dict[str, str] | None = None, *, is_tls: bool = False
    ) -> int:
        """Return how a good password fares from somewhere."""
        return self.get(peer, {**basic("puller", "secret"), **(forwarded or {})}, is_tls=is_tls).status


class RequireTlsTests(WayCase):
    """Credentials that others could have read are refused, before anybody looks at them."""

    async def test_in_the_clear(self) -> None:
        """Passwords, robots and tokens, good or wrong, get 403 with the reason, and no challenge."""
        for kind, headers in self.credentials.items():
            for target in ("/v2/", "/v2/team/app/tags/list", f"/token?scope={SCOPE}"):
                answer = self.get(STRANGER, headers, target=target)
                self.assertEqual((403, REASON), (answer.status, answer.message), f"{kind} {target}")
                self.assertNotIn("WWW-Authenticate", answer.head)

    async def test_forms(self) -> None:
        """So do those in the forms of the token service."""
        for form in (
            "grant_type=password&username=puller&password=secret",
            f"grant_type=refresh_token&refresh_token={self.refresh}",
        ):
            answer = exchange(self.site, "POST", "/token", headers=FORM, body=form.encode(), peer=STRANGER)
            self.assertEqual((403, REASON), (answer.status, answer.message))
            answer = exchange(
                self.site, "POST", "/token", headers=FORM, body=form.encode(), peer=STRANGER, is_tls=True
            )
            self.assertEqual(200, answer.status)

    async def test_without_credentials(self) -> None:
        """Who shows nothing is asked as ever: there is nothing to read."""
        answer = self.get(STRANGER, {})
        self.assertEqual(401, answer.status)
        self.assertEqual(200, self.get(STRANGER, {}, target="/healthz").status)
        self.assertEqual(200, self.get(STRANGER, {}, target="/token").status)

    async def test_tls(self) -> None:
        """Over TLS all is as without the setting."""
        self.assertEqual(200, self.password_status(STRANGER, is_tls=True))
        answer = self.get(STRANGER, self.credentials["wrong password"], is_tls=True)
        self.assertEqual(401, answer.status)
        for kind in ("robot as a password", "robot as a token", "access token"):
            self.assertEqual(200, self.get(STRANGER, self.credentials[kind], is_tls=True).status, kind)

    async def test_this_machine(self) -> None:
        """The loopback and UNIX sockets are excepted."""
        for peer in (
            IPv4Address("TCP", "127.0.0.1", 1),
            IPv4Address("TCP", "127.8.9.1", 1),
            IPv6Address("TCP", "::1", 1),
            IPv6Address("TCP", "::ffff:127.0.0.1", 1),
            UNIXAddress(b""),
        ):
            self.assertEqual(200, self.password_status(peer), peer)
        self.assertEqual(403, self.password_status(IPv6Address("TCP", "2001:db8::1", 1)))
        self.assertEqual(403, self.password_status(IPv6Address("TCP", "fe80::1%lo", 1)))

    async def test_trusted_proxy(self) -> None:
        """What a trusted proxy got over https counts as TLS, in either header; what it got otherwise not."""
        client = {"X-Forwarded-For": "203.0.113.9"}
        for said, status in (
            ({**client, "X-Forwarded-Proto": "https"}, 200),
            ({**client, "X-Forwarded-Proto": "HTTPS"}, 200),
            ({**client, "X-Forwarded-Proto": "http"}, 403),
            ({**client, "X-Forwarded-Proto": "https, http"}, 403),
            (client, 403),
            ({"Forwarded": "for=203.0.113.9;proto=https"}, 200),
            ({"Forwarded": "for=203.0.113.9;proto=http"}, 403),
            ({"Forwarded": "proto=https;for=127.0.0.1, for=203.0.113.9;proto=http"}, 403),
            ({}, 403),
        ):
            self.assertEqual(status, self.password_status(PROXY, said), said)

    async def test_proxy_on_this_machine(self) -> None:
        """A client far away does not become local by a proxy on a UNIX socket."""
        for said, status in (
            ({"X-Forwarded-For": "203.0.113.9"}, 403),
            ({"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}, 200),
            ({"X-Forwarded-For": "unknown"}, 403),
            ({"Forwarded": "for=_hidden"}, 403),
            ({}, 200),
        ):
            self.assertEqual(status, self.password_status(UNIXAddress(b""), said), said)

    async def test_untrusted_proxy(self) -> None:
        """Whoever is not trusted may say what it likes."""
        for said in (
            {"X-Forwarded-Proto": "https"},
            {"X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"},
            {"Forwarded": "for=127.0.0.1;proto=https"},
            {"X-Forwarded-Ssl": "on", "Front-End-Https": "on"},
        ):
            self.assertEqual(403, self.password_status(STRANGER, said), said)


class NotRequiredTests(WayCase):
    """Without the setting."""

    require_tls = False

    async def test_everything_passes(self) -> None:
        """Passwords are taken from anywhere."""
        self.assertEqual(200, self.password_status(STRANGER))


class AccessLogTests(WayCase):
    """Whose address is logged."""

    require_tls = False

    def logged(self, peer: IAddress, target: str = "/v2/", forwarded: dict[str, str] | None = None) -> str:
        """Return the address in the log of one request."""
        self.get(peer, forwarded or {}, target=target)
        return self.log.pop().peer

    async def test_addresses(self) -> None:
        """That of the client where the peer is a trusted proxy, and only there; also where no route is."""
        for target in ("/v2/", "/nowhere", "/healthz", "/v2/team/app/tags/list"):
            for said in ({"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}):
                self.assertEqual("203.0.113.9", self.logged(PROXY, target, said))
                self.assertEqual("203.0.113.9", self.logged(UNIXAddress(b""), target, said))
                self.assertEqual("192.0.2.1", self.logged(STRANGER, target, said))
        self.assertEqual("10.0.0.1", self.logged(PROXY))
        self.assertEqual("10.0.0.1", self.logged(PROXY, forwarded={"X-Forwarded-For": "evil\tname"}))
        self.assertEqual("unix", self.logged(UNIXAddress(b"")))
