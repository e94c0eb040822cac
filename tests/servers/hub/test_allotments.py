"""Parts of budgets: granted to whoever takes part, freed when closed, never more than there is."""

import secrets

import pytest

from sconto.base.ids import new_id
from sconto.store.schema import acceptances, allotments, budgets

pytestmark = pytest.mark.anyio

ACCEPTED = "sconto.promotion.accepted.v1"
REQUESTED = "sconto.allotment.requested.v1"
CLOSED = "sconto.allotment.closed.v1"
GRANTED = "sconto.allotment.granted.v1"
REFUSED = "sconto.allotment.refused.v1"
CHANGED = "sconto.promotion.changed.v1"


def request(uses=1, minor=1, promotion_id="oaty-10"):
    return REQUESTED, {"promotion_id": promotion_id, "needed_uses": uses, "needed_minor": minor}


async def second_shop(world):
    peer = type(world.shop)("https://second.example", "merchant", "second")
    await world.register(peer)
    return peer


async def test_taking_part_brings_a_first_grant_once(world):
    await world.promise()
    await world.deliver(world.shop, (ACCEPTED, {"promotion_id": "oaty-10"}))
    assert world.column(acceptances.c.merchant) == [world.shop.url]
    assert world.column(allotments.c.granted_uses) == [50]
    other = await second_shop(world)
    await world.deliver(other, (ACCEPTED, {"promotion_id": "oaty-10"}))
    assert sorted(world.column(allotments.c.granted_uses)) == [12, 50]
    await world.settle_outbox()
    granted = other.of_type(GRANTED)[0]
    assert granted["incarnation"] == "I" * 26
    assert granted["epoch"] == world.hub.base.home.incarnation
    assert world.parked() == []


async def test_the_last_units_go_out_and_then_there_are_none(world):
    """Budget 3: grants shrink, a refusal says so, a top-up brings more without being asked."""
    await world.promise(limits=[{"uses": 3}])
    await world.deliver(world.shop, *[request()] * 4)
    await world.settle_outbox()
    assert [g["uses"] for g in world.shop.of_type(GRANTED)] == [1, 1, 1]
    refused = {"promotion_id": "oaty-10", "needed_uses": 1, "needed_minor": 1}
    assert world.shop.of_type(REFUSED) == [refused] * 2
    assert world.column(budgets.c.free_uses) == [0]
    answer = await world.call(
        "POST",
        "/v1/promotions/oaty-10/top-ups",
        {"top_up_id": "more", "uses": 10},
        key=world.brand_key,
    )
    assert answer.status_code == 200, answer.text
    await world.settle_outbox()
    assert [g["uses"] for g in world.shop.of_type(GRANTED)] == [1, 1, 1, 5]
    await world.deliver(world.shop, request(uses=6))
    await world.deliver(world.shop, request(uses=5))
    await world.settle_outbox()
    assert world.shop.of_type(GRANTED)[-1]["uses"] == 5
    assert len(world.shop.of_type(REFUSED)) == 3
    assert world.parked() == []


async def test_a_closed_part_is_free_again_once(world, till_of):
    till = await till_of()
    token_id = await till.token_id()
    await till.report(till.entry(token_id=token_id))
    said = {"allotment_id": till.allotment_id, "spent_uses": 1, "spent_minor": 100}
    said["last_sequence"] = world.shop.sent
    await world.deliver(world.shop, (CLOSED, said | {"spent_uses": 0}))
    assert world.parked()[0].startswith("closure_mismatch")
    assert world.column(budgets.c.open_uses) == [49]
    for _ in range(2):
        await world.deliver(world.shop, (CLOSED, said))
        assert world.column(budgets.c.open_uses) == [0]
        assert world.column(budgets.c.free_uses) == [99]
        assert world.column(allotments.c.state) == ["closed"]
    # A redemption from a part that is closed was not granted.
    await till.report(till.entry(redemption_id="r2", token_id=await till.token_id("c2")))
    assert till.state("r2") == ("disputed", "beyond_grant")
    # What is taken back goes to what is free.
    await till.report(till.entry("reversed", token_id=token_id, is_complete=True))
    assert world.column(budgets.c.free_uses) == [100]


async def test_wrong_events_are_parked(world):
    await world.promise()
    other = await second_shop(world)
    unknown = new_id(1, secrets.token_bytes(10))
    draft = {"terms": world.terms_of("draft"), "launch": False}
    await world.call("POST", "/v1/promotions", draft, key=world.brand_key)
    closed = {"allotment_id": unknown, "spent_uses": 0, "spent_minor": 0, "last_sequence": 1}
    mine = world.column(allotments.c.allotment_id)[0]
    cases = (
        ((ACCEPTED, {"promotion_id": "unknown"}), "not_found"),
        ((ACCEPTED, {"promotion_id": "draft"}), "not_found"),
        ((ACCEPTED, {"promotion_id": "a\0b"}), "invalid_json"),
        ((ACCEPTED, {}), "invalid_input"),
        (request(), "forbidden"),
        (request(uses=-1), "invalid_input"),
        (request(uses=10**15 + 1), "invalid_input"),
        ((CLOSED, closed), "not_found"),
        ((CLOSED, closed | {"allotment_id": mine}), "not_found"),
    )
    parked = 0
    for event, code in cases:
        await world.deliver(other, event)
        parked += 1
        assert world.parked()[parked - 1 :][0].startswith(code), event
    await world.deliver(world.wallet, (ACCEPTED, {"promotion_id": "oaty-10"}))
    assert len(world.parked()) == parked + 1
    assert world.column(acceptances.c.merchant) == [world.shop.url]


async def test_merchants_hear_of_every_change(world):
    """A launch, a new version, a pause, the end; a new merchant of what is active; drafts never."""
    draft = {"terms": world.terms_of("oaty-10"), "launch": False}
    await world.call("POST", "/v1/promotions", draft, key=world.brand_key)
    await world.call("POST", "/v1/promotions/oaty-10/launch", key=world.brand_key)
    version = {"terms": world.terms_of("oaty-10", version=2, title="11 % off Oaty")}
    await world.call("POST", "/v1/promotions/oaty-10/versions", version, key=world.brand_key)
    await world.call("POST", "/v1/promotions/oaty-10/pause", key=world.brand_key)
    await world.promise("active")
    await world.settle_outbox()
    heard = world.shop.of_type(CHANGED)
    assert [(h["promotion_id"], h["status"], h["terms"].get("version", 1)) for h in heard] == [
        ("oaty-10", "active", 1),
        ("oaty-10", "active", 2),
        ("oaty-10", "paused", 2),
        ("active", "active", 1),
    ]
    assert heard[3]["terms"] == world.terms_of("active")
    other = type(world.shop)("https://second.example", "merchant", "second")
    world.peers[other.url] = other
    document = {"url": other.url, "kind": "merchant", "tenant_id": "second"}
    added = await world.call("POST", "/v1/peers", document, key=world.admin_key)
    assert added.status_code == 201, added.text
    await world.settle_outbox()
    assert [h["promotion_id"] for h in other.of_type(CHANGED)] == ["active"]


async def test_terms_of_nearly_a_megabyte_are_delivered(world):
    skus = [f"sku-{n:06}-{'x' * 80}" for n in range(10_000)]
    benefit = {
        "type": "percent_off",
        "basis_points": 1000,
        "items": {"include": [{"skus": skus}]},
    }
    await world.promise("large", benefits=[benefit])
    await world.settle_outbox()
    assert (
        len(world.shop.of_type(CHANGED)[0]["terms"]["benefits"][0]["items"]["include"][0]["skus"])
        == 10_000
    )


async def test_what_happens_while_a_merchant_is_away_is_told_later(world):
    world.away.add(world.shop.url)
    terms = await world.promise()
    frame = world.frame(terms)
    assert (await world.publish(frame)).status_code == 201
    await world.take(await world.clip(frame))
    assert world.shop.events == []
    world.away.clear()
    world.hub.base.deliverer.wake(world.shop.url)
    await world.settle_outbox()
    kinds = [event.type for event in world.shop.events]
    assert kinds == [CHANGED, GRANTED, "sconto.token.issued.v1"]
    assert [event.sequence for event in world.shop.events] == [1, 2, 3]
