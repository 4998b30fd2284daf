"""Settings of distribution (``registry:2``) under our names: its variables, and its configuration file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.endpoints import quoteStringArgument

PREFIX = "REGISTRY_"
#: Podman's and skopeo's file of passwords, and Kubernetes.
_OTHERS = frozenset({"REGISTRY_AUTH_FILE", "REGISTRY_PORT"})
#: What only chooses among variables that are named, where it chooses what there is here, too.
_CHOICES = frozenset({("REGISTRY_AUTH", "htpasswd"), ("REGISTRY_STORAGE", "filesystem")})
#: What Kubernetes sets in every pod for a Service whose name begins with "registry".
_KUBERNETES_PARTS = ("_SERVICE_HOST", "_SERVICE_PORT", "_PORT_")


def _listener(written: str) -> list[str]:
    """Return the endpoint for Go's ``host:port``, where an empty host is every address, or for a path."""
    if written.startswith("/"):
        return [f"unix:{quoteStringArgument(written)}"]
    host, _, port = written.rpartition(":")
    if not port.isdigit():
        raise ValueError(f"{written!r} is not an address such as :5000 or 127.0.0.1:5000")
    host = host.strip("[]")
    if ":" in host:
        escaped = host.replace(":", "\\:")
        return [f"tcp6:{port}:interface={escaped}"]
    return [f"tcp:{port}:interface={host}" if host and host != "0.0.0.0" else f"tcp:{port}"]  # noqa: S104


def _duration(written: str) -> str:
    """Return Go's duration without the parts that are shorter than a second."""
    return written.replace("h0m0s", "h").replace("m0s", "m")


def _authority(written: str) -> str:
    """Return the one file of a list as YAML has it, or as one of its entries."""
    paths = [path for each in written.strip("[]").split(",") if (path := each.strip(" '\""))]
    if len(paths) != 1:
        raise ValueError("several files are named: put their certificates into one")
    return paths[0]


def _access(written: str) -> str:
    """Return the form of the access log for whether it is disabled."""
    if written.lower() not in {"true", "false"}:
        raise ValueError(f"{written!r} is neither true nor false")
    return "none" if written.lower() == "true" else "combined"


def _as_it_is(written: str) -> Any:
    return written


@dataclass(frozen=True, slots=True)
class Counterpart:
    """Our key for one of theirs, and how its value is written here."""

    key: str
    convert: Callable[[str], Any] = _as_it_is


_LEVELS = {"error": "error", "warn": "warn", "warning": "warn", "info": "info", "debug": "debug"}
#: By the path in distribution's file.
COUNTERPARTS: Mapping[str, Counterpart] = {
    "http.addr": Counterpart("server.listen", _listener),
    "http.host": Counterpart("server.public_url"),
    "http.tls.certificate": Counterpart("tls.certificate"),
    "http.tls.key": Counterpart("tls.key"),
    "http.tls.clientcas": Counterpart("tls.client_ca", _authority),
    "http.tls.clientcas.0": Counterpart("tls.client_ca", _authority),
    "storage.filesystem.rootdirectory": Counterpart("storage.root"),
    "storage.maintenance.uploadpurging.age": Counterpart("uploads.expire_after", _duration),
    "log.level": Counterpart("log.level", lambda written: _LEVELS.get(written, written)),
    "log.formatter": Counterpart("log.format", lambda written: "json" if written != "text" else "text"),
    "log.accesslog.disabled": Counterpart("log.access", _access),
    "loglevel": Counterpart("log.level", lambda written: _LEVELS.get(written, written)),
    "auth.htpasswd.path": Counterpart("access.htpasswd"),
    "http.debug.addr": Counterpart("server.metrics_listen", lambda written: _listener(written)[0]),
}
#: What needs no counterpart, and why.
NEEDLESS: Mapping[str, str] = {
    "version": "dockreg's files have no version",
    "http.secret": "upload sessions are rows of the database, and need no shared secret",
    "http.relativeurls": "addresses in answers are relative unless server.public_url is set",
    "http.net": "the address tells it",
    "http.http2.disabled": "dockreg speaks HTTP/1.1",
    "http.headers": "X-Content-Type-Options is always sent; others are the front's matter",
    "http.debug.prometheus": "see server.metrics_listen",
    "storage.delete.enabled": "deleting is always possible for who has the right delete",
    "storage.cache": "the database needs no cache",
    "storage.redirect.disable": "content always comes from dockreg itself",
    "storage.maintenance.uploadpurging": "see uploads.expire_after",
    "storage.filesystem.maxthreads": "the number of threads is fixed",
    "health": "/healthz and /readyz are always there",
    "auth.htpasswd.realm": "the realm is dockreg's own",
    "catalog.maxentries": "pages of _catalog are as long as clients ask, up to a limit",
    "log.fields": "lines are not labelled",
}


def registry2_values(
    environ: Mapping[str, str], keys: Mapping[str, object]
) -> Iterator[tuple[str, str, Any]]:
    """Yield our key, their variable and the value for every variable of theirs that has a counterpart.

    Args:
        environ: the environment of the process.
        keys: the keys that this version knows.

    Raises:
        ValueError: ``(variable, reason)``; a value cannot be understood.
    """
    variables = {_variable(path): counterpart for path, counterpart in COUNTERPARTS.items()}
    for variable in sorted(environ):
        for name, value in _leaves(variable, environ[variable]):
            counterpart = variables.get(name)
            if counterpart is None or counterpart.key not in keys or value == "":
                continue
            try:
                yield counterpart.key, variable, counterpart.convert(value)
            except ValueError as error:
                raise ValueError(variable, str(error)) from error


def _leaves(variable: str, written: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that one stands for: it may hold a whole section of the file, on one line.

    Raises:
        ValueError: ``(variable, reason)``; it looks so, and is none.
    """
    is_section = any(_variable(path).startswith(f"{variable}_") for path in (*COUNTERPARTS, *NEEDLESS))
    if not is_section or not written.startswith("{"):
        yield variable, written
        return
    # Inside, so that no other start waits for it.
    import yaml  # noqa: PLC0415

    try:
        section = yaml.safe_load(written)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(variable, f"it is not YAML: {' '.join(str(error).split())}") from error
    for path, value in flat(section):
        yield f"{variable}_{path}".replace(".", "_").upper(), str(value)


def ignored_variables(environ: Mapping[str, str], keys: Mapping[str, object]) -> list[str]:
    """Return the names of variables of distribution's that change nothing here, sorted."""
    needless = tuple(_variable(path) for path in NEEDLESS)
    known = {_variable(path) for path, counterpart in COUNTERPARTS.items() if counterpart.key in keys}

    def is_ignored(name: str, written: str) -> bool:
        return (
            name not in known | _OTHERS
            and (name, written) not in _CHOICES
            and not any(name == each or name.startswith(f"{each}_") for each in needless)
            and not any(part in name for part in _KUBERNETES_PARTS)
            and not written.startswith("tcp://")
        )

    ours = [variable for variable in sorted(environ) if variable.startswith(PREFIX)]
    return [each for each in ours if any(is_ignored(*leaf) for leaf in _leaves(each, environ[each]))]


def ignored_warning(names: Sequence[str]) -> list[str]:
    """Return the one line that names such variables; none when there are none."""
    return [f"no counterpart of these variables of registry:2 is known: {', '.join(names)}"] if names else []


def _variable(path: str) -> str:
    return PREFIX + path.replace(".", "_").upper()


def flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of every leaf of distribution's file."""
    for name, value in document.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and value and path != "http.headers":
            yield from flat(value, f"{path}.")
        else:
            yield path, value


def needless_reason(path: str) -> str | None:
    """Return why a path of distribution's file needs no counterpart, None when it would need one."""
    while path:
        if path in NEEDLESS:
            return NEEDLESS[path]
        path = path.rpartition(".")[0]
    return None
