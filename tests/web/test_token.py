"""The token endpoint, the challenge that leads to it, and what tokens open afterwards."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from dockreg_tx.access.grants import Principal
from dockreg_tx.access.passwords import hash_password
from dockreg_tx.oci.digests import Digest
from dockreg_tx.ports import TokenKind
from tests.web.api import Reply
from tests.web.tokens import START, TokenCase

APP = "/v2/team/app"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
PULL = "repository:team/app:pull"
PUSH = "repository:team/app:pull,push"
BLOB = b"a layer"
DIGEST = Digest.of(BLOB)


def claims_of(token: str) -> Any:
    """Return the claims of a token, unverified."""
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


class ChallengeTests(TokenCase):
    """401: one challenge, in the form that every client reads."""

    async def test_form(self) -> None:
        """The challenge names realm, service and scope in this order, without blanks or empty values."""
        for method, path, scope in [
            ("GET", "/v2/", None),
            ("GET", f"{APP}/manifests/v1", PULL),
            ("HEAD", f"{APP}/manifests/v1", PULL),
            ("GET", f"{APP}/tags/list", PULL),
            ("GET", f"{APP}/blobs/uploads/x", PULL),
            ("PUT", f"{APP}/manifests/v1", PUSH),
            ("POST", f"{APP}/blobs/uploads/", PUSH),
            ("DELETE", f"{APP}/blobs/uploads/x", PUSH),
            ("DELETE", f"{APP}/manifests/v1", "repository:team/app:delete"),
            ("POST", f"{APP}/blobs/uploads/?mount={DIGEST}&from=a/b", f"{PUSH} repository:a/b:pull"),
            ("POST", f"{APP}/blobs/uploads/?mount={DIGEST}&from=A!", PUSH),
            ("GET", "/v2/_catalog", "registry:catalog:*"),
            ("GET", "/v2/Bad!Name/tags/list", None),
        ]:
            reply = await self.call(method, path, user=None)
            expected = f'Bearer realm="{self.url}/token",service="dockreg-test"'
            if scope is not None:
                expected += f',scope="{scope}"'
            self.assertEqual((401, expected), (reply.status, reply.header("WWW-Authenticate")), path)

    async def test_host(self) -> None:
        """The realm is on the host that the client used; one that would break the form is not repeated."""
        reply = await self.call("GET", "/v2/", user=None, headers={"Host": "registry.example:8080"})
        challenge = reply.header("WWW-Authenticate") or ""
        self.assertIn('realm="http://registry.example:8080/token"', challenge)
        reply = await self.call("GET", "/v2/", user=None, headers={"X-Forwarded-Host": "evil.example"})
        self.assertIn(f'realm="{self.url}/token"', reply.header("WWW-Authenticate") or "")

    async def test_reasons(self) -> None:
        """A bad token is an invalid_token, one without the scope an insufficient_scope."""
        reply = await self.bearer("GET", f"{APP}/tags/list", "nonsense")
        self.assertEqual(401, reply.status)
        self.assertRegex(reply.header("WWW-Authenticate") or "", f'scope="{PULL}",error="invalid_token"$')
        token = (await self.ask())["token"]
        reply = await self.bearer("GET", f"{APP}/tags/list", token)
        self.assertEqual(401, reply.status)
        self.assertRegex(
            reply.header("WWW-Authenticate") or "", f'scope="{PULL}",error="insufficient_scope"$'
        )

    async def test_wrong_basic(self) -> None:
        """Basic works on every request; wrong credentials get the challenge."""
        self.assertEqual(200, (await self.call("GET", "/v2/")).status)
        reply = await self.call("GET", "/v2/", password="wrong")
        self.assertEqual(401, reply.status)
        self.assertTrue((reply.header("WWW-Authenticate") or "").startswith("Bearer realm="))

    async def test_strange_scheme(self) -> None:
        """Another scheme is no way in."""
        for value in ("Digest x", "Bearer", "Bearer ", "bearer x", "Token x", ""):
            reply = await self.call("GET", "/v2/", user=None, headers={"Authorization": value})
            self.assertEqual(401, reply.status, value)


class BasicChallengeTests(TokenCase):
    """``challenge = "basic"``."""

    challenge = "basic"
    anonymous_mode = "pull"

    async def test_basic(self) -> None:
        """The challenge is Basic; tokens work all the same; anonymous gets 200 at the root."""
        reply = await self.call("DELETE", f"{APP}/manifests/v1", user=None)
        self.assertEqual('Basic realm="dockreg"', reply.header("WWW-Authenticate"))
        self.assertEqual(200, (await self.call("GET", "/v2/", user=None)).status)
        token = (await self.ask())["token"]
        self.assertEqual(200, (await self.bearer("GET", "/v2/", token)).status)


class TokenEndpointTests(TokenCase):
    """``/token``."""

    async def post(self, **form: str) -> Reply:
        """Return the answer to a form."""
        return await self.call("POST", "/token", user=None, headers=FORM, data=urlencode(form).encode())

    async def test_answer(self) -> None:
        """The answer has the token under both names, its life, and a time that Go can read."""
        reply = await self.call("GET", f"/token?service=x&scope={PUSH}&account=a&client_id=docker")
        self.assertEqual((200, "no-store"), (reply.status, reply.header("Cache-Control")))
        document = reply.json
        self.assertEqual(document["token"], document["access_token"])
        self.assertEqual((300, PUSH), (document["expires_in"], document["scope"]))
        self.assertTrue(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["issued_at"]))
        self.assertNotIn("refresh_token", document)
        claims = claims_of(document["token"])
        access = [{"type": "repository", "name": "team/app", "actions": ["pull", "push"]}]
        self.assertEqual(("admin", access), (claims["sub"], claims["access"]))

    async def test_scopes(self) -> None:
        """Scopes may be repeated and joined by blanks; more than is granted is cut, not refused."""
        document = await self.ask(f"{PUSH}+repository:a:pull", user="puller", more="&scope=repository:b:*")
        self.assertEqual(f"{PULL} repository:a:pull repository:b:pull", document["scope"])
        self.assertEqual("", (await self.ask("nonsense plugin:x:y", user="puller"))["scope"])

    async def test_many_scopes(self) -> None:
        """More scopes than any client asks for are refused: the token would not fit into a header."""
        text = "+".join(f"repository:r{number}:pull" for number in range(51))
        self.assertEqual(400, (await self.call("GET", f"/token?scope={text}")).status)

    async def test_wrong_credentials(self) -> None:
        """Wrong credentials are refused, never taken for anonymous; the challenge is one for passwords."""
        for user, password in [("admin", "wrong"), ("ghost", "secret"), ("admin", ""), ("", "secret")]:
            reply = await self.call("GET", "/token", user=user, password=password)
            self.assertEqual((401, "UNAUTHORIZED"), (reply.status, reply.code))
            self.assertEqual('Basic realm="dockreg"', reply.header("WWW-Authenticate"))

    async def test_anonymous(self) -> None:
        """Without credentials, or with empty ones, the token is anonymous, and never comes with a login."""
        for user in (None, ""):
            document = await self.ask(PULL, user=user, password="", more="&offline_token=true")
            self.assertEqual(("", ""), (document["scope"], claims_of(document["token"])["sub"]))
            self.assertNotIn("refresh_token", document)

    async def test_token_for_token(self) -> None:
        """An access token buys no other one: it would live for ever."""
        token = (await self.ask())["token"]
        self.assertEqual(401, (await self.bearer("GET", "/token", token)).status)

    async def test_post_password(self) -> None:
        """A form with a password gets the same answer; repeated scopes are joined."""
        reply = await self.call(
            "POST",
            "/token",
            user=None,
            headers=FORM,
            data=b"grant_type=password&username=puller&password=secret&service=x&client_id=y"
            b"&scope=repository:a:pull&scope=repository:b:pull,push",
        )
        self.assertEqual((200, "repository:a:pull repository:b:pull"), (reply.status, reply.json["scope"]))
        wrong = await self.post(grant_type="password", username="puller", password="wrong")
        self.assertEqual((401, "UNAUTHORIZED"), (wrong.status, wrong.code))

    async def test_refresh(self) -> None:
        """A login gets a refresh token, which buys access tokens until it is revoked; its hash is stored."""
        document = await self.ask(user="puller", more="&offline_token=true")
        refresh_token = document["refresh_token"]
        reply = await self.post(grant_type="refresh_token", refresh_token=refresh_token, scope=PULL)
        self.assertEqual((200, PULL), (reply.status, reply.json["scope"]))
        self.assertEqual(refresh_token, reply.json["refresh_token"])
        (login,) = await self.world.records.tokens()
        self.assertEqual((TokenKind.LOGIN, "puller"), (login.kind, login.user))
        self.assertNotIn(refresh_token, repr(login) + login.hash)
        await self.world.records.remove_token(login.id, now=START)
        reply = await self.post(grant_type="refresh_token", refresh_token=refresh_token)
        self.assertEqual((401, "UNAUTHORIZED"), (reply.status, reply.code))

    async def test_refresh_by_form(self) -> None:
        """``access_type=offline`` asks for a login in the words of OAuth."""
        form = {
            "grant_type": "password",
            "username": "puller",
            "password": "secret",
            "access_type": "offline",
        }
        self.assertIn("refresh_token", (await self.post(**form)).json)

    async def test_idle_login(self) -> None:
        """A login that was not used for 90 days has ended; one that was goes on."""
        document = await self.ask(user="puller", more="&offline_token=true")
        for days, status in [(60, 200), (120, 200), (211, 401)]:
            self.at = START + days * 86_400
            reply = await self.post(grant_type="refresh_token", refresh_token=document["refresh_token"])
            self.assertEqual(status, reply.status, days)

    async def test_login_elsewhere(self) -> None:
        """A refresh token is good for nothing but refreshing."""
        refresh_token = (await self.ask(user="puller", more="&offline_token=true"))["refresh_token"]
        self.assertEqual(401, (await self.bearer("GET", "/v2/", refresh_token)).status)
        self.assertEqual(401, (await self.call("GET", "/v2/", user="puller", password=refresh_token)).status)
        robot = await self.add_robot("puller")
        reply = await self.post(grant_type="refresh_token", refresh_token=robot)
        self.assertEqual(401, reply.status)

    async def test_bad_forms(self) -> None:
        """What is no form, too long, or asks for something else is refused as such."""
        rows = [
            (b"grant_type=client_credentials", FORM, 400),
            (b"", FORM, 400),
            (b"{}", {"Content-Type": "application/json"}, 400),
            (b"grant_type=\xff", FORM, 400),
            (b"&".join([b"a=b"] * 2000), FORM, 400),
            (b"a" * 70_000, FORM, 413),
        ]
        for data, headers, status in rows:
            reply = await self.call("POST", "/token", user=None, headers=headers, data=data)
            self.assertEqual(status, reply.status, data[:40])

    async def test_published_keys(self) -> None:
        """The keys are published without credentials."""
        reply = await self.call("GET", "/.well-known/jwks.json", user=None)
        (key,) = reply.json["keys"]
        self.assertEqual(("ES256", "EC"), (key["alg"], key["kty"]))
        self.assertNotIn("d", key)


class AccessTests(TokenCase):
    """What a token opens."""

    async def test_covered(self) -> None:
        """A token opens what it was asked for and its user may do."""
        token = (await self.ask(PUSH))["token"]
        self.assertEqual(200, (await self.bearer("GET", "/v2/", token)).status)
        self.assertEqual(404, (await self.bearer("GET", f"{APP}/manifests/v1", token)).status)
        self.assertEqual(202, (await self.bearer("POST", f"{APP}/blobs/uploads/", token)).status)
        self.assertEqual(401, (await self.bearer("GET", "/v2/team/apple/tags/list", token)).status)
        self.assertEqual(401, (await self.bearer("DELETE", f"{APP}/manifests/v1", token)).status)

    async def test_refused(self) -> None:
        """What was asked for and refused is denied, not sent for another token; the right is named."""
        token = (await self.ask(PUSH, user="puller"))["token"]
        reply = await self.bearer("POST", f"{APP}/blobs/uploads/", token)
        self.assertEqual((403, "DENIED"), (reply.status, reply.code))
        self.assertIn("push:team/app", reply.json["errors"][0]["message"])
        self.assertIsNone(reply.header("WWW-Authenticate"))

    async def test_push_only(self) -> None:
        """Who may only push is sent for the scope that helps with looking, then may look."""
        token = (await self.ask(PULL, user="pusher"))["token"]
        reply = await self.bearer("HEAD", f"{APP}/blobs/{DIGEST}", token)
        self.assertEqual(401, reply.status)
        self.assertIn(f'scope="{PUSH}",error="insufficient_scope"', reply.header("WWW-Authenticate") or "")
        token = (await self.ask(PUSH, user="pusher"))["token"]
        self.assertEqual(404, (await self.bearer("HEAD", f"{APP}/blobs/{DIGEST}", token)).status)
        self.assertEqual(403, (await self.bearer("GET", f"{APP}/blobs/{DIGEST}", token)).status)

    async def test_star(self) -> None:
        """``*`` covers deleting, for who may."""
        token = (await self.ask("repository:team/app:*"))["token"]
        self.assertEqual(404, (await self.bearer("DELETE", f"{APP}/manifests/v1", token)).status)
        token = (await self.ask("repository:team/app:*", user="puller"))["token"]
        self.assertEqual(403, (await self.bearer("DELETE", f"{APP}/manifests/v1", token)).status)
        self.assertEqual(404, (await self.bearer("GET", f"{APP}/manifests/v1", token)).status)

    async def test_mount(self) -> None:
        """A mount is sent for the scope of its source once; then it mounts, or opens a session."""
        await self.world.image(BLOB)
        path = f"/v2/team/copy/blobs/uploads/?mount={DIGEST}&from=team/app"
        target = "repository:team/copy:pull,push"
        for user, last in [("admin", 201), ("pusher", 202)]:
            token = (await self.ask(target, user=user))["token"]
            reply = await self.bearer("POST", path, token)
            self.assertEqual(401, reply.status)
            scope = f'scope="{target} {PULL}",error="insufficient_scope"'
            self.assertIn(scope, reply.header("WWW-Authenticate") or "")
            token = (await self.ask(f"{target}+{PULL}", user=user))["token"]
            self.assertEqual(last, (await self.bearer("POST", path, token)).status, user)

    async def test_overwrite(self) -> None:
        """Who may only create cannot move a tag, with a token neither."""
        await self.world.put("v1", await self.world.image(BLOB))
        other = await self.world.image(b"another")
        token = (await self.ask(PUSH, user="creator"))["token"]
        reply = await self.call(
            "PUT",
            f"{APP}/manifests/v1",
            user=None,
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/vnd.oci.image.manifest.v1+json",
            },
            data=other,
        )
        self.assertEqual((403, "DENIED"), (reply.status, reply.code))

    async def test_catalog(self) -> None:
        """The catalog has a scope of its own, and lists what the user may pull."""
        await self.world.put("v1", await self.world.image(BLOB))
        token = (await self.ask(PULL))["token"]
        reply = await self.bearer("GET", "/v2/_catalog", token)
        self.assertEqual(401, reply.status)
        self.assertIn('scope="registry:catalog:*"', reply.header("WWW-Authenticate") or "")
        for user, names in [("puller", ["team/app"]), ("pusher", []), ("nobody", [])]:
            token = (await self.ask("registry:catalog:*", user=user))["token"]
            reply = await self.bearer("GET", "/v2/_catalog", token)
            self.assertEqual((200, {"repositories": names}), (reply.status, reply.json), user)

    async def test_search(self) -> None:
        """After a login docker searches with a token for ``registry:catalog:search``."""
        token = (await self.ask("registry:catalog:search", user="puller"))["token"]
        self.assertEqual(200, (await self.bearer("GET", "/v1/search?q=app", token)).status)

    async def test_upload_of_another(self) -> None:
        """A session is its owner's, whatever the tokens."""
        mine, others = [(await self.ask(PUSH, user=user))["token"] for user in ("team", "admin")]
        location = (await self.bearer("POST", f"{APP}/blobs/uploads/", mine)).header("Location") or ""
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            reply = await self.bearer(method, f"{location}?digest={DIGEST}", others)
            self.assertEqual((404, "BLOB_UPLOAD_UNKNOWN"), (reply.status, reply.code))
        self.assertEqual(204, (await self.bearer("GET", location, mine)).status)


class RevocationTests(TokenCase):
    """What is taken away is gone with the very next request, from tokens in the field too."""

    async def status(self, token: str) -> int:
        """Return how a pull fares."""
        return (await self.bearer("GET", f"{APP}/manifests/v1", token)).status

    async def test_user(self) -> None:
        """Disabling, removing and a new password end a user's tokens and logins at once."""
        records = self.world.records
        for name, change in [
            ("puller", lambda: records.set_disabled("puller", True, now=START)),
            ("creator", lambda: records.set_password_hash("creator", "other", now=START)),
            ("team", lambda: records.remove_account("team", now=START)),
        ]:
            document = await self.ask(PULL, user=name, more="&offline_token=true")
            self.assertEqual(404, await self.status(document["token"]))
            await change()
            self.assertEqual(401, await self.status(document["token"]), name)
            form = urlencode({"grant_type": "refresh_token", "refresh_token": document["refresh_token"]})
            reply = await self.call("POST", "/token", user=None, headers=FORM, data=form.encode())
            self.assertEqual(401, reply.status, name)

    async def test_grants(self) -> None:
        """Taking a grant shuts tokens that were given under it; giving one opens those that asked for it."""
        token = (await self.ask(PULL, user="puller"))["token"]
        self.assertEqual(404, await self.status(token))
        await self.world.records.remove_grant("puller", "pull:**", now=START)
        self.assertEqual(403, await self.status(token))
        await self.world.records.add_grant("puller", "pull:team/*", now=START)
        self.assertEqual(404, await self.status(token))
        await self.world.records.add_grant("puller", "!pull:team/app", now=START)
        self.assertEqual(403, await self.status(token))

    async def test_password(self) -> None:
        """A password that was right a moment ago is not asked about again, until something changes."""
        records, path = self.world.records, f"{APP}/manifests/v1"
        asked: list[str] = []
        authenticate = self.callers.authenticate

        async def count(username: str, password: str, source: str = "") -> Principal:
            asked.append(username)
            return await authenticate(username, password, source)

        self.patch(self.callers, "authenticate", count)
        for name, change, status in [
            ("puller", lambda: records.remove_grant("puller", "pull:**", now=START), 403),
            ("creator", lambda: records.set_password_hash("creator", "other", now=START), 401),
            ("team", lambda: records.set_disabled("team", True, now=START), 401),
            ("deleter", lambda: records.remove_account("deleter", now=START), 401),
        ]:
            asked.clear()
            before = [(await self.call("GET", path, user=name)).status for _ in range(2)]
            self.assertEqual([name], asked)
            self.assertEqual(401, (await self.call("GET", path, user=name, password="wrong")).status)
            self.assertEqual(before[0], before[1])
            self.assertNotEqual(status, before[1], name)
            await change()
            self.assertEqual(status, (await self.call("GET", path, user=name)).status, name)
        self.at += 1
        asked.clear()
        await self.call("GET", path, user="puller")
        self.assertEqual(["puller"], asked)

    async def test_namesake(self) -> None:
        """A new user of an old name does not inherit tokens."""
        token = (await self.ask(PULL, user="puller"))["token"]
        await self.world.records.remove_account("puller", now=START)
        account = await self.world.records.account("creator")
        assert account is not None
        newcomer = replace(account, name="puller", password_hash=hash_password("secret", 4))
        await self.world.records.add_account(newcomer)
        self.assertEqual(401, await self.status(token))

    async def test_robot(self) -> None:
        """A revoked robot is out at once, with the tokens and logins that were made with it."""
        secret = await self.add_robot("admin")
        document = await self.ask(PULL, password=secret, more="&offline_token=true")
        self.assertEqual(404, await self.status(document["token"]))
        self.assertEqual(404, await self.status(secret))
        await self.world.records.remove_token("robot-admin", now=START)
        self.assertEqual(401, await self.status(document["token"]))
        self.assertEqual(401, await self.status(secret))
        self.assertEqual(401, (await self.call("GET", "/v2/", password=secret)).status)
        self.assertEqual([], await self.world.records.tokens())


class RobotTests(TokenCase):
    """Robots' tokens as passwords."""

    async def test_limits(self) -> None:
        """A robot may do what its user and its own grants both allow; an admin's is no admin beyond them."""
        secret = await self.add_robot("admin", "pull:team/*")
        for method, path, status in [
            ("GET", "/v2/", 200),
            ("GET", f"{APP}/manifests/v1", 404),
            ("POST", f"{APP}/blobs/uploads/", 403),
            ("GET", "/v2/other/manifests/v1", 403),
        ]:
            self.assertEqual(status, (await self.call(method, path, password=secret)).status, path)
        self.assertEqual(PULL, (await self.ask(PUSH, password=secret))["scope"])
        secret = await self.add_robot("puller", "push,pull:**")
        self.assertEqual(PULL, (await self.ask(PUSH, user="puller", password=secret))["scope"])

    async def test_denied_right(self) -> None:
        """A robot that is refused is told so by the robot's name, not its secret."""
        secret = await self.add_robot("admin", "pull:**")
        reply = await self.call("POST", f"{APP}/blobs/uploads/", password=secret)
        message = reply.json["errors"][0]["message"]
        self.assertIn("this token of admin may not push in team/app", message)
        self.assertNotIn(secret, reply.body.decode())

    async def test_other_user(self) -> None:
        """A robot's token is the password of its own user alone."""
        secret = await self.add_robot("puller")
        self.assertEqual(401, (await self.call("GET", "/v2/", user="admin", password=secret)).status)
        self.assertEqual(200, (await self.call("GET", "/v2/", user="puller", password=secret)).status)

    async def test_expiry(self) -> None:
        """A robot ends when it was said to, and so do tokens that were fetched with it."""
        secret = await self.add_robot("admin", expires_at=START + 100)
        token = (await self.ask(PULL, password=secret))["token"]
        self.at = START + 99
        self.assertEqual(200, (await self.call("GET", "/v2/", password=secret)).status)
        self.at = START + 100
        self.assertEqual(401, (await self.call("GET", "/v2/", password=secret)).status)
        self.assertEqual(401, (await self.bearer("GET", "/v2/", token)).status)

    async def test_disabled_user(self) -> None:
        """A disabled user's robots are disabled; a new password does not concern them."""
        secret = await self.add_robot("admin")
        await self.world.records.set_password_hash("admin", "other", now=START)
        self.assertEqual(200, (await self.call("GET", "/v2/", password=secret)).status)
        await self.world.records.set_disabled("admin", True, now=START)
        self.assertEqual(401, (await self.call("GET", "/v2/", password=secret)).status)

    async def test_last_use(self) -> None:
        """The last use is noted, not more than once an hour."""
        secret = await self.add_robot("admin")
        for seconds, used_at in [(0, START), (10, START), (3700, START + 3700)]:
            self.at = START + seconds
            await self.call("GET", "/v2/", password=secret)
            (robot,) = await self.world.records.tokens()
            self.assertEqual(used_at, robot.used_at)


class AnonymousPullTests(TokenCase):
    """``--anonymous pull``."""

    anonymous_mode = "pull"

    async def test_root(self) -> None:
        """The root asks for credentials, so that users can log in; an anonymous token is enough."""
        self.assertEqual(401, (await self.call("GET", "/v2/", user=None)).status)
        self.assertEqual(401, (await self.call("GET", "/v2/", user="", password="")).status)
        token = (await self.ask(user=None))["token"]
        self.assertEqual(200, (await self.bearer("GET", "/v2/", token)).status)
        self.assertEqual(200, (await self.call("GET", "/v2/", user="nobody")).status)

    async def test_rest(self) -> None:
        """The rest answers what the grants allow, with and without a token; else 401, never 403."""
        token = (await self.ask(f"{PUSH}+registry:catalog:*", user=None))["token"]
        for method, path, status in [
            ("GET", f"{APP}/manifests/v1", 404),
            ("POST", f"{APP}/blobs/uploads/", 401),
            ("DELETE", f"{APP}/manifests/v1", 401),
            ("GET", "/v2/_catalog", 200),
        ]:
            self.assertEqual(status, (await self.call(method, path, user=None)).status, path)
            self.assertEqual(status, (await self.bearer(method, path, token)).status, path)


class AnonymousGrantTests(TokenCase):
    """``anonymous_grants``."""

    anonymous_grants = ("pull:public/**",)

    async def test_pattern(self) -> None:
        """Anonymous may pull below the pattern and nowhere else."""
        document = await self.ask("repository:public/a:pull,push+repository:private:pull", user=None)
        self.assertEqual("repository:public/a:pull", document["scope"])
        for path, status in [("/v2/public/a/tags/list", 404), ("/v2/private/tags/list", 401)]:
            self.assertEqual(status, (await self.call("GET", path, user=None)).status)
            self.assertEqual(status, (await self.bearer("GET", path, document["token"])).status)
        self.assertEqual(401, (await self.call("GET", "/v2/", user=None)).status)


class AnonymousPushTests(TokenCase):
    """``--anonymous push``."""

    anonymous_mode = "push"

    async def test_root(self) -> None:
        """The root is open; deleting still asks for credentials."""
        self.assertEqual(200, (await self.call("GET", "/v2/", user=None)).status)
        self.assertEqual(202, (await self.call("POST", f"{APP}/blobs/uploads/", user=None)).status)
        reply = await self.call("DELETE", f"{APP}/manifests/v1", user=None)
        self.assertEqual(401, reply.status)
        self.assertIn('scope="repository:team/app:delete"', reply.header("WWW-Authenticate") or "")


class NoAnonymousTests(TokenCase):
    """``--anonymous none``: an anonymous token opens nothing."""

    async def test_closed(self) -> None:
        """With an anonymous token everything is still 401, so that a login without credentials fails."""
        token = (await self.ask(f"{PUSH}+registry:catalog:*", user=None))["token"]
        for path in ("/v2/", "/v2/_catalog", f"{APP}/tags/list", f"{APP}/manifests/v1"):
            self.assertEqual(401, (await self.bearer("GET", path, token)).status, path)
            self.assertEqual(401, (await self.call("GET", path, user=None)).status, path)


class ThrottleTests(TokenCase):
    """Guessing passwords over HTTP."""

    async def test_guessing(self) -> None:
        """The sixth guess has to wait, the right password too; other users and known tokens do not."""
        token = (await self.ask(user="puller"))["token"]
        for _ in range(5):
            self.assertEqual(401, (await self.call("GET", "/token", user="team", password="guess")).status)
        for path in ("/token", "/v2/"):
            reply = await self.call("GET", path, user="team", password="guess")
            self.assertEqual((429, "TOOMANYREQUESTS"), (reply.status, reply.code))
            self.assertGreaterEqual(int(reply.header("Retry-After") or ""), 1)
            self.assertEqual(429, (await self.call("GET", path, user="team")).status)
        self.assertEqual(200, (await self.call("GET", "/v2/", user="creator")).status)
        self.assertEqual(200, (await self.bearer("GET", "/v2/", token)).status)

    async def test_unknown_user(self) -> None:
        """A name that is no user is throttled like one that is."""
        statuses = [(await self.call("GET", "/v2/", user="ghost", password="x")).status for _ in range(6)]
        self.assertEqual([401] * 5 + [429], statuses)


class RequireTlsTests(TokenCase):
    """``require_tls``: the loopback is excepted, as these tests show; ``test_origin`` has the rest."""

    require_tls = True

    async def test_loopback(self) -> None:
        """Passwords on the loopback are taken."""
        self.assertEqual(200, (await self.call("GET", "/v2/")).status)
