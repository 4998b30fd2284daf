"""Tests of ``dockreg_tx.access.tokens`` and ``keys``: what forges, outlives or misuses a token is refused."""

from __future__ import annotations

import base64
import hmac
import json
import os
import stat
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.access.grants import Grant, Principal
from dockreg_tx.access.keys import KeyRing, add_key, ensure_key, read_keys, remove_retired_keys
from dockreg_tx.access.tokens import (
    CACHE_LIMIT_ENTRIES,
    LEEWAY_SECONDS,
    RETIRED_SECONDS,
    TOKEN_SECONDS,
    Asked,
    Claims,
    TokenIssuer,
    granted_part,
    password_fingerprint,
)
from dockreg_tx.oci.errors import Unauthorized
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.oci.scopes import Scope, parse_scopes

START = 1_800_000_000.0
SERVICE = "dockreg-test"
ALICE = Principal("alice", grants=(Grant.parse("pull,push:team/**"),), fingerprint="abc")


class TokenCase(SynchronousTestCase):
    """A key ring on disk, an issuer, and a clock that is set by hand."""

    def setUp(self) -> None:
        """Make the first key."""
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.at = START
        ensure_key(self.directory, now=self.at)
        self.keys = self.ring()
        self.issuer = self.issuer_of(SERVICE)

    def ring(self) -> KeyRing:
        """Return another view of the same keys, as another process has it."""
        return KeyRing(directory=self.directory, now=self.now, retired_seconds=RETIRED_SECONDS)

    def now(self) -> float:
        """Return the time."""
        return self.at

    def issuer_of(self, service: str) -> TokenIssuer:
        """Return an issuer with these keys."""
        return TokenIssuer(keys=self.ring(), service=service, now=self.now, new_id=lambda: "id")

    def issue(self, text: str = "repository:team/app:pull,push", principal: Principal = ALICE) -> str:
        """Return a token for some scopes."""
        granted, refused = granted_part(principal, parse_scopes(text))
        return self.issuer.issue(principal, granted=granted, refused=refused)

    def forge(self, *, key: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token like ours with other claims, header or key."""
        ours = self.keys.signing_key()
        heads = {"typ": "JWT", "alg": "ES256", "kid": ours.key_id, **(header or {})}
        body = {
            "iss": SERVICE,
            "sub": "alice",
            "aud": SERVICE,
            "nbf": int(self.at),
            "exp": int(self.at) + TOKEN_SECONDS,
            "access": [],
            **claims,
        }
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(heads, body, key or ours.key, algorithms=[heads["alg"]])

    def assert_refused(self, token: str) -> None:
        """Check that a token is refused as invalid."""
        error = self.assertRaises(Unauthorized, self.issuer.verify, token)
        self.assertEqual("invalid_token", error.reason)
        self.assertIsNone(error.__cause__)


class VerifyTests(TokenCase):
    """What is a good token, and what is not."""

    def test_round_trip(self) -> None:
        """A token says whose it is, which password it rests on and what was asked, granted or not."""
        claims = self.issuer.verify(self.issue("repository:team/app:pull,delete repository:other:push"))
        self.assertEqual(("alice", None, "abc"), (claims.user, claims.robot_id, claims.fingerprint))
        self.assertEqual(START + TOKEN_SECONDS, claims.expires_at)
        for action, name in [("pull", "team/app"), ("delete", "team/app"), ("push", "other")]:
            self.assertTrue(claims.asked.covers(action, RepositoryName(name)), name)
        self.assertFalse(claims.asked.covers("pull", RepositoryName("other")))

    def test_good_forgery(self) -> None:
        """The forgeries below are refused for their faults alone: without one they would pass."""
        self.assertEqual("alice", self.issuer.verify(self.forge()).user)
        self.assertEqual("alice", self.issuer.verify(self.forge(aud=[SERVICE])).user)

    def test_other_process(self) -> None:
        """A token of one process is good in every other one."""
        self.assertEqual("alice", self.issuer_of(SERVICE).verify(self.issue()).user)

    def test_expiry(self) -> None:
        """A token ends after 300 s and a minute for clocks that differ; whether it was seen before or not."""
        token = self.issue()
        self.issuer.verify(token)
        self.at = START + TOKEN_SECONDS + LEEWAY_SECONDS - 1
        self.issuer.verify(token)
        self.at += 1
        self.assert_refused(token)
        self.issuer = self.issuer_of(SERVICE)
        self.assert_refused(token)

    def test_not_before(self) -> None:
        """A token from the future is refused, but for a minute."""
        self.issuer.verify(self.forge(nbf=int(START) + LEEWAY_SECONDS))
        self.assert_refused(self.forge(nbf=int(START) + LEEWAY_SECONDS + 1))

    def test_other_registry(self) -> None:
        """A token for another service, or from one, is refused."""
        self.assert_refused(self.issuer_of("another").issue(ALICE, granted=[], refused=[]))
        self.assert_refused(self.forge(aud="another"))
        self.assert_refused(self.forge(aud=["another", SERVICE]))
        self.assert_refused(self.forge(iss="another"))
        self.assert_refused(self.forge(aud=None))
        self.assert_refused(self.forge(iss=None))

    def test_missing_claims(self) -> None:
        """A token without an end, a beginning, a user or an access list is refused."""
        for claim in ("exp", "nbf", "sub", "access"):
            self.assert_refused(self.forge(**{claim: None}))
        self.assert_refused(self.forge(exp="soon"))
        self.assert_refused(self.forge(access="everything"))

    def test_algorithm_none(self) -> None:
        """``alg: none`` is refused, in every spelling, with and without a signature."""
        _, body, signature = self.issue().split(".")
        for algorithm in ("none", "None", "NONE", "nOnE", ""):
            head = encoded({"typ": "JWT", "alg": algorithm, "kid": self.keys.signing_key().key_id})
            self.assert_refused(f"{head}.{body}.")
            self.assert_refused(f"{head}.{body}.{signature}")

    def test_key_confusion(self) -> None:
        """A MAC whose secret is our public key is refused, and so is every other algorithm."""
        ours = self.keys.signing_key().key
        for secret in (ours.as_pem(private=False), json.dumps(ours.as_dict(private=False)).encode()):
            head = encoded({"typ": "JWT", "alg": "HS256", "kid": self.keys.signing_key().key_id})
            signed = f"{head}.{self.forge().split('.')[1]}"
            mac = hmac.digest(secret, signed.encode(), "sha256")
            self.assert_refused(f"{signed}.{base64url(mac)}")
        self.assert_refused(self.forge(key=RSAKey.generate_key(2048), header={"alg": "RS256"}))

    def test_foreign_key(self) -> None:
        """A key that a token brings or points at is not used, even under a key id of ours."""
        own = ECKey.generate_key("P-256")
        self.assert_refused(self.forge(key=own))
        self.assert_refused(self.forge(key=own, header={"kid": own.thumbprint()}))
        for header in (
            {"jwk": own.as_dict(private=False)},
            {"jku": "https://attacker.example/jwks.json"},
            {"x5u": "https://attacker.example/chain.pem"},
            {"x5c": ["MIIB"]},
            {"crit": ["exp"]},
        ):
            self.assert_refused(self.raw(own, header))
            # Even signed by us: our tokens never look like this.
            self.assert_refused(self.raw(self.keys.signing_key().key, header))
        self.assertEqual("alice", self.issuer.verify(self.raw(self.keys.signing_key().key, {})).user)

    def raw(self, key: ECKey, header: dict[str, Any]) -> str:
        """Return a token with headers that the library would not write."""
        good = {"typ": "JWT", "alg": "ES256", "kid": self.keys.signing_key().key_id, **header}
        signed = f"{encoded(good)}.{self.forge().split('.')[1]}"
        assert key.private_key is not None
        r, s = decode_dss_signature(key.private_key.sign(signed.encode(), ECDSA(SHA256())))
        return f"{signed}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def test_tampered(self) -> None:
        """A token whose claims or signature were changed is refused."""
        head, body, signature = self.issue().split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=="))
        self.assert_refused(f"{head}.{encoded({**claims, 'sub': 'admin'})}.{signature}")
        self.assert_refused(f"{head}.{body}.{signature[:-4]}AAAA")
        self.assert_refused(f"{head}.{body}.")

    def test_nonsense(self) -> None:
        """Whatever is no token is refused, in one way."""
        for text in ("", ".", "..", "a.b.c", "é.é.é", "\udc80", "a" * 100_000, "a.b.c.d.e", "{}", "null"):
            self.assert_refused(text)

    def test_cache_is_bounded(self) -> None:
        """Remembered tokens are few enough, and a refused one is not remembered."""
        self.issuer.verify(self.issue())
        self.assert_refused("nonsense")
        self.assertEqual(1, len(self.issuer._verified))
        self.assertLessEqual(1, CACHE_LIMIT_ENTRIES)


class AskedTests(SynchronousTestCase):
    """What a token covers."""

    def test_exact_names(self) -> None:
        """A scope covers exactly its repository: no prefix, no child, no other case."""
        asked = Asked(parse_scopes("repository:a/b:pull"))
        self.assertTrue(asked.covers("pull", RepositoryName("a/b")))
        for name in ("a/bc", "a", "a/b/c", "b", "a/B"):
            self.assertFalse(asked.covers("pull", RepositoryName(name)), name)
        for action in ("push", "create", "delete", "catalog", "admin"):
            self.assertFalse(asked.covers(action, RepositoryName("a/b")), action)

    def test_actions(self) -> None:
        """Push covers creating, * everything in the repository, and neither covers deleting or more."""
        for text, covered in [
            ("pull", "pull"),
            ("push", "push,create"),
            ("delete", "delete"),
            ("*", "pull,push,create,delete"),
        ]:
            asked = Asked(parse_scopes(f"repository:a:{text}"))
            for action in ("pull", "push", "create", "delete", "admin", "metrics"):
                is_covered = asked.covers(action, RepositoryName("a"))
                self.assertEqual(action in covered.split(","), is_covered, (text, action))
            self.assertFalse(asked.covers("catalog", None))

    def test_catalog(self) -> None:
        """The catalog has a scope of its own."""
        asked = Asked(parse_scopes("registry:catalog:*"))
        self.assertTrue(asked.covers("catalog", None))
        self.assertFalse(asked.covers("metrics", None))
        self.assertFalse(asked.covers("pull", RepositoryName("catalog")))


class GrantedPartTests(SynchronousTestCase):
    """What of the asked scopes is granted."""

    def part(self, text: str, principal: Principal = ALICE) -> tuple[str, str]:
        """Return the granted and the refused scopes as texts."""
        granted, refused = granted_part(principal, parse_scopes(text))
        return " ".join(map(str, granted)), " ".join(map(str, refused))

    def test_table(self) -> None:
        """The grants cut what was asked; what is left over is named."""
        admin = Principal("admin", is_admin=True)
        creator = Principal("c", grants=(Grant.parse("create:**"),))
        for text, principal, granted, refused in [
            ("repository:team/a:push,pull", ALICE, "repository:team/a:push,pull", ""),
            ("repository:team/a:pull,delete", ALICE, "repository:team/a:pull", "repository:team/a:delete"),
            ("repository:team/a:*", ALICE, "repository:team/a:pull,push", "repository:team/a:*"),
            ("repository:team/a:*", admin, "repository:team/a:*", ""),
            ("repository:other:pull", ALICE, "", "repository:other:pull"),
            ("repository:a:pull,push", creator, "repository:a:push", "repository:a:pull"),
            ("repository:team/a:pull repository:team/a:push", ALICE, "repository:team/a:pull,push", ""),
            ("registry:catalog:*", ALICE, "registry:catalog:*", ""),
            ("registry:other:*", admin, "", "registry:other:*"),
            ("repository:Bad!Name:pull", admin, "", "repository:Bad!Name:pull"),
            ("repository:h:5000/a:pull", admin, "", "repository:h:5000/a:pull"),
            ("", ALICE, "", ""),
        ]:
            self.assertEqual((granted, refused), self.part(text, principal), text)

    def test_fingerprint(self) -> None:
        """Passwords have different fingerprints that do not show them."""
        first, second = password_fingerprint("$2b$12$a"), password_fingerprint("$2b$12$b")
        self.assertNotEqual(first, second)
        self.assertNotIn("$2b$", first)


class KeyTests(TokenCase):
    """Making, replacing and retiring keys."""

    def test_private_file(self) -> None:
        """A key lies in one file that only its owner reads; a second start keeps it."""
        (name,) = os.listdir(self.directory)
        mode = stat.S_IMODE(os.stat(os.path.join(self.directory, name)).st_mode)
        self.assertEqual(0o600, mode)
        ensure_key(self.directory, now=START + 1)
        self.assertEqual([name], os.listdir(self.directory))

    def test_half_written(self) -> None:
        """What a crash left of a key is removed, and is no key."""
        with open(os.path.join(self.directory, ".1-half.pem"), "w") as file:
            file.write("-----BEGIN")
        ensure_key(self.directory, now=START)
        self.assertEqual(1, len(os.listdir(self.directory)))

    def test_damaged(self) -> None:
        """A damaged key is named, and what it holds is not."""
        (name,) = os.listdir(self.directory)
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write("secret nonsense")
        error = self.assertRaises(ValueError, read_keys, self.directory)
        self.assertIn(path, str(error))
        self.assertNotIn("nonsense", str(error))

    def test_rotation(self) -> None:
        """A new key signs at once in every process; tokens of the old one are good until they end."""
        other = self.issuer_of(SERVICE)
        old = self.issue()
        other.verify(old)
        key_id = add_key(self.directory, now=START + 10)
        self.at = START + 10
        self.assertEqual(key_id, header_of(self.issue())["kid"])
        self.assertEqual(key_id, header_of(other.issue(ALICE, granted=[], refused=[]))["kid"])
        self.assertEqual("alice", other.verify(old).user)
        self.assertEqual(2, len(self.published()))
        self.at = START + 10 + RETIRED_SECONDS
        self.assertEqual([key_id], self.published())

    def test_retired_key(self) -> None:
        """A key that was replaced long ago signs nothing that is taken, however new the token says it is."""
        stolen = self.keys.signing_key()
        add_key(self.directory, now=START + 1)
        self.at = START + 1 + RETIRED_SECONDS
        token = self.forge(key=stolen.key, header={"kid": stolen.key_id})
        self.assert_refused(token)

    def test_removal(self) -> None:
        """Retired keys are removed; a key that leaked can be at once, and its tokens end with it."""
        old = self.issue()
        self.issuer.verify(old)
        add_key(self.directory, now=START + 1)
        self.assertEqual([], remove_retired_keys(self.directory, replaced_before=START))
        self.assertEqual(1, len(remove_retired_keys(self.directory, replaced_before=float("inf"))))
        self.assert_refused(old)

    def test_clock_set_back(self) -> None:
        """A key that is made while the clock is behind signs all the same."""
        key_id = add_key(self.directory, now=START - 1000)
        self.assertEqual(key_id, self.ring().signing_key().key_id)

    def test_published(self) -> None:
        """The key set tells the public half alone."""
        (key,) = self.keys.public_keys()["keys"]
        self.assertEqual({"kty", "crv", "x", "y", "use", "alg", "kid"}, set(key))
        self.assertEqual(self.keys.signing_key().key_id, key["kid"])

    def published(self) -> list[str]:
        """Return the ids in the key set."""
        return [str(key["kid"]) for key in self.keys.public_keys()["keys"]]


class ClaimsTests(SynchronousTestCase):
    """Values."""

    def test_anonymous(self) -> None:
        """Scopes with equal targets are one."""
        asked = Asked((Scope("repository", "a", ("pull",)), Scope("repository", "a", ("push",))))
        claims = Claims("", None, "", asked, 0.0)
        self.assertTrue(claims.asked.covers("pull", RepositoryName("a")))
        self.assertTrue(claims.asked.covers("push", RepositoryName("a")))


def encoded(document: dict[str, Any]) -> str:
    """Return a part of a token."""
    return base64url(json.dumps(document).encode())


def base64url(content: bytes) -> str:
    """Return content as tokens spell it."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def header_of(token: str) -> dict[str, Any]:
    """Return the header of a token."""
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".", maxsplit=1)[0] + "=="))
    return header
