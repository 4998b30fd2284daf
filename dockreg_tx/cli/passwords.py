"""Where a new password comes from: standard input, the terminal, or chance; never an argument."""

from __future__ import annotations

import os
import sys

import click

from dockreg_tx.access.passwords import PasswordInvalid, generate_password

#: Far more than bcrypt reads; a wrong file on standard input is not swallowed whole.
_LIMIT_BYTES = 4096

password_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)


def new_password(*, from_stdin: bool) -> tuple[str, bool]:
    """Return a password, and whether it was made up here, so that it must be shown.

    Raises:
        PasswordInvalid: it cannot be sent in a request.
        Abort: the user gave up.
    """
    if from_stdin:
        return _checked(_read(sys.stdin.buffer.read(_LIMIT_BYTES))), False
    if sys.stdin.isatty():
        return _checked(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)), False
    return generate_password(os.urandom), True


def _read(content: bytes) -> str:
    """Return the text, without the one line end that ``echo`` and editors add."""
    try:
        return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        # Not chained: that error carries the password.
        raise PasswordInvalid("the password is not UTF-8 text") from None


def _checked(password: str) -> str:
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in password):
        raise PasswordInvalid(
            "the password holds a line break or another control character: no client can send it"
        )
    return password
