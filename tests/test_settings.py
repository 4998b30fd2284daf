"""Settings: the schema, the shipped file, the sources and their order, and what errors say."""

from __future__ import annotations

import os
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from hypothesis import given, settings, strategies
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.server import settled
from dockreg_tx.settings import DEFAULTS, Settings, SettingsError, load_settings
from dockreg_tx.settings_sources import environment_name
from dockreg_tx.settings_values import duration, duration_or_never, size

SHIPPED = Path(__file__).parent.parent / "etc" / "dockreg.toml"


class SettingsCase(SynchronousTestCase):
    """Loads settings from texts."""

    def load(
        self, toml: str | None = None, environ: dict[str, str] | None = None, **options: object
    ) -> Settings:
        """Return the settings of a file with this content, this environment and these options."""
        path = None
        if toml is not None:
            path = self.mktemp()
            Path(path).write_text(toml, encoding="utf-8")
        return load_settings(config_path=path, environ=environ or {}, options=options)

    def refused(
        self, *parts: str, toml: str | None = None, environ: dict[str, str] | None = None, **options: object
    ) -> None:
        """Require one line of error that holds each of ``parts``."""
        error = self.assertRaises(SettingsError, self.load, toml, environ, **options)
        self.assertEqual(1, len(str(error).splitlines()))
        for part in parts:
            self.assertIn(part, str(error))


class SettledTests(SettingsCase):
    """What a server that runs does not take over, and so warns of."""

    def test_settled(self) -> None:
        """Where data lies, where we listen and the form of the log; not who may do what or what is logged."""
        before = settled(self.load())
        for changed in ('[storage]\nroot = "/r"', "[server]\nworkers = 2", '[log]\nformat = "text"'):
            self.assertNotEqual(before, settled(self.load(changed)), changed)
        self.assertEqual(
            before, settled(self.load('[access]\nanonymous = "pull"\n[log]\nwire = true\nlevel = "debug"'))
        )


class ShippedFileTests(SettingsCase):
    """``etc/dockreg.toml`` is the schema, shown to people."""

    def test_has_every_key_with_its_default(self) -> None:
        """The shipped file holds exactly the keys of the schema, each with its default."""
        shown = {
            f"{section}.{key}": value
            for section, keys in tomllib.loads(SHIPPED.read_text(encoding="utf-8")).items()
            for key, value in keys.items()
        }
        self.assertEqual(dict(DEFAULTS), shown)

    def test_loads(self) -> None:
        """Starting with the shipped file is the same as starting without one."""
        shipped = load_settings(config_path=str(SHIPPED), environ={}, options={})
        self.assertEqual(self.load(), shipped)

    def test_comments_every_key(self) -> None:
        """Each key stands below a comment, alone or with its siblings."""
        lines = SHIPPED.read_text(encoding="utf-8").splitlines()
        for before, line in pairwise(lines):
            if "=" in line and not line.startswith("#") and not line.startswith("key ="):
                self.assertTrue(before.startswith("#"), line)


class DefaultTests(SettingsCase):
    """What holds when nothing is set."""

    def test_promised_defaults(self) -> None:
        """The defaults are those that users and checks rely on."""
        loaded = self.load()
        self.assertEqual("./var/registry", loaded.storage.root)
        self.assertEqual(2**30, loaded.storage.low_water_bytes)
        self.assertEqual(("tcp:5000:interface=127.0.0.1",), loaded.server.listen)
        self.assertEqual(1, loaded.server.workers)
        self.assertEqual("none", loaded.access.anonymous)
        self.assertEqual("bearer", loaded.access.challenge)
        self.assertEqual((), loaded.access.anonymous_grants)
        self.assertIs(False, loaded.access.require_tls)
        self.assertEqual("deny", loaded.manifests.missing_layers)
        self.assertEqual("allow", loaded.manifests.missing_children)
        self.assertEqual(4 * 2**20, loaded.manifests.limit_bytes)
        self.assertEqual(86_400, loaded.uploads.expire_after_seconds)
        self.assertEqual(86_400, loaded.gc.schedule_seconds)
        self.assertEqual(86_400, loaded.gc.grace_seconds)
        self.assertIsNone(loaded.gc.untagged_after_seconds)
        self.assertEqual(10, loaded.server.header_timeout_seconds)
        self.assertEqual(60, loaded.server.body_timeout_seconds)

    def test_every_source_is_default(self) -> None:
        """Each value knows that it is a default."""
        self.assertEqual({"default"}, {found.source for found in self.load().found.values()})


class PrecedenceTests(SettingsCase):
    """Options beat environment beats file beats default."""

    TOML = '[storage]\nroot = "/file"\nlow_water = "2GiB"\n[access]\nanonymous = "pull"\n'
    ENVIRON: ClassVar = {"DOCKREG_STORAGE_ROOT": "/environment", "DOCKREG_ACCESS_ANONYMOUS": "push"}

    def test_each_beats_the_next(self) -> None:
        """A value is taken from the strongest source that has it, and says which."""
        loaded = self.load(self.TOML, self.ENVIRON, root="/option")
        self.assertEqual("/option", loaded.storage.root)
        self.assertEqual("push", loaded.access.anonymous)
        self.assertEqual(2 * 2**30, loaded.storage.low_water_bytes)
        self.assertEqual("option --root", loaded.found["storage.root"].source)
        self.assertEqual("environment DOCKREG_ACCESS_ANONYMOUS", loaded.found["access.anonymous"].source)
        self.assertEqual("default", loaded.found["log.level"].source)

    def test_options_not_given(self) -> None:
        """None and an empty list leave the weaker source in force."""
        loaded = self.load(self.TOML, {}, root=None, listen=[])
        self.assertEqual("/file", loaded.storage.root)
        self.assertEqual(("tcp:5000:interface=127.0.0.1",), loaded.server.listen)

    def test_listen_is_repeatable(self) -> None:
        """Several listeners come as a list from the command line and replace the file's."""
        loaded = self.load('[server]\nlisten = ["tcp:1"]', {}, listen=["tcp:2", "unix:/s"])
        self.assertEqual(("tcp:2", "unix:/s"), loaded.server.listen)


class EnvironmentTests(SettingsCase):
    """Variables ``DOCKREG_<SECTION>_<KEY>``."""

    def test_every_key_has_its_variable(self) -> None:
        """Each key takes its default from the environment too."""
        for key, default in DEFAULTS.items():
            written = str(default).lower() if isinstance(default, bool) else str(default)
            loaded = self.load(None, {environment_name(key): written})
            self.assertEqual(self.load(), loaded)
            self.assertEqual(f"environment {environment_name(key)}", loaded.found[key].source)

    def test_lists_are_toml_arrays(self) -> None:
        """A list is written as in the file; a single text is a list of one."""
        loaded = self.load(None, {"DOCKREG_SERVER_TRUSTED_PROXIES": '["10.0.0.0/8", "::1"]'})
        self.assertEqual(("10.0.0.0/8", "::1"), loaded.server.trusted_proxies)
        loaded = self.load(None, {"DOCKREG_SERVER_LISTEN": "tcp:5001"})
        self.assertEqual(("tcp:5001",), loaded.server.listen)
        self.refused("DOCKREG_SERVER_LISTEN", "TOML array", environ={"DOCKREG_SERVER_LISTEN": '["tcp:1"'})

    def test_kubernetes_is_ignored(self) -> None:
        """What Kubernetes sets for a Service named dockreg changes nothing; nor do foreign variables."""
        environ = {
            "DOCKREG_PORT": "tcp://10.0.0.1:5000",
            "DOCKREG_PORT_5000_TCP_ADDR": "10.0.0.1",
            "DOCKREG_SERVICE_HOST": "10.0.0.1",
            "DOCKREG_SERVICE_PORT_HTTP": "5000",
            "PATH": "/bin",
        }
        self.assertEqual(self.load(), self.load(None, environ))

    def test_unknown_variable(self) -> None:
        """A mistyped variable is refused with the name that was meant."""
        self.refused(
            "DOCKREG_STORAGE_ROOTS",
            "did you mean DOCKREG_STORAGE_ROOT?",
            environ={"DOCKREG_STORAGE_ROOTS": "/x"},
        )
        self.refused("DOCKREG_ZZZ", "DOCKREG_GC_GRACE", environ={"DOCKREG_ZZZ": "1"})

    def test_value_from_a_file(self) -> None:
        """``…_FILE`` names a file with the value; one closing line break is dropped."""
        path = Path(self.mktemp())
        path.write_text("https://registry.example.org\n", encoding="utf-8")
        loaded = self.load(None, {"DOCKREG_SERVER_PUBLIC_URL_FILE": str(path)})
        self.assertEqual("https://registry.example.org", loaded.server.public_url)

    def test_unreadable_value_file(self) -> None:
        """A missing file is named with the variable; both forms at once are refused."""
        self.refused(
            "DOCKREG_LOG_LEVEL_FILE", "/nowhere", "No such", environ={"DOCKREG_LOG_LEVEL_FILE": "/nowhere"}
        )
        self.refused("keep one", environ={"DOCKREG_LOG_LEVEL_FILE": "/x", "DOCKREG_LOG_LEVEL": "info"})

    def test_file_form_of_a_path(self) -> None:
        """Keys that are paths take their ``_FILE`` form as the path itself; ``audit_file`` is a key."""
        environ = {"DOCKREG_TLS_CERTIFICATE": "/c.pem", "DOCKREG_TLS_KEY_FILE": "/k.pem"}
        self.assertEqual("/k.pem", self.load(None, environ).tls.key)
        settings = self.load(None, {**environ, "DOCKREG_TLS_CLIENT_CA_FILE": "/ca.pem"})
        self.assertEqual("/ca.pem", settings.tls.client_ca)
        self.assertEqual("/a", self.load(None, {"DOCKREG_LOG_AUDIT_FILE": "/a"}).log.audit_file)


class RefusalTests(SettingsCase):
    """Each error is one line that names place, key and what is allowed."""

    def test_bad_choice(self) -> None:
        """A word that is not offered is answered with those that are."""
        self.refused(
            "manifests.missing_layers",
            '"maybe"',
            '"deny" or "allow"',
            toml='[manifests]\nmissing_layers = "maybe"',
        )
        self.refused("--anonymous", '"none" or "pull" or "push"', anonymous="all")
        self.refused("DOCKREG_LOG_WIRE", "true or false", environ={"DOCKREG_LOG_WIRE": "yes"})

    def test_wrong_type(self) -> None:
        """A value of the wrong type is never converted silently."""
        self.refused("storage.root", "text", toml="[storage]\nroot = 7")
        self.refused("log.wire", "true or false", toml='[log]\nwire = "true"')
        self.refused("server.workers", "1024", toml="[server]\nworkers = true")
        self.refused("server.workers", "1024", toml="[server]\nworkers = 0")
        self.refused("server.listen", "text", toml="[server]\nlisten = [5000]")

    def test_bare_numbers(self) -> None:
        """A number without a unit is refused with an example, in the file and in the environment."""
        self.refused("manifests.limit", "bare number 4194304", '"4MiB"', toml="[manifests]\nlimit = 4194304")
        self.refused("uploads.expire_after", "bare number", '"24h"', toml='[uploads]\nexpire_after = "3600"')
        self.refused("DOCKREG_GC_GRACE", "bare number 0", environ={"DOCKREG_GC_GRACE": "0"})

    def test_unknown_key(self) -> None:
        """A mistyped key or section is answered with the one that was meant."""
        self.refused("unknown key storage.rooot", "did you mean root?", toml='[storage]\nrooot = "/x"')
        self.refused("unknown section [storrage]", "did you mean storage?", toml="[storrage]\n")
        self.refused("unknown key root outside a section", "under [storage]", toml='root = "/x"')
        self.refused("server is a section", toml="server = 1")

    def test_unknown_option(self) -> None:
        """An option that is no setting is refused."""
        self.refused("--rot", "did you mean root?", rot="/x")

    def test_bad_file(self) -> None:
        """A missing, binary or broken file is one line with its name."""
        self.assertRaises(SettingsError, load_settings, config_path="/nowhere.toml", environ={}, options={})
        self.refused("is not TOML", "line 2", toml="[storage]\nroot\n")
        path = Path(self.mktemp())
        path.write_bytes(b"\xff\xfe")
        error = self.assertRaises(SettingsError, load_settings, config_path=str(path), environ={}, options={})
        self.assertEqual(f"{path}: is not UTF-8 text", str(error))

    def test_pipe(self) -> None:
        """A pipe is refused: a server that reads its settings again would find nothing in it."""
        path = self.mktemp()
        os.mkfifo(path)
        error = self.assertRaises(SettingsError, load_settings, config_path=path, environ={}, options={})
        self.assertIn("is a pipe", str(error))

    def test_lists(self) -> None:
        """Each item of a list is checked."""
        self.refused("trusted_proxies", '"10.0.0.1/8"', toml='[server]\ntrusted_proxies = ["10.0.0.1/8"]')
        self.refused("server.listen", "at least one", toml="[server]\nlisten = []")
        self.refused("access.anonymous_grants", "'fly'", toml='[access]\nanonymous_grants = ["fly:**"]')

    def test_grants_are_taken(self) -> None:
        """Good grants for anonymous callers pass."""
        loaded = self.load('[access]\nanonymous_grants = ["pull:public/**", "Docker.Download"]')
        self.assertEqual(("pull:public/**", "Docker.Download"), loaded.access.anonymous_grants)

    def test_public_url(self) -> None:
        """The public address is scheme and host; a path or credentials are refused and never shown."""
        loaded = self.load('[server]\npublic_url = "https://r.example.org:5000/"')
        self.assertEqual("https://r.example.org:5000", loaded.server.public_url)
        for bad in ("registry.example.org", "ftp://a", "http://u:secret@h", "http://h/path", "http://h?x"):
            self.refused("server.public_url", "https://registry", toml=f'[server]\npublic_url = "{bad}"')
        error = self.assertRaises(SettingsError, self.load, '[server]\npublic_url = "http://u:secret@h"')
        self.assertNotIn("secret", str(error))

    def test_tls_needs_both(self) -> None:
        """A certificate without its key is refused, and the other way round."""
        self.refused("tls.certificate", "both or neither", toml='[tls]\nkey = "/k.pem"')
        self.refused("tls.key", "both or neither", environ={"DOCKREG_TLS_CERTIFICATE": "/c.pem"})

    def test_line_breaks(self) -> None:
        """A line break within a value cannot make a second line of log or error."""
        self.refused("storage.root", "line break", toml='[storage]\nroot = "a\\nb"')
        self.refused("unknown key storage.a?b?c", toml='[storage]\n"a\\nb\\u2028c" = 1')
        self.refused("log.level", toml='[log]\nlevel = "a\\u2028b"')


class QuantityTests(SynchronousTestCase):
    """Durations and sizes."""

    def test_durations(self) -> None:
        """Units multiply and add up."""
        for seconds, written in [(90, "90s"), (86_400, "24h"), (604_800, "7d"), (5400, "1h30m"), (0, "0s")]:
            self.assertEqual(seconds, duration().parse(written))
        self.assertIsNone(duration_or_never().parse("never"))

    def test_bad_durations(self) -> None:
        """Anything else is refused, "never" too where it has no meaning."""
        for written in ("", "never", "1y", "-1s", "1 h", "h", "1.5h", True, None, "99999999w", "٣s"):
            self.assertRaises(ValueError, duration().parse, written)
        self.assertRaises(ValueError, duration(least_seconds=1).parse, "0s")

    def test_sizes(self) -> None:
        """Binary and decimal units differ; letters may be of either case."""
        for size_bytes, written in [(4 * 2**20, "4MiB"), (10**10, "10GB"), (512, "512B"), (2000, "2kb")]:
            self.assertEqual(size_bytes, size().parse(written))

    def test_bad_sizes(self) -> None:
        """Anything else is refused."""
        for written in ("", "4", "4M", "-1B", "1.5GiB", "4 MiB", True, 7, 7.5, ["1B"]):
            self.assertRaises(ValueError, size().parse, written)
        self.assertRaises(ValueError, size(least_bytes=1).parse, "0B")

    @given(strategies.text(max_size=20))
    @settings(derandomize=True, deadline=None, max_examples=200)
    def test_never_crash(self, written: str) -> None:
        """Any text is either a number or refused as a bad value."""
        for kind in (duration(), size()):
            try:
                self.assertGreaterEqual(kind.parse(written), 0)
            except ValueError:
                continue
