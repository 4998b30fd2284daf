"""Repository names and tags, as the distribution spec writes them ("Pulling manifests")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from dockreg_tx.oci.errors import NameInvalid, TagInvalid

#: The spec lets clients limit host and name together to 255; distribution takes names below 256.
NAME_LIMIT_CHARACTERS = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, order=True)
class RepositoryName:
    """A valid repository name, such as ``team-a/app``."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the name that ``text`` spells.

        Raises:
            NameInvalid: the text breaks the grammar or is longer than 255 characters.
        """
        if len(text) > NAME_LIMIT_CHARACTERS or _NAME.fullmatch(text) is None:
            raise NameInvalid(text)
        return cls(text)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """A valid tag, such as ``v1.2``."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the tag that ``text`` spells.

        Raises:
            TagInvalid: the text breaks the grammar (at most 128 ASCII characters).
        """
        if _TAG.fullmatch(text) is None:
            raise TagInvalid(text)
        return cls(text)

    def __str__(self) -> str:
        return self.text
