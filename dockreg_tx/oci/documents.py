"""JSON documents from outside, read so that no two readers understand them differently (I-JSON, RFC 7493)."""

from __future__ import annotations

import json
from collections import Counter
from typing import NoReturn

from dockreg_tx.oci.errors import ManifestInvalid

#: A nested index needs about 6 levels; the JSON reader itself gives up near 1,000.
DEPTH_LIMIT = 32

_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_TOO_DEEP = b"[" * (DEPTH_LIMIT + 1)


def parse_document(content: bytes) -> dict[str, object]:
    """Return the JSON object that ``content`` spells.

    Raises:
        ManifestInvalid: it is not UTF-8, not JSON, not an object, nested deeper than 32 levels, repeats a key
            in one object, holds NaN or an infinity, or a number too long to read.
    """
    _check_depth(content)
    try:
        document = _DECODER.decode(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ManifestInvalid("the manifest is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ManifestInvalid(
            f"the manifest is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid("the manifest holds a number or nesting too long to read") from error
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    return document


def _check_depth(content: bytes) -> None:
    """Refuse deep nesting before the reader recurses into it.

    Works at the speed of ``bytes.replace``: drop the strings, keep the brackets, take away the innermost
    level 32 times. Brackets that do not match are left to the reader, which has the better message.
    """
    outside = b"".join(content.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    brackets = outside.translate(_ONE_KIND, _ALL_BUT_BRACKETS)
    for _ in range(DEPTH_LIMIT):
        if _TOO_DEEP in brackets:
            break
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    if b"[]" in brackets or brackets.count(b"[") > DEPTH_LIMIT:
        raise ManifestInvalid(f"the manifest is nested deeper than {DEPTH_LIMIT} levels")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ManifestInvalid(f"the manifest has the key {key[:100]!a} twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ManifestInvalid(f"the manifest holds {name}, which is not JSON")


# Made once: json.loads makes one for every call with hooks of its own.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
