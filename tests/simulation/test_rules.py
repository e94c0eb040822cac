"""What the auditor counts redemptions in, worked out by hand."""

from sconto.ledger import UNLIMITED
from sconto.simulate.rules import Rules, Token, Used

#: 2026-12-01 00:00 in Los Angeles.
MIDNIGHT_MS = 1_796_112_000_000
REGION = {"per": ["attribute"], "attribute": "region", "amount_minor": 130, "period": "day"}
MINE = {"per": ["merchant", "shopper"], "uses": 3}


def rules(*limits: object, zone: str = "America/Los_Angeles") -> Rules:
    terms = {"promotion_id": "p", "schedule": {"time_zone": zone}, "limits": [{"uses": 9}, *limits]}
    return Rules(terms)


def test_a_redemption_is_counted_in_the_day_and_region_that_it_is_of() -> None:
    used = Used("p", MIDNIGHT_MS - 1, 1, 100, client="ann", region="north")
    later = used._replace(at_ms=MIDNIGHT_MS)
    own = rules(REGION)
    assert dict(own.keys(used, "a", None)) == {
        ("R", "p"): (9, UNLIMITED),
        ("R", "p", "day", "2026-11-30", "north"): (UNLIMITED, 130),
    }
    assert ("R", "p", "day", "2026-12-01", "north") in dict(own.keys(later, "a", None))
    there = rules(REGION, zone="UTC")
    assert ("R", "p", "day", "2026-12-01", "north") in dict(there.keys(used, "a", None))


def test_a_shopper_is_who_the_token_is_of_and_a_token_is_the_one_that_was_clipped() -> None:
    used = Used("p", MIDNIGHT_MS, 1, 100, token_id="second")
    counted = dict(
        rules(MINE, {"per": ["token"], "uses": 2}).keys(used, "a", Token("ann", "first"))
    )
    assert counted["T", "first"] == (2, UNLIMITED)
    assert counted["S", "p", "ever", "", "a", "ann"] == (3, UNLIMITED)


def test_what_nobody_could_know_any_more_counts_in_caps_only() -> None:
    used = Used("p", MIDNIGHT_MS, 1, 100, token_id="t", is_known=False)
    assert {key[0] for key, _ in rules(REGION, MINE).keys(used, "a", Token("ann", "t"))} == {"R"}


def test_a_counter_of_the_hub_has_the_limit_of_its_terms_as_its_cap() -> None:
    code = {"per": ["code"], "uses": 4, "period": "day"}
    own = rules(REGION, code)
    assert own.counter("day:2026-12-01/attribute:region=abc") == (UNLIMITED, 130)
    assert own.counter("day:2026-12-01/code") == (4, UNLIMITED)
    assert own.counter("day:2026-12-01") is None
    assert own.counter("ever:/code") is None
