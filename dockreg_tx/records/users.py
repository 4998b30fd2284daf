"""Operations on users and grants; triggers bump the generation."""

from __future__ import annotations

from dockreg_tx.ports import Account
from dockreg_tx.records import statements
from dockreg_tx.records.transactions import Transaction


def add_account(transaction: Transaction, account: Account) -> bool:
    """Add a user with the grants; False when the name is taken."""
    fields: dict[str, object] = {
        "name": account.name,
        "password_hash": account.password_hash,
        "is_admin": account.is_admin,
        "is_disabled": account.is_disabled,
        "created_at": account.created_at,
    }
    if not transaction.changed(statements.ADD_USER, **fields):
        return False
    transaction.journal("user.add", account.created_at, fields)
    for spec in account.grants:
        _add_grant(transaction, account.name, spec, account.created_at)
    return True


def set_password_hash(transaction: Transaction, name: str, password_hash: str, *, now: float) -> bool:
    """Replace the hash; False when there is no such user."""
    found = transaction.changed(statements.SET_PASSWORD_HASH, name=name, password_hash=password_hash, now=now)
    if found:
        transaction.journal("user.password", now, {"name": name, "password_hash": password_hash})
    return found


def set_disabled(transaction: Transaction, name: str, is_disabled: bool, *, now: float) -> bool:
    """Switch a user off or on; False when there is no such user."""
    found = transaction.changed(statements.SET_DISABLED, name=name, is_disabled=is_disabled, now=now)
    if found:
        transaction.journal("user.disabled", now, {"name": name, "is_disabled": is_disabled})
    return found


def remove_account(transaction: Transaction, name: str, *, now: float) -> bool:
    """Remove a user and, by the foreign key, the grants; False when there is no such user."""
    found = transaction.changed(statements.REMOVE_USER, name=name)
    if found:
        transaction.journal("user.remove", now, {"name": name})
    return found


def add_grant(transaction: Transaction, name: str, spec: str, *, now: float) -> bool:
    """Give a grant; False when there is no such user."""
    if transaction.value(statements.USER_EXISTS, name=name) is None:
        return False
    _add_grant(transaction, name, spec, now)
    return True


def remove_grant(transaction: Transaction, name: str, spec: str, *, now: float) -> bool:
    """Take a grant; False when the user does not have it."""
    found = transaction.changed(statements.REMOVE_GRANT, name=name, spec=spec)
    if found:
        transaction.journal("grant.remove", now, {"name": name, "spec": spec})
    return found


def _add_grant(transaction: Transaction, name: str, spec: str, now: float) -> None:
    if transaction.changed(statements.ADD_GRANT, name=name, spec=spec, now=now):
        transaction.journal("grant.add", now, {"name": name, "spec": spec})
