"""From a signed frame to a settled redemption, through the hub's own front door."""

import httpx
import pytest

from sconto.base.ids import handle_of
from sconto.store.schema import budgets, redemptions, tokens
from sconto.terms import sentence, terms_from

pytestmark = pytest.mark.anyio


async def test_a_clip_becomes_a_token_and_a_redemption(world):
    """The whole flow once; each party sees what it must, and the statistics are the journal's."""
    terms = await world.promise()
    await world.settle_outbox()
    assert [c["status"] for c in world.shop.of_type("sconto.promotion.changed.v1")] == ["active"]
    granted = world.shop.of_type("sconto.allotment.granted.v1")[0]
    assert granted["uses"] == 50  # half of the fair share of one merchant

    frame = world.frame(terms)
    published = await world.publish(frame)
    assert published.status_code == 201, published.text
    assert published.json()["frame_id"] == frame.frame_id
    assert (await world.publish(frame)).status_code == 200

    listed = await world.call("GET", "/v1/frames", peer=world.wallet)
    assert listed.json()["frames"][0]["offers"] == [
        {
            "offer_id": "o0",
            "promotion_id": "oaty-10",
            "terms_digest": world.digest_of(terms),
            "title": "10 % off Oaty",
            "sentence": sentence(terms_from(terms)),
        }
    ]

    shown = await world.call(
        "POST",
        "/v1/impressions",
        {"frame_id": frame.frame_id, "promotion_ids": ["oaty-10"]},
        peer=world.wallet,
    )
    assert shown.status_code == 204, shown.text
    clipped = await world.clip(frame)
    offer = await world.call("GET", httpx.URL(clipped.json()["credential_offer_uri"]).path)
    assert offer.json() == clipped.json()["credential_offer"]
    token = await world.take(clipped)

    claims = world.claims(token)
    assert claims.frame == frame.frame_id
    assert claims.cnf.jkt == world.holder.kid
    assert (claims.promotion_id, claims.terms_digest) == (
        "oaty-10",
        frame.manifest.offers[0].terms_digest,
    )
    await world.settle_outbox()
    information = world.shop.of_type("sconto.token.issued.v1")[0]
    assert information == {
        "token_id": claims.jti,
        "promotion_id": "oaty-10",
        "terms_digest": claims.terms_digest,
        "frame_id": frame.frame_id,
        "client": claims.sub,
        "holder_jkt": world.holder.kid,
        "uses": 1,
        "is_control": False,
        "handle": handle_of(claims.jti),
        "clipped_at": information["clipped_at"],
        "expires_at": "9000-01-01T00:00:00Z",
    }
    assert world.shop.of_type("sconto.frame.shown.v1")[0]["frame_id"] == frame.frame_id

    redeemed = world.entry(
        "redeemed",
        terms,
        world.hub.base.clock(),
        order_id="order-1",
        redemption_id="r1",
        token_id=claims.jti,
        allotment_id=granted["allotment_id"],
        amount_minor=105,
        currency="USD",
        is_direct=True,
    )
    await world.deliver(world.shop, ("sconto.journal.reported.v1", redeemed | {"receipt": "a.b.c"}))
    await world.settle_outbox()
    told = world.wallet.of_type("sconto.token.redeemed.v1")[0]
    assert (told["token_id"], told["amount_minor"], told["receipt"]) == (claims.jti, 105, "a.b.c")
    assert world.column(tokens.c.status) == ["redeemed"]
    totals = world.totals()
    assert totals._asdict() == {
        "shown": 1,
        "clipped": 1,
        "presented": 1,
        "applied": 1,
        "redeemed": 1,
        "reversed": 0,
        "given_minor": 105,
        "reversed_minor": 0,
    }
    assert world.parked() == []
    assert world.column(budgets.c.spent_uses) == [1]
    assert world.column(redemptions.c.state) == ["redeemed"]
