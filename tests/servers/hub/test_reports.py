"""Reports from merchants: what was promised is settled once, the rest is disputed or parked.

After every test of money the budget sums up, and the statistics are a fold of the journal.
"""

import secrets

import pytest
import sqlalchemy as sa

from sconto.base.ids import new_id
from sconto.store.schema import budgets, redemptions, tokens

pytestmark = pytest.mark.anyio

SHOP = "https://shop.example"
REPORTED = "sconto.journal.reported.v1"


async def test_each_kind_of_entry_counts_as_itself(world, till):
    token_id = await till.token_id()
    await till.report(
        till.entry("reserved", token_id=token_id, redemption_id="r1"),
        till.entry(token_id=token_id, is_direct=False),
        till.entry("refused", reason="schedule", redemption_id="", allotment_id="", amount_minor=0),
        till.entry("released", redemption_id="r0"),
        till.entry("expired", redemption_id="r00"),
    )
    totals = world.totals()
    assert totals._asdict() == {
        "shown": 0,
        "clipped": 1,
        "presented": 2,
        "applied": 1,
        "redeemed": 1,
        "reversed": 0,
        "given_minor": 100,
        "reversed_minor": 0,
    }
    assert world.parked() == []
    answer = await world.call("GET", "/v1/statistics", key=world.brand_key)
    assert answer.json()["totals"] == totals._asdict()
    assert answer.json()["refused"] == {"schedule": 1}


async def test_the_same_redemption_again_changes_nothing(world, till):
    token_id = await till.token_id()
    entry = till.entry(token_id=token_id)
    await till.report(entry)
    counted, spent = world.totals(), world.column(budgets.c.spent_minor)
    await till.report(entry, entry)
    assert (world.totals(), world.column(budgets.c.spent_minor)) == (counted, spent)
    assert world.parked() == []
    changed = till.entry(token_id=token_id, amount_minor=101, at_ms=entry["entry"]["at_ms"])
    await till.report(changed)
    assert [reason.partition(":")[0] for reason in world.parked()] == [
        "exists_with_different_amount_minor"
    ]
    assert world.totals() == counted


async def test_what_was_not_promised_is_disputed(world, till):
    """Kept with the reason, counted nowhere, not paid."""
    token_id = await till.token_id()
    unknown = new_id(1, secrets.token_bytes(10))
    offered = (await world.clip(till.frame, clip_id="never-taken")).json()
    offered_id = offered["credential_offer"]["grants"]
    offered_id = next(iter(offered_id.values()))["pre-authorized_code"].partition(".")[0]
    cases = {
        "token_missing": {"token_id": ""},
        "token_unknown": {"token_id": unknown},
        "not issued": {"token_id": offered_id},
        "allotment_unknown": {"token_id": token_id, "allotment_id": unknown},
        "beyond_grant": {"token_id": token_id, "amount_minor": 10**15},
    }
    before = world.totals()
    for number, (name, changes) in enumerate(cases.items()):
        redemption_id = f"r{number}"
        await till.report(till.entry(redemption_id=redemption_id, **changes))
        expected = "token_unknown" if name == "not issued" else name
        assert till.state(redemption_id) == ("disputed", expected)
    await till.report(till.entry(token_id=token_id, redemption_id="good"))
    await till.report(till.entry(token_id=token_id, redemption_id="again", order_id="order-2"))
    assert till.state("good") == ("redeemed", None)
    assert till.state("again") == ("disputed", "token_used")
    assert world.totals().redeemed - before.redeemed == 1
    assert world.column(budgets.c.spent_uses) == [1]
    assert world.parked() == []
    await world.settle_outbox()
    assert len(world.wallet.of_type("sconto.token.redeemed.v1")) == 1


async def test_a_foreign_or_late_token_is_disputed(world, till_of):
    """Another merchant's token, one of another promotion, and one that had ended."""
    till = await till_of(schedule={"days_after_clip": 0})
    other_terms = await world.promise("other")
    frame = world.frame(other_terms, sequence=2)
    await world.publish(frame)
    foreign_promotion = world.claims(await world.take(await world.clip(frame, "other", "c2"))).jti
    token_id = await till.token_id()
    late = world.hub.base.clock() + 3 * 86_400_000
    await till.report(
        till.entry(token_id=foreign_promotion, redemption_id="a"),
        till.entry(token_id=token_id, redemption_id="b", at_ms=late),
    )
    await world.hub.base.store.write(
        lambda tx: (
            tx.write(
                sa.update(tokens)
                .where(tokens.c.token_id == token_id)
                .values(merchant="https://other.example")
            )
            and None
        )
    )
    await till.report(till.entry(token_id=token_id, redemption_id="c"))
    assert till.state("a") == ("disputed", "terms_mismatch")
    assert till.state("b") == ("disputed", "token_expired")
    assert till.state("c") == ("disputed", "audience_mismatch")
    assert world.totals().redeemed == 0


async def test_a_merchant_cannot_spend_more_than_it_was_granted(world, till_of):
    """60 tokens at a merchant with 50 of 100 uses: 50 are paid, 10 are disputed, 50 are free."""
    till = await till_of()
    token_ids = [await till.token_id(f"c{i}") for i in range(60)]
    await till.report(
        *(
            till.entry(token_id=token_id, redemption_id=f"r{i}", order_id=f"o{i}")
            for i, token_id in enumerate(token_ids)
        )
    )
    states = world.column(redemptions.c.state)
    assert (states.count("redeemed"), states.count("disputed")) == (50, 10)
    assert set(world.column(redemptions.c.dispute)) == {None, "beyond_grant"}
    assert world.column(budgets.c.free_uses) == [50]
    assert world.column(budgets.c.open_uses) == [0]
    assert world.totals().redeemed == 50


async def test_a_report_that_is_not_one_is_parked(world, till):
    """The stream goes on after each of them."""
    token_id = await till.token_id()
    good = till.entry(token_id=token_id)

    def broken(**changes):
        return {"entry": good["entry"] | changes}

    before = world.totals()
    cases = [
        (broken(merchant="https://other.example"), "forbidden"),
        (broken(terms_digest="sha-256=:" + "A" * 43 + "=:"), "not_found"),
        (broken(terms_digest="x"), "invalid_input"),
        (broken(promotion_id="other"), "not_found"),
        (broken(day="2001-01-01"), "invalid_input"),
        (broken(day="x" * 500), "invalid_input"),
        (broken(currency="EUR"), "invalid_input"),
        (broken(amount_minor=-1), "invalid_input"),
        (broken(amount_minor="1"), "invalid_input"),
        (broken(redemption_id=""), "invalid_input"),
        (broken(order_id="x" * 101), "invalid_input"),
        (broken(kind="clipped"), "invalid_input"),
        (broken(kind="shown"), "invalid_input"),
        (broken(kind="reversed", redemption_id="unknown"), "not_found"),
        ({"entry": {}}, "invalid_input"),
        ({}, "invalid_input"),
    ]
    await till.report(*(data for data, _ in cases))
    assert [reason.partition(":")[0] for reason in world.parked()] == [code for _, code in cases]
    assert world.totals() == before
    await world.deliver(world.shop, ("sconto.unheard.of.v1", {}))
    assert world.parked()[-1].startswith("event_type_unknown")
    await world.deliver(world.wallet, (REPORTED, good))
    assert world.parked()[-1].startswith("forbidden")
    await till.report(good)
    assert till.state() == ("redeemed", None)


async def test_a_reversal_gives_back_what_was_taken(world, till):
    """Half, then the rest: units return to the part, the token can be used again."""
    token_id = await till.token_id()
    await till.report(till.entry(token_id=token_id))
    await till.report(till.entry("reversed", token_id=token_id, amount_minor=40))
    assert world.column(budgets.c.spent_uses) == [1]
    assert world.column(budgets.c.spent_minor) == [60]
    assert till.state() == ("redeemed", None)
    await till.report(till.entry("reversed", token_id=token_id, amount_minor=61, is_complete=True))
    assert world.parked()[0].startswith("reversed_beyond_redeemed")
    await till.report(till.entry("reversed", token_id=token_id, amount_minor=60, is_complete=True))
    assert till.state() == ("reversed", None)
    assert world.column(budgets.c.spent_uses) == world.column(budgets.c.spent_minor) == [0]
    assert world.column(tokens.c.status) == ["issued"]
    totals = world.totals()
    assert (totals.redeemed, totals.reversed, totals.reversed_minor) == (1, 1, 100)
    await till.report(till.entry("reversed", token_id=token_id, amount_minor=0, is_complete=True))
    assert len(world.parked()) == 2
    await world.settle_outbox()
    told = world.wallet.of_type("sconto.token.reversed.v1")
    assert [(t["amount_minor"], t["is_complete"]) for t in told] == [(40, False), (60, True)]
    await till.report(till.entry(token_id=token_id, redemption_id="r2", order_id="order-2"))
    assert till.state("r2") == ("redeemed", None)


async def test_a_disputed_redemption_is_reversed_without_money(world, till):
    await till.report(till.entry())
    assert till.state() == ("disputed", "token_missing")
    before = world.totals()
    await till.report(till.entry("reversed", is_complete=True))
    assert till.state() == ("disputed", "token_missing")
    assert world.totals() == before
    assert world.parked() == []


async def test_a_token_of_two_uses_is_redeemed_twice(world, till_of):
    till = await till_of(limits=[{"per": ["token"], "uses": 2}, {"uses": 100}])
    token_id = await till.token_id()
    for number in range(3):
        await till.report(
            till.entry(token_id=token_id, redemption_id=f"r{number}", order_id=f"o{number}")
        )
        assert world.column(tokens.c.status) == ["issued" if number == 0 else "redeemed"]
    assert [till.state(f"r{n}") for n in range(3)] == [
        ("redeemed", None),
        ("redeemed", None),
        ("disputed", "token_used"),
    ]
    assert sorted(n for n in world.column(redemptions.c.use_number) if n) == [1, 2]


async def test_an_automatic_promotion_is_used_once_in_an_order(world, till_of):
    till = await till_of(promotion_id="auto", access={"type": "automatic"})
    await till.report(
        till.entry(redemption_id="a"),
        till.entry(redemption_id="b"),
        till.entry(redemption_id="c", order_id="order-2"),
    )
    assert [till.state(r) for r in "abc"] == [
        ("redeemed", None),
        ("disputed", "order_used"),
        ("redeemed", None),
    ]
