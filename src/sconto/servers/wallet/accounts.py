"""Accounts: a shopper, with a key pair that holds the shopper's tokens and never leaves the wallet.

A key with the scope `wallet` acts for the account that it belongs to; one with `accounts:write`
for every account, which it names in the request. Somebody else's account looks like none.
"""

import asyncio
import secrets
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from sconto.base.clock import rfc3339
from sconto.base.documents import Document
from sconto.base.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from sconto.base.keys import SEED_BYTES, SigningKey
from sconto.servers.admin import Label, TenantIdText
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.principal import make_api_key
from sconto.servers.wallet.vault import NONCE_BYTES, Vault
from sconto.store import wallet as store
from sconto.store.wallet import Account
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.wallet import Wallet

BATCH_MAX = 5000
_ACCOUNT_SCOPES = frozenset({"wallet"})


class NewAccount(Document):
    """A shopper to open an account for."""

    account_id: TenantIdText
    name: Label | None = None


class OpenedAccount(Document):
    """The API key's text is in this answer and nowhere else."""

    account_id: str
    #: RFC 7638 thumbprint of the key that will hold the account's tokens.
    holder_jkt: str
    api_key: str


class NewAccounts(Document):
    """Many accounts at once, without keys of their own."""

    account_ids: Annotated[tuple[TenantIdText, ...], Meta(min_length=1, max_length=BATCH_MAX)]


class OpenedAccounts(Document):
    """How many are new, and how many were there before."""

    opened: int
    existing: int


class AccountDocument(Document):
    account_id: str
    holder_jkt: str
    opened_at: str


class AccountKey(Document):
    account_id: str
    api_key: str


@endpoint(
    "POST",
    "/v1/accounts",
    scope="accounts:write",
    summary="Open an account, with an API key that acts for it",
    accepts=NewAccount,
    accepts_example={"account_id": "ada", "name": "Ada"},
    returns=OpenedAccount,
    status=201,
)
async def open_account(wallet: "Wallet", call: Call) -> OpenedAccount:
    """Once: a key cannot be shown again. After a lost reply make a new one at `…/keys`."""
    new: NewAccount = call.document
    (made,) = make_accounts(wallet.vault, (new.account_id,), call.now_ms)

    def command(tx: Tx) -> str:
        names = _names_of_new(tx, (new.account_id,), "account_id")
        if store.account(tx.connection, new.account_id) is not None:
            raise ConflictError(
                f"the account {new.account_id} is open already",
                code="already_exists",
                field="account_id",
                remedy="make a key for it at /v1/accounts/{account_id}/keys",
            )
        if new.name is not None and names:
            names[new.account_id] = new.name
        store.add_accounts(tx, (made,), names)
        return make_api_key(tx, new.account_id, _ACCOUNT_SCOPES, "account", secrets.token_bytes)

    api_key: str = await wallet.base.store.write(command)
    return OpenedAccount(account_id=new.account_id, holder_jkt=made.holder_jkt, api_key=api_key)


@endpoint(
    "POST",
    "/v1/accounts/batch",
    scope="accounts:write",
    summary="Open many accounts; those that are open already stay as they are",
    accepts=NewAccounts,
    accepts_example={"account_ids": ["household-1", "household-2"]},
    returns=OpenedAccounts,
)
async def open_accounts(wallet: "Wallet", call: Call) -> OpenedAccounts:
    ids: tuple[str, ...] = call.document.account_ids
    seen: set[str] = set()
    for i, account_id in enumerate(ids):
        if account_id in seen:
            raise InvalidInputError(f"{account_id} stands twice", field=f"account_ids[{i}]")
        seen.add(account_id)
    with wallet.base.store.read() as connection:
        known = store.known_accounts(connection, ids)
    fresh = tuple(one for one in ids if one not in known)
    made = await asyncio.to_thread(make_accounts, wallet.vault, fresh, call.now_ms)

    def command(tx: Tx) -> OpenedAccounts:
        names = _names_of_new(tx, ids, "account_ids[{}]")
        there = store.known_accounts(tx.connection, ids)
        added = [one for one in made if one.account_id not in there]
        store.add_accounts(tx, added, names)
        return OpenedAccounts(opened=len(added), existing=len(ids) - len(added))

    opened: OpenedAccounts = await wallet.base.store.write(command)
    return opened


@endpoint(
    "GET",
    "/v1/accounts/{account_id:str}",
    scope="any",
    summary="An account and the key that holds its tokens",
    returns=AccountDocument,
)
async def show_account(wallet: "Wallet", call: Call) -> AccountDocument:
    account = acting(wallet, call, call.params["account_id"])
    return AccountDocument(
        account_id=account.account_id,
        holder_jkt=account.holder_jkt,
        opened_at=rfc3339(account.created_at_ms),
    )


@endpoint(
    "POST",
    "/v1/accounts/{account_id:str}/keys",
    scope="accounts:write",
    summary="Make another API key for an account; it is shown once",
    returns=AccountKey,
    status=201,
)
async def add_account_key(wallet: "Wallet", call: Call) -> AccountKey:
    account = acting(wallet, call, call.params["account_id"])

    def command(tx: Tx) -> str:
        return make_api_key(tx, account.account_id, _ACCOUNT_SCOPES, "account", secrets.token_bytes)

    api_key: str = await wallet.base.store.write(command)
    return AccountKey(account_id=account.account_id, api_key=api_key)


ENDPOINTS = (open_account, open_accounts, show_account, add_account_key)


def acting(wallet: "Wallet", call: Call, named: str | None) -> Account:
    """The account that a request is for.

    1. A key with `accounts:write` names it, unless the key is an account's own.
    2. A key with `wallet` is its own account's; the name of another is answered like that of none.

    Raises InvalidInputError when nobody is named, ForbiddenError without either scope,
    NotFoundError for what is not there or not the caller's.
    """
    principal = call.principal
    own = principal.tenant_id if principal.tenant_kind == "account" else None
    if principal.may("accounts:write"):
        account_id = named or own
        if account_id is None:
            raise InvalidInputError("say for which account", field="account_id")
    else:
        principal.require("wallet")
        if own is None:
            raise ForbiddenError(
                "this key belongs to no account",
                field="Authorization",
                remedy="use the key of an account, or one with the scope accounts:write",
                scope="accounts:write",
            )
        if named is not None and named != own:
            raise _no_account(named)
        account_id = own
    with wallet.base.store.read() as connection:
        account = store.account(connection, account_id)
    if account is None:
        raise _no_account(account_id)
    return account


def make_accounts(vault: Vault, ids: tuple[str, ...], now_ms: int) -> list[Account]:
    """New accounts with new keys; about 0.1 ms each."""
    made = []
    for account_id in ids:
        seed = secrets.token_bytes(SEED_BYTES)
        sealed = vault.seal_seed(account_id, seed, secrets.token_bytes(NONCE_BYTES))
        made.append(Account(account_id, sealed, SigningKey.from_seed(seed).kid, now_ms))
    return made


def _names_of_new(tx: Tx, ids: tuple[str, ...], field: str) -> dict[str, str]:
    """Names for those that are no tenant yet; ConflictError where one is another kind of tenant."""
    kinds = store.tenant_kinds(tx.connection, ids)
    for i, account_id in enumerate(ids):
        kind = kinds.get(account_id, "account")
        if kind != "account":
            raise ConflictError(
                f"{account_id} is a {kind} here",
                code="id_taken",
                field=field.format(i),
                remedy="choose another id",
            )
    return {account_id: account_id for account_id in ids if account_id not in kinds}


def _no_account(account_id: str) -> NotFoundError:
    return NotFoundError(
        f"there is no account {account_id[:64]}",
        field="account_id",
        remedy="open it at /v1/accounts",
    )
