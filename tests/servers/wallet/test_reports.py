"""What hubs report: counted once, and parked where it cannot be true."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio
BOTH_DATABASES = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
async def token_id(world: Any) -> str:
    frame_id = await world.publish(await world.promise(limits=[{"per": ["token"], "uses": 2}]))
    key = await world.account()
    return str((await world.clip(key, frame_id=frame_id))["token_id"])


def redeemed(held: str, **changed: Any) -> dict[str, Any]:
    return {
        "token_id": held,
        "promotion_id": "oaty-10",
        "merchant": "https://shop.example",
        "order_id": "o-1",
        "redemption_id": "r-1",
        "amount_minor": 100,
        "currency": "USD",
        "at": "2026-11-24T10:00:00Z",
        "receipt": None,
    } | changed


async def report(world: Any, type_: str, data: dict[str, Any]) -> None:
    """The hub tells its wallet, as it would."""
    kind = f"sconto.token.{type_}.v1"
    await world.hub.store.write(
        lambda tx: tx.send("https://wallet.example", kind, data.get("token_id", ""), data)
    )
    await world.settle()


async def shown(world: Any, token_id: str) -> Any:
    return await world.wallet.get(f"/v1/tokens/{token_id}")


@BOTH_DATABASES
async def test_a_token_with_two_uses_is_redeemed_with_the_second(world: Any, token_id: str) -> None:
    await report(world, "redeemed", redeemed(token_id))
    token = await shown(world, token_id)
    assert (token["status"], token["uses_left"]) == ("usable", 1)
    await report(world, "redeemed", redeemed(token_id))  # again: nothing
    assert (await shown(world, token_id))["uses_left"] == 1
    second = redeemed(token_id, redemption_id="r-2", order_id="o-2")
    await report(world, "redeemed", second)
    assert (await shown(world, token_id))["status"] == "redeemed"
    assert world.wallet.totals().redeemed == 2
    assert world.wallet.parked() == []


@BOTH_DATABASES
async def test_a_part_that_was_taken_back_is_subtracted(world: Any, token_id: str) -> None:
    await report(world, "redeemed", redeemed(token_id))
    back = redeemed(token_id, amount_minor=30, is_complete=False)
    await report(world, "reversed", back)
    token = await shown(world, token_id)
    assert (token["uses_left"], token["used"][0]["reversed_minor"]) == (1, 30)
    await report(world, "reversed", redeemed(token_id, amount_minor=70, is_complete=True))
    assert (await shown(world, token_id))["uses_left"] == 2
    totals = world.wallet.totals()
    assert (totals.redeemed, totals.reversed, totals.reversed_minor) == (1, 1, 100)
    savings = await world.wallet.get("/v1/savings?account_id=ada")
    assert savings["saved_minor"] == {"USD": 0}
    assert savings["by_promotion"][0]["uses"] == 0


async def test_a_revoked_token_cannot_be_used(world: Any, token_id: str) -> None:
    revoked = await world.hub.post(f"/v1/tokens/{token_id}/revoke", {"reason": "recall"})
    assert revoked.status == 200, revoked
    await world.settle()
    assert (await shown(world, token_id))["status"] == "revoked"
    asked = {"token_id": token_id, "order_id": "o-1", "account_id": "ada"}
    refused = await world.wallet.post("/v1/presentations", asked)
    assert refused.problem == (409, "token_revoked", "token_id")


async def test_a_receipt_of_somebody_else_is_kept_and_not_trusted(
    world: Any, token_id: str
) -> None:
    await report(world, "redeemed", redeemed(token_id, receipt="e30.e30.AAAA"))
    used = (await shown(world, token_id))["used"][0]
    assert used["receipt"] == "e30.e30.AAAA"
    assert "receipt_is_verified" not in used


@pytest.mark.parametrize(
    ("type_", "changed"),
    [
        ("redeemed", {"token_id": "0" * 26}),
        ("redeemed", {"merchant": "https://other.example"}),
        ("redeemed", {"amount_minor": -1}),
        ("redeemed", {"amount_minor": "100"}),
        ("redeemed", {"amount_minor": 10**15 + 1}),
        ("redeemed", {"at": "yesterday"}),
        ("redeemed", {"at": "2026-11-24T10:00:00"}),
        ("redeemed", {"at": "0001-01-01T00:00:00Z"}),
        ("redeemed", {"at": "9999-12-31T23:59:59Z"}),
        ("redeemed", {"currency": "usd"}),
        ("redeemed", {"redemption_id": ""}),
        ("redeemed", {"receipt": "x" * 20_000}),
        ("reversed", {"redemption_id": "unknown"}),
        ("revoked", {"token_id": "0" * 26}),
        ("invented", {}),
    ],
)
async def test_a_report_that_cannot_be_true_is_parked(
    world: Any, token_id: str, type_: str, changed: dict[str, Any]
) -> None:
    """Nothing is counted, the reason is kept, and the next report of the stream is applied."""
    before = world.wallet.totals()
    await report(world, type_, redeemed(token_id, **changed))
    assert len(world.wallet.parked()) == 1
    assert world.wallet.totals() == before
    await report(world, "redeemed", redeemed(token_id))
    assert world.wallet.totals().redeemed == 1


@BOTH_DATABASES
async def test_more_than_was_given_cannot_be_taken_back(world: Any, token_id: str) -> None:
    await report(world, "redeemed", redeemed(token_id))
    await report(world, "reversed", redeemed(token_id, amount_minor=101))
    assert len(world.wallet.parked()) == 1
    assert world.wallet.totals().reversed_minor == 0


async def test_a_hub_speaks_of_its_own_tokens_only(world: Any, token_id: str) -> None:
    """A second hub that knows a token id can do nothing with it."""
    wallet = world.wallet.server
    handle = wallet.event_handlers["sconto.token.revoked.v1"]

    def command(tx: Any) -> str:
        try:
            handle(wallet, tx, "https://other-hub.example", {"token_id": token_id})
        except Exception as error:
            return str(error)
        return ""

    assert "this hub" in await world.wallet.store.write(command)
    assert (await shown(world, token_id))["status"] == "usable"
