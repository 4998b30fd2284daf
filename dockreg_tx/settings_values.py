"""Kinds of setting: how one value is read from text, checked and made ready for use.

A plain value is what TOML offers (text, whole number, boolean, list); a kind turns it into what the program
works with, such as seconds, or says in one line what is wrong and what is allowed.
"""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(?:[0-9]{1,9}[smhdw])+")
#: Longer than any use, short enough for every clock.
_DURATION_LIMIT_SECONDS = 36_500 * 86_400
_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"([0-9]{1,15})([KMGT]i?B|B)", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
#: What a service maker counts as a process count by itself.
Workers = int | Literal["auto"]


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value; ``parse`` and ``read`` raise ``ValueError`` with the reason."""

    #: How an error message and the documentation name what may be written.
    allowed: str
    #: From a plain value to the value in use.
    parse: Callable[[object], T]
    #: From the text of an environment variable or option to a plain value.
    read: Callable[[str], object] = str


def text(*, may_be_empty: bool = True) -> Kind[str]:
    """Return the kind of any text on one line."""

    def parse(plain: object) -> str:
        if not _text(plain) and not may_be_empty:
            raise ValueError("it is empty")
        return _text(plain)

    return Kind("a text on one line", parse)


def choice(*values: str) -> Kind[str]:
    """Return the kind of one of a few words."""
    allowed = " or ".join(f'"{value}"' for value in values)

    def parse(plain: object) -> str:
        if not isinstance(plain, str) or plain not in values:
            raise ValueError(f"{show(plain)} is not allowed")
        return plain

    return Kind(allowed, parse)


def switch() -> Kind[bool]:
    """Return the kind of yes or no."""

    def parse(plain: object) -> bool:
        if not isinstance(plain, bool):
            raise ValueError(f"{show(plain)} is not allowed")
        return plain

    return Kind("true or false", parse, lambda written: {"true": True, "false": False}.get(written, written))


def duration(*, least_seconds: int = 0) -> Kind[int]:
    """Return the kind of a length of time in whole seconds, at least ``least_seconds``."""

    def parse(plain: object) -> int:
        return _duration_seconds(plain, least_seconds)

    return Kind('a number with its unit (s, m, h, d, w), such as "90s", "24h" or "7d"', parse)


def duration_or_never(*, least_seconds: int = 0) -> Kind[int | None]:
    """Return the kind of a length of time in whole seconds, or None for ``"never"``."""

    def parse(plain: object) -> int | None:
        return None if plain == "never" else _duration_seconds(plain, least_seconds)

    return Kind(f'{duration().allowed}, or "never"', parse)


def size(*, least_bytes: int = 0) -> Kind[int]:
    """Return the kind of a number of bytes, at least ``least_bytes``."""

    def parse(plain: object) -> int:
        _refuse_bare_number(plain)
        match = _SIZE.fullmatch(plain) if isinstance(plain, str) else None
        if match is None:
            raise ValueError(f"{show(plain)} is not a size")
        size_bytes = int(match[1]) * _BYTES[match[2].lower()]
        if size_bytes < least_bytes:
            raise ValueError(f"{show(plain)} is less than {least_bytes} bytes")
        return size_bytes

    return Kind(
        'a number with its unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), such as "4MiB" or "10GB"', parse
    )


def workers() -> Kind[Workers]:
    """Return the kind of a number of processes, or ``"auto"`` for as many as there are cores."""

    def parse(plain: object) -> Workers:
        if plain == "auto":
            return "auto"
        if isinstance(plain, bool) or not isinstance(plain, int) or not 1 <= plain <= 1024:
            raise ValueError(f"{show(plain)} is not a number of processes")
        return plain

    return Kind(
        'a whole number from 1 to 1024, or "auto"',
        parse,
        lambda written: int(written) if re.fullmatch(r"[0-9]{1,9}", written) else written,
    )


def web_address() -> Kind[str]:
    """Return the kind of an ``http(s)`` address of a host, or nothing; a closing slash is dropped."""

    def parse(plain: object) -> str:
        address = _text(plain).removesuffix("/")
        if not address:
            return address
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError("this is not an address that clients can use")
        if parts.path or parts.query or parts.fragment:
            raise ValueError("the address must end after the host and port")
        return address

    return Kind('"" or an address such as "https://registry.example.org"', parse)


def texts(
    allowed: str, check: Callable[[str], object], *, may_be_empty: bool = True
) -> Kind[tuple[str, ...]]:
    """Return the kind of a list of texts that ``check`` takes; a single text is a list of one."""

    def parse(plain: object) -> tuple[str, ...]:
        items = plain if isinstance(plain, (list, tuple)) else [plain]
        if not items and not may_be_empty:
            raise ValueError("at least one is needed")
        for item in items:
            check(_text(item))
        return tuple(items)

    return Kind(allowed, parse, _read_list)


def networks() -> Kind[tuple[str, ...]]:
    """Return the kind of a list of networks in CIDR form."""
    return texts('a list of networks, such as ["10.0.0.0/8", "fd00::/8"]', _check_network)


def endpoints() -> Kind[tuple[str, ...]]:
    """Return the kind of a list of server endpoint strings, not empty; the service checks their form."""
    return texts(
        'a list of endpoints, such as ["tcp:5000:interface=127.0.0.1"]', _check_endpoint, may_be_empty=False
    )


def grants() -> Kind[tuple[str, ...]]:
    """Return the kind of a list of grant specs."""
    return texts('a list of grants, such as ["pull:public/**"]', _check_grant)


def show(plain: object) -> str:
    """Return a plain value as TOML writes it."""
    return json.dumps(plain, ensure_ascii=False, default=str)


def _text(plain: object) -> str:
    if not isinstance(plain, str):
        raise ValueError(f"{show(plain)} is not a text")
    if not plain.isprintable():
        raise ValueError("there is a line break or another control character in it")
    return plain


def _refuse_bare_number(plain: object) -> None:
    is_number = isinstance(plain, (int, float)) and not isinstance(plain, bool)
    if is_number or (isinstance(plain, str) and _NUMBER.fullmatch(plain)):
        raise ValueError(f"the bare number {plain} has no unit")


def _duration_seconds(plain: object, least_seconds: int) -> int:
    _refuse_bare_number(plain)
    if not isinstance(plain, str) or _DURATION.fullmatch(plain) is None:
        raise ValueError(f"{show(plain)} is not a duration")
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([a-z])", plain))
    if not least_seconds <= seconds <= _DURATION_LIMIT_SECONDS:
        raise ValueError(f"{show(plain)} is not between {least_seconds}s and 36500d")
    return seconds


def _read_list(written: str) -> object:
    if not written.lstrip().startswith("["):
        return [written]
    try:
        return tomllib.loads(f"list = {written}")["list"]
    except tomllib.TOMLDecodeError as error:
        raise ValueError("this is not a TOML array") from error


def _check_network(written: str) -> None:
    try:
        ipaddress.ip_network(written)
    except ValueError as error:
        raise ValueError(f"{show(written)} is not a network") from error


def _check_endpoint(written: str) -> None:
    if not written.strip():
        raise ValueError("an endpoint is empty")


def _check_grant(written: str) -> None:
    # Inside, so that reading other settings does not load the rules of access.
    from dockreg_tx.access.grants import Grant  # noqa: PLC0415

    Grant.parse(written)
