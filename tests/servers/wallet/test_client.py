"""The Python client, against all three servers: the whole flow in a retailer's own words."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest

from sconto.base.errors import WireError
from sconto.client import HubClient, MerchantClient, ProblemError, WalletClient
from sconto.terms import terms_digest, terms_from

pytestmark = pytest.mark.anyio


class Clients(NamedTuple):
    hub: HubClient
    shop: MerchantClient
    wallet: WalletClient


@pytest.fixture
async def clients(world: Any) -> AsyncIterator[Clients]:
    def connect(kind: Any, served: Any) -> Any:
        return kind(served.url, served.key, transport=world.wire.apps[served.url])

    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(connect(kind, served))
            for kind, served in (
                (HubClient, world.hub),
                (MerchantClient, world.shop),
                (WalletClient, world.wallet),
            )
        ]
        yield Clients(*made)


async def test_the_flow_by_the_client(
    world: Any, clients: Clients, make_cart: Callable[..., dict[str, Any]]
) -> None:
    """From terms to savings; each step by one method."""
    hub, shop, wallet = clients
    terms = await world.promise()
    digest = terms_digest(terms_from(terms))
    assert (await hub.terms(digest))["terms"] == terms
    frame_id = await world.publish(terms)
    assert (await hub.frames())["frames"][0]["frame_id"] == frame_id
    assert (await hub.frame(frame_id))["manifest"]["offers"][0]["terms_digest"] == digest
    await wallet.add_accounts(["ada", "bob"])
    account = await wallet.account("ada")
    assert set(await wallet.add_account_key("ada")) == {"account_id", "api_key"}
    token = await wallet.clip(
        clip_id="c-1", hub=hub.url, frame_id=frame_id, promotion_id="oaty-10", account_id="ada"
    )
    token_id = token["token_id"]
    assert (await wallet.tokens(account_id="ada", status="usable", limit=1))["next"] == token_id
    choice = await wallet.choose(shop.url, make_cart(525), account_id="ada")
    assert [one["token_id"] for one in choice["tokens"]] == [token_id]
    shown = await wallet.present(token_id, "o-1", account_id="ada")
    order = await shop.redeem(
        order_id="o-1",
        cart=make_cart(525),
        presented=[{"token": shown["token"], "proof": shown["proof"]}],
    )
    assert order["discount_minor"] == choice["discount_minor"] == 100
    await world.settle()
    assert (await wallet.token(token_id))["status"] == "redeemed"
    assert (await wallet.savings(account_id="ada"))["saved_minor"] == {"USD": 100}
    for client in clients:
        assert (await client.statistics())["totals"]["given_minor"] == 100
        assert (await client.exchange())["parked"] == []
        assert len(await client.peers()) >= 1
    assert account["holder_jkt"]


async def test_linking_and_giving_up(world: Any, clients: Clients) -> None:
    frame_id = await world.publish(await world.promise())
    wallet = clients.wallet
    await wallet.add_account("ada", "Ada")
    token = await wallet.clip(
        clip_id="c-1",
        hub=clients.hub.url,
        frame_id=frame_id,
        promotion_id="oaty-10",
        account_id="ada",
    )
    nonce = await clients.shop.link_code("card-1")
    linked = await wallet.link(
        token_id=token["token_id"], client="card-1", nonce=nonce, account_id="ada"
    )
    assert linked["linked"]
    await world.settle()
    assert len(await clients.shop.coupon_information(client="card-1")) == 1
    await wallet.give_up(token["token_id"])
    assert (await wallet.tokens(account_id="ada"))["tokens"] == []


async def test_problems_and_silence_are_told_apart(world: Any, clients: Clients) -> None:
    with pytest.raises(ProblemError) as refused:
        await clients.wallet.token("none", account_id="ada")
    assert (refused.value.status, refused.value.code) == (404, "not_found")
    assert refused.value.field == "account_id"
    assert refused.value.remedy
    key = await clients.wallet.add_key("operator", ["wallet"], "spare")
    await clients.wallet.revoke_key("operator", key["key_id"])
    async with WalletClient(world.wallet.url, key["api_key"]) as revoked:
        with pytest.raises(WireError, match="cannot be reached"):
            await revoked.tokens()
        assert not await revoked.is_ready()
