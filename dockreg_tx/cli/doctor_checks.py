"""What ``dockreg doctor`` looks at: versions, root, disk, clock, listeners, the address of clients."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from glob import escape, glob
from urllib.parse import quote, urlsplit

from dockreg_tx import __version__
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.cli.certificate import CertificateFiles, check_authorities, check_certificate
from dockreg_tx.cli.endpoint import (
    CertificateWanted,
    NotReached,
    ask,
    is_certificate_wanted,
    reachable_address,
)
from dockreg_tx.cli.findings import Check, State
from dockreg_tx.endpoint_strings import endpoint_arguments, ssl_arguments
from dockreg_tx.root import RootUnusable, check_root, filesystem_type
from dockreg_tx.settings import Settings

TIMEOUT_SECONDS = 5.0
#: Before dockreg was written: the clock was never set.
_EARLIEST = 1_700_000_000
_CLOCK_TOLERANCE_SECONDS = 60
_FLEETING = {0x01021994: "tmpfs", 0x858458F6: "ramfs", 0x794C7630: "overlayfs, a container's own layer"}
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


def check_versions() -> Iterator[Check]:
    """Yield the versions of what dockreg stands on."""
    yield Check("version", State.OK, f"dockreg {__version__}, Python {platform.python_version()}")
    yield Check("version", State.OK, f"Twisted {importlib.metadata.version('Twisted')}")
    numbers = sqlite3.sqlite_version_info
    is_mended = numbers >= (3, 51, 3) or (3, 50, 7) <= numbers < (3, 51) or (3, 44, 6) <= numbers < (3, 45)
    note = (
        ""
        if is_mended
        else "; has the WAL-reset bug, which dockreg's lock avoids: let nothing else write registry.db"
    )
    yield Check("sqlite", State.OK, f"SQLite {sqlite3.sqlite_version}{note}")


def check_storage(settings: Settings, layout: RootLayout, *, now: float) -> Iterator[Check]:
    """Yield what is good and bad about the root and its disk."""
    root = layout.root
    if not os.path.lexists(root):
        yield Check("root", State.WARN, f"{root} does not exist: the first start, or dockreg init, makes it")
        return
    try:
        check_root(layout)
    except RootUnusable as error:
        is_new = "is not initialised" in str(error)
        yield Check("root", State.WARN if is_new else State.FAIL, str(error))
        if not is_new:
            return
    yield from _check_permissions(layout)
    fleeting = _FLEETING.get(filesystem_type(root))
    if fleeting:
        yield Check(
            "filesystem", State.WARN, f"{root} is on {fleeting}: it will not outlive this machine's restart"
        )
    if os.path.exists(layout.database):
        yield _check_database(layout)
    yield from _check_space(settings, root)
    yield _check_clock(layout, now)


def _check_permissions(layout: RootLayout) -> Iterator[Check]:
    status = os.stat(layout.root)
    if status.st_mode & 0o007:
        yield Check(
            "root", State.WARN, f"{layout.root} is open to every user of this machine: chmod o= {layout.root}"
        )
    paths = [layout.root, layout.blobs, layout.uploads, layout.journal, layout.database, layout.write_lock]
    closed = [path for path in paths if os.path.exists(path) and not os.access(path, os.W_OK)]
    foreign = [path for path in paths if os.path.exists(path) and os.stat(path).st_uid != status.st_uid]
    for path in closed:
        yield Check("root", State.FAIL, f"{path} cannot be written by user {os.geteuid()}")
    for path in foreign:
        yield Check(
            "root", State.FAIL, f"{path} belongs to another user: chown -R {status.st_uid} {layout.root}"
        )
    if not closed and not foreign:
        yield Check("root", State.OK, f"{layout.root} belongs to user {status.st_uid} and can be written")


def _check_database(layout: RootLayout) -> Check:
    """Look at its head and its tables; dockreg verify looks at all."""
    try:
        with closing(sqlite3.connect(f"file:{quote(layout.database)}?mode=ro", uri=True)) as database:
            ((count,),) = database.execute("SELECT count(*) FROM repositories")
    except sqlite3.Error as error:
        text = f"{layout.database} cannot be read: {error}; stop the server, and run dockreg rebuild-index"
        return Check("database", State.FAIL, text)
    return Check(
        "database",
        State.OK,
        f"{count} repositor{'y' if count == 1 else 'ies'}; dockreg verify reads everything",
    )


def _check_space(settings: Settings, root: str) -> Iterator[Check]:
    status = os.statvfs(root)
    free, low = status.f_bavail * status.f_frsize, settings.storage.low_water_bytes
    if settings.found["storage.low_water"].source == "default":
        low = min(low, status.f_blocks * status.f_frsize // 10)
    is_low = free < low
    text = f"{free / 2**20:,.0f} MiB free, uploads need {low / 2**20:,.0f} MiB"
    yield Check("disk", State.FAIL if is_low else State.OK, f"{text}{': they get 507' if is_low else ''}")
    if status.f_files and status.f_favail < status.f_files // 100:
        yield Check("disk", State.WARN, f"{status.f_favail} inodes are left")


def _check_clock(layout: RootLayout, now: float) -> Check:
    if now < _EARLIEST:
        return Check("clock", State.FAIL, "it was never set: tokens and certificates would be refused")
    paths = (layout.database, f"{layout.database}-wal", layout.journal, layout.audit_log)
    latest = max((os.stat(path).st_mtime for path in paths if os.path.exists(path)), default=0.0)
    if latest > now + _CLOCK_TOLERANCE_SECONDS:
        text = f"the registry was last used {latest - now:.0f} s from now: the clock went back"
        return Check("clock", State.FAIL, text)
    return Check("clock", State.OK, "not before the last use of the registry")


def certificates(settings: Settings) -> list[CertificateFiles]:
    """Return the certificates of all listeners that name their files."""
    found = []
    if settings.tls.certificate:
        found.append(CertificateFiles(settings.tls.certificate, settings.tls.key))
    for text in settings.server.listen:
        plain, named = endpoint_arguments(text)
        if plain[0] == "ssl":
            arguments = ssl_arguments(text)
            found.append(CertificateFiles(arguments["certKey"], arguments["privateKey"]))
        elif plain[0] == "tls":
            directory = named.get("path") or (plain[1] if len(plain) > 1 else "")
            # Each file holds a certificate with its key.
            found += [CertificateFiles(path, path) for path in sorted(glob(f"{escape(directory)}/*.pem"))]
    return found


def check_listeners(settings: Settings, host: str, *, now: float) -> Iterator[Check]:
    """Yield what is good and bad about certificates and listeners."""
    for files in certificates(settings):
        yield from check_certificate(files, host, now=now)
    if settings.tls.client_ca:
        yield from check_authorities(settings.tls.client_ca, now=now)
    for text in settings.server.listen:
        address = reachable_address(text, settings)
        if address is None:
            continue
        try:
            ask(address, "/readyz", timeout_seconds=TIMEOUT_SECONDS)
            yield Check("server", State.OK, f"{address} is ready")
        except CertificateWanted as error:
            yield Check("server", State.OK, str(error))
        except NotReached as error:
            yield Check("server", State.WARN, f"{error}; is the server running?")


def check_public_url(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Yield whether clients' address leads here."""
    url = settings.server.public_url
    if not url:
        return
    if url.startswith("https:") and not certificates(settings) and not settings.server.trusted_proxies:
        text = "TLS ends elsewhere and server.trusted_proxies is empty: all clients look like the proxy"
        yield Check("public_url", State.WARN, text)
    yield _ask_public_url(url)
    for name in _PROXIES:
        if environ.get(name) and not _is_excepted(urlsplit(url).hostname or "", environ):
            text = f"{name} is set here; on docker hosts too, add {urlsplit(url).hostname} to NO_PROXY"
            yield Check("proxy", State.WARN, text)
            return


def _is_excepted(host: str, environ: Mapping[str, str]) -> bool:
    excepted = f"{environ.get('NO_PROXY', '')},{environ.get('no_proxy', '')}".split(",")
    return any(each.strip() and host.endswith(each.strip().lstrip("*.")) for each in excepted)


def _ask_public_url(url: str) -> Check:
    request = urllib.request.Request(f"{url}/v2/", headers={"User-Agent": "dockreg-doctor"})  # noqa: S310 - settings take http(s) only
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
            status, version = answer.status, answer.headers.get("Docker-Distribution-Api-Version")
    except urllib.error.HTTPError as error:
        status, version = error.code, error.headers.get("Docker-Distribution-Api-Version")
        error.close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if is_certificate_wanted(reason):
            return Check("public_url", State.OK, f"{url} asks for a client's certificate")
        hint = "; clients need its authority, see below" if isinstance(reason, ssl.SSLError) else ""
        return Check("public_url", State.FAIL, f"{url} does not answer: {reason}{hint}")
    if version is None or status not in {200, 401}:
        return Check("public_url", State.FAIL, f"{url}/v2/ says {status}, and not as a registry does")
    return Check("public_url", State.OK, f"{url} leads to a registry")
