"""Offers that the hub's own pages make: accepted by their address."""

from typing import Any
from urllib.parse import quote

import pytest

from sconto.servers.hub import clips

pytestmark = pytest.mark.anyio


async def offer(world: Any, frame_id: str) -> str:
    """As the hub's gallery makes one for a browser: for whichever wallet takes it."""
    hub = world.hub.server
    new = clips.NewClip(clip_id="browser-1", frame_id=frame_id, promotion_id="oaty-10")
    made = await hub.base.store.write(lambda tx: clips.clip(hub, tx, None, new, hub.base.clock()))
    return str(made.credential_offer_uri)


async def accept(world: Any, uri: str, key: str) -> Any:
    document = {"credential_offer_uri": uri}
    return await world.wallet.post("/v1/credential-offers", document, key=key)


@pytest.mark.parametrize("is_link", [False, True])
async def test_an_offer_is_accepted_once(world: Any, is_link: bool) -> None:
    """Either form of the address, twice: one token, which nobody but the hub has shown."""
    uri = await offer(world, await world.publish(await world.promise()))
    if is_link:
        uri = f"openid-credential-offer://?credential_offer_uri={quote(uri, safe='')}"
    key = await world.account()
    made = await accept(world, uri, key)
    assert made.status == 201, made
    assert (made["promotion_id"], made["status"]) == ("oaty-10", "usable")
    again = await accept(world, uri, key)
    assert again.json == made.json
    await world.settle()
    assert world.wallet.rows()["tokens"] == 1
    for server in (world.hub, world.shop, world.wallet):
        assert (server.totals().clipped, server.totals().shown) == (1, 0)


@pytest.mark.parametrize("step", ["/openid4vci/credential", "/v1/terms/", "/v1/frames/"])
async def test_an_accepted_offer_that_is_cut_off_goes_on(world: Any, step: str) -> None:
    """The code of such an offer works once; what it gave was written down before it was used."""
    uri = await offer(world, await world.publish(await world.promise()))
    key = await world.account()
    world.wire.cut(step, "after")
    assert (await accept(world, uri, key)).problem == (503, "hub_unreachable", None)
    await world.restart_wallet()
    made = await accept(world, uri, key)
    assert made.status == 201, made
    assert world.wallet.rows()["tokens"] == 1


async def test_an_offer_is_taken_by_one_shopper(world: Any) -> None:
    uri = await offer(world, await world.publish(await world.promise()))
    assert (await accept(world, uri, await world.account("ada"))).status == 201
    late = await accept(world, uri, await world.account("bob"))
    assert late.problem[:2] == (409, "clip_refused")
    assert world.wallet.rows()["tokens"] == 1


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("https://evil.example/v1/credential-offers/x", "hub_unknown"),
        ("https://hub.example.evil.example/offer", "hub_unknown"),
        ("https://hub.example@evil.example/offer", "hub_unknown"),
        ("http://127.0.0.1/offer", "hub_unknown"),
        ("file:///etc/passwd", "hub_unknown"),
        ("openid-credential-offer://?credential_offer=%7B%7D", "invalid_input"),
        ("https://hub.example/offer#fragment", "invalid_input"),
        ("https://hub.example/\u00e9", "invalid_input"),
    ],
)
async def test_nothing_but_a_known_hub_is_ever_asked(world: Any, uri: str, code: str) -> None:
    """A wallet server must not be a way to reach other addresses from inside its network."""
    key = await world.account()
    asked = len(world.wire.requests)
    refused = await accept(world, uri, key)
    assert refused.problem == (400, code, "credential_offer_uri")
    assert len(world.wire.requests) == asked
    assert world.wallet.rows()["clips"] == 0


async def test_an_offer_that_is_not_there_is_not_found(world: Any) -> None:
    key = await world.account()
    refused = await accept(world, "https://hub.example/v1/credential-offers/none", key)
    assert refused.status in (404, 409), refused
