"""Distribution's variables, honoured where we have a counterpart, and its file converted."""

from __future__ import annotations

import tomllib

from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.settings import Settings, SettingsError, load_settings
from dockreg_tx.settings_registry2 import ignored_warning
from tests.cli.case import CommandCase

CONFIG = """
version: 0.1
log:
  level: debug
  formatter: logstash
  accesslog: {disabled: true}
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
  maintenance:
    uploadpurging: {enabled: true, age: 168h0m0s}
  s3: {bucket: images}
http:
  addr: :5000
  host: https://registry.example.org
  headers: {X-Content-Type-Options: [nosniff]}
  tls: {certificate: /c.pem, key: /k.pem, clientcas: [/ca.pem]}
proxy: {remoteurl: "https://registry-1.docker.io"}
"""


class VariableTests(SynchronousTestCase):
    """``REGISTRY_*`` in the environment."""

    def load(self, **environ: str) -> Settings:
        """Return the settings of an environment."""
        return load_settings(config_path=None, environ=environ, options={})

    def test_counterparts(self) -> None:
        """What has a counterpart is in force, and says where it comes from."""
        settings = self.load(
            REGISTRY_HTTP_ADDR="0.0.0.0:5001",
            REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="/data",
            REGISTRY_HTTP_TLS_CERTIFICATE="c.pem",
            REGISTRY_HTTP_TLS_KEY="k.pem",
            REGISTRY_HTTP_HOST="https://r.example.org",
            REGISTRY_LOG_LEVEL="warning",
        )
        self.assertEqual(("tcp:5001",), settings.server.listen)
        self.assertEqual("/data", settings.storage.root)
        self.assertEqual(("c.pem", "k.pem"), (settings.tls.certificate, settings.tls.key))
        self.assertEqual("https://r.example.org", settings.server.public_url)
        self.assertEqual("warn", settings.log.level)
        self.assertEqual("environment REGISTRY_LOG_LEVEL", settings.found["log.level"].source)

    def test_addresses(self) -> None:
        """Go's addresses become endpoints."""
        for written, endpoint in (
            (":5000", "tcp:5000"),
            ("127.0.0.1:80", "tcp:80:interface=127.0.0.1"),
            ("[::1]:80", "tcp6:80:interface=\\:\\:1"),
            ("/run/registry.sock", "unix:/run/registry.sock"),
        ):
            self.assertEqual((endpoint,), self.load(REGISTRY_HTTP_ADDR=written).server.listen)
        with self.assertRaisesRegex(SettingsError, "environment: REGISTRY_HTTP_ADDR: 'x' is not an address"):
            self.load(REGISTRY_HTTP_ADDR="x")

    def test_sections(self) -> None:
        """A variable may hold a whole section; what is in it counts as in variables of its own."""
        settings = self.load(
            REGISTRY_AUTH="{htpasswd: {realm: here, path: /auth/htpasswd}}",
            REGISTRY_HTTP="{addr: ':5001', tls: {certificate: c.pem, key: k.pem, clientcas: [ca.pem]}}",
            REGISTRY_STORAGE="{filesystem: {rootdirectory: /data}, s3: {bucket: images}}",
        )
        self.assertEqual("/auth/htpasswd", settings.access.htpasswd)
        self.assertEqual((("tcp:5001",), "ca.pem"), (settings.server.listen, settings.tls.client_ca))
        self.assertEqual("/data", settings.storage.root)
        self.assertEqual(("REGISTRY_STORAGE",), settings.ignored)
        with self.assertRaisesRegex(SettingsError, "environment: REGISTRY_AUTH: it is not YAML"):
            self.load(REGISTRY_AUTH="{htpasswd: [")
        # No section of theirs.
        self.assertEqual((), self.load(REGISTRY_HTTP_SECRET="{[").ignored)

    def test_choices(self) -> None:
        """What chooses something that is not here is in the warning."""
        settings = self.load(REGISTRY_AUTH="token", REGISTRY_STORAGE="s3")
        self.assertEqual(("REGISTRY_AUTH", "REGISTRY_STORAGE"), settings.ignored)
        self.assertEqual((), self.load(REGISTRY_AUTH="htpasswd", REGISTRY_STORAGE="filesystem").ignored)

    def test_authorities_and_access_log(self) -> None:
        """Authorities of clients' certificates in one file, and an access log that is not wanted."""
        pair = {"REGISTRY_HTTP_TLS_CERTIFICATE": "c.pem", "REGISTRY_HTTP_TLS_KEY": "k.pem"}
        for name, written in (
            ("CLIENTCAS_0", "/ca.pem"),
            ("CLIENTCAS", "[/ca.pem]"),
            ("CLIENTCAS", "['/ca.pem']"),
        ):
            settings = self.load(**pair, **{f"REGISTRY_HTTP_TLS_{name}": written})
            self.assertEqual("/ca.pem", settings.tls.client_ca)
        with self.assertRaisesRegex(SettingsError, "put their certificates into one"):
            self.load(**pair, REGISTRY_HTTP_TLS_CLIENTCAS="[/a.pem, /b.pem]")
        self.assertEqual("none", self.load(REGISTRY_LOG_ACCESSLOG_DISABLED="true").log.access)
        self.assertEqual("combined", self.load(REGISTRY_LOG_ACCESSLOG_DISABLED="false").log.access)
        with self.assertRaisesRegex(SettingsError, "'x' is neither true nor false"):
            self.load(REGISTRY_LOG_ACCESSLOG_DISABLED="x")

    def test_ours_win(self) -> None:
        """A variable of ours beats theirs."""
        settings = self.load(REGISTRY_LOG_LEVEL="debug", DOCKREG_LOG_LEVEL="error")
        self.assertEqual("error", settings.log.level)

    def test_ignored(self) -> None:
        """What has no counterpart is one warning; what needs none, or is somebody else's, is not in it."""
        settings = self.load(
            REGISTRY_PROXY_REMOTEURL="https://registry-1.docker.io",
            REGISTRY_STORAGE_S3_BUCKET="x",
            REGISTRY_HTTP_SECRET="x",
            REGISTRY_STORAGE_DELETE_ENABLED="true",
            REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR="inmemory",
            REGISTRY_AUTH="htpasswd",
            REGISTRY_AUTH_FILE="/auth.json",
            REGISTRY_PORT="tcp://10.0.0.1:5000",
            REGISTRY_PORT_5000_TCP_ADDR="10.0.0.1",
            REGISTRY_SERVICE_HOST="10.0.0.1",
            REGISTRY_UI_PORT="tcp://10.0.0.1:80",
        )
        names = ("REGISTRY_PROXY_REMOTEURL", "REGISTRY_STORAGE_S3_BUCKET")
        self.assertEqual(names, settings.ignored)
        (line,) = ignored_warning(settings.ignored)
        self.assertIn(", ".join(names), line)
        self.assertEqual([], ignored_warning(self.load().ignored))


class ConvertTests(CommandCase):
    """``dockreg config convert``."""

    def convert(self, text: str) -> str:
        """Return what a file becomes."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(text)
        return self.done("config", "convert", path)

    def test_convert(self) -> None:
        """The result is a file of ours that dockreg reads; the rest is explained in comments."""
        converted = self.convert(CONFIG)
        self.assertEqual(
            {
                "log": {"level": "debug", "format": "json", "access": "none"},
                "storage": {"root": "/var/lib/registry"},
                "uploads": {"expire_after": "168h"},
                "server": {"listen": ["tcp:5000"], "public_url": "https://registry.example.org"},
                "tls": {"certificate": "/c.pem", "key": "/k.pem", "client_ca": "/ca.pem"},
            },
            tomllib.loads(converted),
        )
        self.assertIn("# proxy.remoteurl: has no counterpart here", converted)
        self.assertIn("# storage.delete.enabled: deleting is always possible", converted)
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(converted)
        self.done("--config", path, "config", "check")

    def test_refused(self) -> None:
        """What is no configuration, or holds a value nobody understands, is one line."""
        for text, reason in (
            ("a: [", "is not YAML"),
            ("- 1", "no configuration"),
            ("http: {addr: x}", "http.addr: 'x' is not an address"),
            ("!!python/object/apply:os.system [id]", "is not YAML"),
        ):
            path = self.mktemp()
            with open(path, "w") as file:
                file.write(text)
            self.assertIn(reason, self.refused("config", "convert", path))
