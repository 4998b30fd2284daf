"""Operations on tokens; triggers bump the generation, and foreign keys end what hangs on a user or robot."""

from __future__ import annotations

import json

from dockreg_tx.ports import TokenKind, TokenRecord
from dockreg_tx.records import statements
from dockreg_tx.records.transactions import Transaction

#: Clients that log in again and again forget their old refresh tokens, so nobody else would remove them.
LOGINS_LIMIT = 100


def add_token(transaction: Transaction, token: TokenRecord) -> bool:
    """Add a token, and remove those of its user that are of no use any more; False when it cannot be."""
    fields: dict[str, object] = {
        "id": token.id,
        "kind": token.kind.value,
        "hash": token.hash,
        "user": token.user,
        "robot_id": token.robot_id,
        "grants": None if token.grants is None else json.dumps(token.grants),
        "note": token.note,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
    }
    if not transaction.changed(statements.ADD_TOKEN, **fields):
        return False
    if token.kind is TokenKind.ROBOT:
        # Logins are not worth a line: their clients can log in again.
        transaction.journal("token.add", token.created_at, fields)
    transaction.execute(
        statements.REMOVE_STALE_TOKENS, user=token.user, now=token.created_at, kept=LOGINS_LIMIT
    )
    return True


def note_token_use(transaction: Transaction, token_id: str, *, now: float) -> bool:
    """Note that a token was used; False when there is none."""
    return transaction.changed(statements.NOTE_TOKEN_USE, id=token_id, now=now)


def remove_token(transaction: Transaction, token_id: str, *, now: float) -> bool:
    """Remove a token; False when there is none."""
    found = transaction.changed(statements.REMOVE_TOKEN, id=token_id)
    if found:
        transaction.journal("token.remove", now, {"id": token_id})
    return found
