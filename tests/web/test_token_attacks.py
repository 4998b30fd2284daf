"""Attacks on access tokens, each by its name, as requests for content.

``tests.access.test_tokens`` has the same rules in all their variants; here it is shown that nothing on the
way from the socket to the content goes round them.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey

from dockreg_tx.access.tokens import LEEWAY_SECONDS, TOKEN_SECONDS
from tests.web.api import Reply
from tests.web.tokens import START, TokenCase

APP = "/v2/team/app/manifests/v1"
SCOPE = "repository:team/app:pull"
WORDS = ("canary", "Traceback", "joserfc", "/keys", "\\n")


class AttackCase(TokenCase):
    """A manifest that ``puller`` may pull, and all that a forger could know."""

    async def fill(self) -> None:
        """Push it, and fetch an honest token."""
        await super().fill()
        await self.world.put("v1", await self.world.image(b"a layer"))
        self.good = (await self.ask(SCOPE, user="puller"))["token"]
        self.head, self.claims = (decoded(part) for part in self.good.split(".")[:2])
        (self.public,) = (await self.call("GET", "/.well-known/jwks.json", user=None)).json["keys"]

    async def pull(self, token: str) -> Reply:
        """Return the answer to a pull with a token."""
        return await self.bearer("GET", APP, token)

    async def refused(self, token: str, path: str = APP) -> None:
        """Check that a token opens nothing, and that the answer tells nothing."""
        reply = await self.bearer("GET", path, token)
        self.assertEqual((401, "UNAUTHORIZED"), (reply.status, reply.code))
        self.assertIn('error="invalid_token"', reply.header("WWW-Authenticate") or "")
        for word in WORDS:
            self.assertNotIn(word, reply.body.decode())

    def signed(self, **claims: Any) -> str:
        """Return a token signed by the registry's own key, which says something else."""
        return raw(self.head, {**self.claims, **claims}, self.own_key())

    def own_key(self) -> ECKey:
        """Return the key that only the registry has."""
        return self.keys.signing_key().key


class ForgeryTests(AttackCase):
    """Tokens that the registry did not sign."""

    async def test_honest(self) -> None:
        """The token that all attacks start from is good, and so is what the tests sign in its place."""
        self.assertEqual(200, (await self.pull(self.good)).status)
        self.assertEqual(200, (await self.pull(self.signed())).status)

    async def test_alg_none(self) -> None:
        """``alg: none``, in every spelling, with and without the old signature."""
        signature = self.good.split(".")[2]
        for name in ("none", "None", "NONE", "nOnE", "", None, 0):
            for end in ("", signature):
                head = {**self.head, "alg": name}
                await self.refused(f"{encoded(head)}.{encoded({**self.claims, 'sub': 'admin'})}.{end}")

    async def test_hs256_with_the_public_key(self) -> None:
        """A MAC whose secret is the published key, in every form that it could be read from."""
        key = ECKey.import_key(self.public)
        x = base64.urlsafe_b64decode(self.public["x"] + "==")
        forms = (
            key.as_pem(private=False),
            key.as_der(private=False),
            json.dumps(self.public).encode(),
            x,
            b"",
        )
        for secret in forms:
            for algorithm in ("HS256", "HS384", "HS512"):
                signed = f"{encoded({**self.head, 'alg': algorithm})}.{encoded(self.claims)}"
                mac = hmac.digest(secret, signed.encode(), f"sha{algorithm[2:]}")
                await self.refused(f"{signed}.{base64url(mac)}")

    async def test_cve_2025_24976_key_in_the_token(self) -> None:
        """A key that the token brings, or says where to fetch, is not used; our key id beside it or not."""
        own = ECKey.generate_key("P-256")
        for more in (
            {"jwk": own.as_dict(private=False)},
            {"jku": f"{self.url}/.well-known/jwks.json"},
            {"x5u": f"{self.url}/canary.pem"},
            {"x5c": ["MIIB"]},
            {"x5t": "abc"},
        ):
            for key_id in (self.head["kid"], own.thumbprint()):
                for key in (own, self.own_key()):
                    await self.refused(raw({**self.head, "kid": key_id, **more}, self.claims, key))
        self.assertEqual([], [entry for entry in self.accesses if "canary" in entry.uri])

    async def test_foreign_key(self) -> None:
        """Another key under our key id."""
        await self.refused(raw(self.head, self.claims, ECKey.generate_key("P-256")))

    async def test_kid_tricks(self) -> None:
        """A key id is looked up among our keys: it is no path, no query and no address."""
        for key_id in (
            "../../../dev/null", "/dev/null", f"../keys/{self.head['kid']}", f"./{self.head['kid']}",
            f"{self.head['kid']}\x00", f"{self.head['kid']}.pem", "' OR '1'='1", "*", "", " ", None, 0, True,
            [self.head["kid"]], {"kid": self.head["kid"]}, f"http://127.0.0.1:{self.number}/canary", "é",
            self.head["kid"].upper(), self.head["kid"] * 1000,
        ):  # fmt: skip
            await self.refused(raw({**self.head, "kid": key_id}, self.claims, self.own_key()))
        without = {name: value for name, value in self.head.items() if name != "kid"}
        await self.refused(raw(without, self.claims, self.own_key()))

    async def test_critical_header(self) -> None:
        """A header that says it must be understood, or is not ours, is refused."""
        extra: list[dict[str, Any]] = [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"cty": "JWT"}]
        for more in extra:
            await self.refused(raw({**self.head, **more}, self.claims, self.own_key()))

    async def test_changed_claims(self) -> None:
        """Claims that were changed, under the old signature."""
        head, _, signature = self.good.split(".")
        extra: list[dict[str, Any]] = [{"sub": "admin"}, {"exp": 2**40}, {"access": []}, {"fpr": ""}]
        for more in extra:
            await self.refused(f"{head}.{encoded({**self.claims, **more})}.{signature}")

    async def test_garbled(self) -> None:
        """Truncated at any place, with a bit turned over at any place, doubled, empty, or something else."""
        for end in range(0, len(self.good) - 1, 7):
            if end:
                await self.refused(self.good[:end])
        for place in range(0, len(self.good), 11):
            turned = chr(ord(self.good[place]) ^ 1)
            if self.good[place] != "." and turned.isalnum() and place != len(self.good) - 1:
                await self.refused(self.good[:place] + turned + self.good[place + 1 :])
        head, body, signature = self.good.split(".")
        for token in (
            f"{self.good}.", f".{self.good}", f"{self.good}.{self.good}", "..", "a.b.c", "{}", "null",
            f"{head}.{body}", f"{head}..{signature}", f".{body}.{signature}", f"{body}.{head}.{signature}",
            f"{head}.{body}.{signature},{self.good}", f"{self.good} {self.good}", "%2e%2e", "é.é.é",
            f"{head}.{body}.{'A' * 86}",
        ):  # fmt: skip
            await self.refused(token)

    async def test_psychic_signature(self) -> None:
        """A signature of zeros (CVE-2022-21449)."""
        head, body, _ = self.good.split(".")
        for signature in (bytes(64), bytes(63) + b"\x01", b"\xff" * 64, bytes(128), b""):
            await self.refused(f"{head}.{body}.{base64url(signature)}")

    async def test_huge(self) -> None:
        """A token as long as headers may be costs nothing; a longer one is no request."""
        for token in ("A" * 60_000, "." * 60_000, f"{'A' * 20_000}.{'A' * 20_000}.{'A' * 20_000}"):
            await self.refused(token)
        self.assertEqual(431, (await self.pull("A" * 70_000)).status)
        nested = ("[" * 15_000).encode()
        await self.refused(f"{base64url(nested)}.{base64url(nested)}.AAAA")


class MisuseTests(AttackCase):
    """Tokens that the registry signed, for something else."""

    async def test_wrong_audience(self) -> None:
        """For another service, for several, or for none."""
        good = self.claims["aud"]
        for audience in ("another", "", None, [], [good, "another"], {"aud": good}, good.upper(), f"{good} "):
            await self.refused(self.signed(aud=audience))

    async def test_wrong_issuer(self) -> None:
        """From another service, with the same key."""
        for issuer in ("another", "", None, [self.claims["iss"]], f"https://{self.claims['iss']}"):
            await self.refused(self.signed(iss=issuer))

    async def test_expired(self) -> None:
        """Past its end, and past the minute that clocks may differ; seen before or not."""
        self.assertEqual(200, (await self.pull(self.good)).status)
        unseen = self.signed(jti="unseen")
        self.at = START + TOKEN_SECONDS + LEEWAY_SECONDS
        for token in (self.good, unseen):
            await self.refused(token)
        for end in (0, -1, "never", None, START - 3600, float("-inf")):
            await self.refused(self.signed(exp=end))

    async def test_not_yet_valid(self) -> None:
        """Before its time."""
        for begin in (START + LEEWAY_SECONDS + 1, 2**40, "later", None):
            await self.refused(self.signed(nbf=begin))

    async def test_repository_prefix(self) -> None:
        """A token for ``team/a`` opens neither ``team/ab`` nor ``team/a/b`` nor ``team``, nor they it."""
        names = ("team", "team/a", "team/ab", "team/a/b", "team/app", "steam/a", "team-a")
        for asked in names:
            token = (await self.ask(f"repository:{asked}:pull"))["token"]
            for name in names:
                status = (await self.bearer("GET", f"/v2/{name}/manifests/none", token)).status
                self.assertEqual(404 if name == asked else 401, status, f"{asked} for {name}")

    async def test_scope_patterns(self) -> None:
        """What looks like a pattern, a path or a list in a scope covers nothing."""
        for name in ("*", "**", "team/*", "team/**", "team/.*", "team/app/", "/team/app", "TEAM/APP", "",
                     "team/../team/app", "team/app%00", "team/app,other"):  # fmt: skip
            access = [{"type": "repository", "name": name, "actions": ["pull", "*"]}]
            reply = await self.pull(self.signed(access=access))
            self.assertEqual(401, reply.status, name)
            self.assertIn('error="insufficient_scope"', reply.header("WWW-Authenticate") or "")

    async def test_scope_of_another_kind(self) -> None:
        """A scope of another type, or for another action, opens no repository."""
        for kind, actions in (
            ("registry", ["*"]),
            ("repository(plugin)", ["pull"]),
            ("repository", ["PULL"]),
        ):
            access = [{"type": kind, "name": "team/app", "actions": actions}]
            self.assertEqual(401, (await self.pull(self.signed(access=access))).status)

    async def test_claims_give_no_right(self) -> None:
        """Whatever a good token claims, its user may do no more than before."""
        access = [{"type": "repository", "name": "team/app", "actions": ["pull", "push", "delete", "*"]}]
        token = self.signed(access=access, admin=True, is_admin=True, groups=["admin"])
        self.assertEqual(200, (await self.pull(token)).status)
        for method in ("PUT", "DELETE"):
            self.assertEqual(403, (await self.bearer(method, APP, token)).status)

    async def test_user_without_a_password(self) -> None:
        """A token that does not say which password it rests on is no user's."""
        for more in (
            {"fpr": ""},
            {"fpr": None},
            {"robot": "none", "fpr": ""},
            {"sub": "x"},
        ):
            await self.refused(self.signed(**more))

    async def test_refresh_token(self) -> None:
        """A refresh token opens nothing but the token service: neither as a token nor as a password."""
        refresh = (await self.ask(SCOPE, user="puller", more="&offline_token=true"))["refresh_token"]
        for path in (APP, "/v2/", "/v2/_catalog"):
            await self.refused(refresh, path)
            for user in ("puller", "", "admin"):
                self.assertEqual(401, (await self.call("GET", path, user=user, password=refresh)).status)
        self.assertEqual(401, (await self.call("GET", "/token", user="puller", password=refresh)).status)

    async def test_token_as_something_else(self) -> None:
        """An access token is no password, no refresh token, and fetches no other token."""
        self.assertEqual(401, (await self.call("GET", APP, user="puller", password=self.good)).status)
        self.assertEqual(401, (await self.bearer("GET", f"/token?scope={SCOPE}", self.good)).status)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        data = f"grant_type=refresh_token&refresh_token={self.good}".encode()
        reply = await self.call("POST", "/token", user=None, headers=form, data=data)
        self.assertEqual(401, reply.status)

    async def test_other_places(self) -> None:
        """A token counts in its header alone: not in the query, a cookie, or a form."""
        for path, headers in (
            (f"{APP}?access_token={self.good}", {}),
            (f"{APP}?token={self.good}", {}),
            (APP, {"Cookie": f"token={self.good}; access_token={self.good}"}),
            (APP, {"X-Registry-Auth": self.good}),
            (APP, {"Proxy-Authorization": f"Bearer {self.good}"}),
        ):
            reply = await self.call("GET", path, user=None, headers=headers)
            self.assertEqual(401, reply.status, path[:40])


def raw(head: dict[str, Any], claims: dict[str, Any], key: ECKey) -> str:
    """Return a signed token with any header; the library would not write it."""
    signed = f"{encoded(head)}.{encoded(claims)}"
    assert key.private_key is not None
    r, s = decode_dss_signature(key.private_key.sign(signed.encode(), ECDSA(SHA256())))
    return f"{signed}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def encoded(document: object) -> str:
    """Return a part of a token."""
    return base64url(json.dumps(document).encode())


def decoded(part: str) -> dict[str, Any]:
    """Return what a part of a token says."""
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    return found


def base64url(data: bytes) -> str:
    """Return base64 for addresses, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
