"""Accounts: who may open them, who acts for whom, and how their keys are kept."""

import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sconto.base.errors import InvalidInputError
from sconto.servers.wallet import Wallet
from sconto.servers.wallet.vault import Vault
from sconto.store import schema

pytestmark = pytest.mark.anyio
BOTH_DATABASES = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


async def test_an_account_has_a_key_that_acts_for_it(world: Any) -> None:
    made = await world.wallet.post("/v1/accounts", {"account_id": "ada", "name": "Ada"})
    assert made.status == 201
    shown = await world.wallet.get("/v1/accounts/ada", key=made["api_key"])
    assert shown["holder_jkt"] == made["holder_jkt"]
    assert (await world.wallet.get("/v1/tokens", key=made["api_key"])).json == {"tokens": []}


@BOTH_DATABASES
async def test_an_account_is_opened_once_and_gets_new_keys(world: Any) -> None:
    """A key cannot be shown again; after a lost reply another one is made."""
    first = await world.account()
    again = await world.wallet.post("/v1/accounts", {"account_id": "ada"})
    assert again.problem == (409, "already_exists", "account_id")
    second = await world.wallet.post("/v1/accounts/ada/keys")
    assert second.status == 201
    for key in (first, second["api_key"]):
        assert (await world.wallet.get("/v1/accounts/ada", key=key)).status == 200
    assert (await world.wallet.post("/v1/accounts/bob/keys")).problem[0] == 404


@BOTH_DATABASES
async def test_2500_accounts_open_in_one_request(world: Any) -> None:
    ids = [f"household-{i}" for i in range(2500)]
    started = time.perf_counter()
    made = await world.wallet.post("/v1/accounts/batch", {"account_ids": ids})
    took_s = time.perf_counter() - started
    assert made.json == {"opened": 2500, "existing": 0}
    again = await world.wallet.post("/v1/accounts/batch", {"account_ids": [*ids[:10], "new"]})
    assert again.json == {"opened": 1, "existing": 10}
    assert took_s < 10, f"{took_s:.1f} s"  # alone on two cores it takes about 1 s
    with world.wallet.store.read() as connection:
        jkts = connection.execute(sa.select(schema.accounts.c.holder_jkt)).scalars().all()
    assert len(set(jkts)) == 2501


@BOTH_DATABASES
async def test_a_tenant_that_is_no_account_is_not_made_one(world: Any) -> None:
    before = world.wallet.rows()
    single = await world.wallet.post("/v1/accounts", {"account_id": "operator"})
    assert single.problem == (409, "id_taken", "account_id")
    batch = await world.wallet.post("/v1/accounts/batch", {"account_ids": ["ada", "operator"]})
    assert batch.problem == (409, "id_taken", "account_ids[1]")
    assert world.wallet.rows() == before


async def test_an_account_tenant_without_a_key_pair_gets_one(world: Any) -> None:
    """An operator may have added the tenant by hand before."""
    await world.wallet.post("/v1/tenants", {"tenant_id": "ada", "kind": "account", "name": "A"})
    assert (await world.wallet.get("/v1/tokens?account_id=ada")).problem[0] == 404
    assert (await world.wallet.post("/v1/accounts", {"account_id": "ada"})).status == 201


async def test_who_may_act_for_whom(world: Any) -> None:
    """Another's account looks like none; a key without the scopes may do nothing."""
    ada = await world.account("ada")
    await world.account("bob")
    wallet = world.wallet
    for other in ("bob", "nobody"):
        answer = await wallet.get(f"/v1/tokens?account_id={other}", key=ada)
        assert answer.problem == (404, "not_found", "account_id")
        assert answer["detail"] == f"there is no account {other}"
        assert (await wallet.get(f"/v1/accounts/{other}", key=ada)).problem[0] == 404
    assert (await wallet.get("/v1/tokens?account_id=ada", key=ada)).status == 200
    assert (await wallet.get("/v1/tokens")).problem == (400, "invalid_input", "account_id")
    manager = wallet.make_key("manager", "accounts:write", kind="wallet")
    assert (await wallet.get("/v1/tokens?account_id=bob", key=manager)).status == 200
    stranger = wallet.make_key("brand", "wallet")
    assert (await wallet.get("/v1/tokens", key=stranger)).problem[:2] == (403, "forbidden")
    reader = wallet.make_key("reader", "promotions:read")
    assert (await wallet.get("/v1/tokens?account_id=ada", key=reader)).problem[0] == 403
    assert (await wallet.get("/v1/tokens", key=None)).problem[0] == 401
    for path in ("/v1/accounts", "/v1/accounts/batch"):
        assert (await wallet.post(path, {"account_id": "x"}, key=ada)).problem[0] == 403
    assert (await wallet.get("/v1/statistics", key=ada)).problem[0] == 403


async def test_holder_keys_are_encrypted_in_the_datastore(world: Any) -> None:
    """Goal: a stolen datastore spends no token. Method: look for the key that the account has."""
    await world.account()
    with world.wallet.store.read() as connection:
        row = connection.execute(sa.select(schema.accounts)).one()
    vault = world.wallet.server.vault
    key = vault.holder_key("ada", row.holder_seed)
    assert key.kid == row.holder_jkt
    assert key.seed not in row.holder_seed
    with pytest.raises(InvalidInputError, match=r"key\.json"):
        vault.holder_key("bob", row.holder_seed)  # bound to its account


async def test_a_datastore_with_another_homes_secret_is_not_served(world: Any) -> None:
    """Goal: found at the start, not at the first clip. Method: another key.json beside it."""
    await world.account()
    await world.stop_wallet()
    home = world.wallet_home
    secret = home.secret
    object.__setattr__(home, "secret", bytes(32))
    with pytest.raises(InvalidInputError) as refused:
        Wallet(home)
    assert (refused.value.code, refused.value.field) == ("wrong_secret", "home")
    object.__setattr__(home, "secret", secret)
    await world.start_wallet()


def test_a_vault_opens_only_what_it_sealed(tmp_path: Path) -> None:
    vault = Vault(b"secret")
    sealed = vault.seal(b"data", "purpose", bytes(12))
    assert vault.open(sealed, "purpose") == b"data"
    for changed, purpose in (
        (sealed, "other"),
        (sealed[:-1], "purpose"),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), "purpose"),
        (bytes([sealed[0] ^ 1]) + sealed[1:], "purpose"),
        (b"", "purpose"),
    ):
        with pytest.raises(InvalidInputError, match="datastore"):
            vault.open(changed, purpose)
    with pytest.raises(InvalidInputError, match="datastore"):
        Vault(b"another").open(sealed, "purpose")
    seed = bytes(range(32))
    assert vault.holder_key("a", vault.seal_seed("a", seed, bytes(12))).seed == seed
