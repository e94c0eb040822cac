"""Guessing addresses of offers and the codes in them: slow, seen, and in nobody else's way."""

import secrets

import pytest

from sconto.base.canonical import b64url
from sconto.servers.limits import Guesses

pytestmark = pytest.mark.anyio


def few() -> Guesses:
    return Guesses("offers", burst=5, every_ms=60_000, burst_all=8, every_all_ms=60_000)


def guess(token_id: str) -> str:
    return f"{token_id}.{b64url(secrets.token_bytes(32))}"


async def test_addresses_of_offers_cannot_be_tried_out(world):
    """The id of the token is known to the guesser; a right address works all the while, and the
    address of an offer that was taken is no guess."""
    terms = await world.promise()
    frame = world.frame(terms)
    await world.publish(frame)
    clipped = await world.clip(frame)
    right = clipped.json()["credential_offer_uri"].removeprefix(world.hub.base.home.url)
    token_id = right.rpartition("/")[2].partition(".")[0]
    world.hub.offer_guesses = few()
    for number in range(8):
        wrong = await world.call("GET", f"/v1/credential-offers/{guess(token_id)}")
        if number < 5:
            world.refused(wrong, 404, "not_found", "offer_id")
        else:
            problem = world.refused(wrong, 429, "rate_limited", "offer_id")
            assert int(wrong.headers["retry-after"]) == problem["retry_after_s"] >= 1
        assert (await world.call("GET", right)).status_code == 200
    assert await world.take(clipped)
    for _ in range(8):
        world.refused(await world.call("GET", right), 410, "gone")


async def test_codes_of_offers_cannot_be_tried_out(world):
    """At the token endpoint, in OAuth's words; a right code is taken all the while."""
    frame = world.frame(await world.promise())
    await world.publish(frame)
    clipped = await world.clip(frame)
    token_id = world.code_of(clipped).partition(".")[0]
    world.hub.offer_guesses = few()
    for number in range(8):
        wrong = await world.exchange(guess(token_id))
        if number < 5:
            world.oauth_refused(wrong, 400, "invalid_grant")
        else:
            world.oauth_refused(wrong, 429, "temporarily_unavailable")
            assert int(wrong.headers["retry-after"]) >= 1
    with world.unchanged():
        await world.exchange(guess(token_id))
    assert await world.take(clipped)
