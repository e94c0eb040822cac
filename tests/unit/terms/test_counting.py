"""Which counters a redemption is in, which of them merchants share, and where periods end."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sconto.base.clock import from_ms, to_ms
from sconto.terms import Terms, terms_from
from sconto.terms import counting as c

PERIODS = ("day", "week", "month", "year")
#: A day of 23 hours, of 25 and of 24.5; a midnight that is skipped, one that comes twice; a day
#: that was left out; the date line; half hours and quarters.
ZONES = (
    "Europe/Berlin",
    "America/Chicago",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "America/Havana",
    "Asia/Beirut",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Asia/Kathmandu",
    "UTC",
)
instants = st.integers(0, to_ms(datetime(2100, 1, 1, tzinfo=UTC)))


def terms_of(*limits: dict[str, Any], **more: Any) -> Terms:
    return terms_from(
        {
            "promotion_id": "p",
            "title": "t",
            "currency": "USD",
            "benefits": [{"type": "percent_off", "basis_points": 1000}],
            "limits": list(limits),
            **more,
        }
    )


def names(terms: Terms, at_ms: int = 0, **what: Any) -> list[str]:
    found = c.counters(terms, c.Occasion(at_ms, "m", shopper="s", **what), is_of_hub=True)
    assert found is not None
    return sorted(one.name for one in found if one.is_shared)


@given(instants, st.sampled_from(ZONES), st.sampled_from(PERIODS))
def test_every_instant_is_in_one_period(at_ms: int, zone: str, period: str) -> None:
    """Goal: no instant is in two periods or in none, also where clocks change. Method: the wall
    clock of the zone says the day; the period's edges enclose the instant and are its own.
    """
    name = c.period_of(period, from_ms(at_ms, zone).date())
    start = c.starts_at_ms(period, name, zone)
    end = c.starts_at_ms(period, c.period_after(period, name), zone)
    assert start <= at_ms < end
    for edge_ms, expected in ((start, name), (end - 1, name), (end, c.period_after(period, name))):
        assert c.period_of(period, from_ms(edge_ms, zone).date()) == expected


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/Chicago", "2026-11-01", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("America/Sao_Paulo", "2018-11-04", 23),  # begins at 01:00
        ("America/Havana", "2026-11-01", 25),  # midnight comes twice
    ],
)
def test_a_day_is_as_long_as_its_clock_says(zone: str, day: str, hours: float) -> None:
    start, end = (c.starts_at_ms("day", one, zone) for one in (day, c.period_after("day", day)))
    assert (end - start) / 3_600_000 == hours
    assert [c.period_of("day", from_ms(at, zone).date()) for at in (start - 1, start)] == [
        (datetime.fromisoformat(day) - timedelta(1)).date().isoformat(),
        day,
    ]


def test_what_merchants_share_and_what_each_keeps() -> None:
    limits = [
        {"uses": 9},
        {"uses": 8, "period": "day"},
        {"uses": 7, "per": ["code"]},
        {"amount_minor": 6, "per": ["attribute"], "attribute": "tier", "period": "month"},
        *({"uses": 5, "per": [one], "period": "day"} for one in ("merchant", "store", "token")),
        {"uses": 4, "per": ["store", "attribute"], "attribute": "tier"},
        {"uses": 3, "per": ["shopper", "merchant"]},
    ]
    terms = terms_of(*limits, access={"type": "code", "code": "A"})
    assert [one.uses for one in c.shared(terms)] == [8, 7, None]
    assert c.inexact(terms) == []
    unique = terms_of(*limits, access={"type": "unique_codes"})
    assert [one.uses for one in c.shared(unique)] == [8, None]
    own = c.counters(terms, c.Occasion(0, "m", shopper="s"))
    assert own is not None
    assert not any(one.is_shared for one in own)


@pytest.mark.parametrize(
    ("limit", "access", "is_exact"),
    [
        ({"per": ["shopper"], "uses": 1}, "token", True),
        ({"per": ["shopper", "promotion"], "uses": 1}, "token", True),
        ({"per": ["shopper"], "uses": 1}, "automatic", False),
        ({"per": ["shopper"], "uses": 1, "period": "day"}, "token", False),
        ({"per": ["shopper"], "amount_minor": 1}, "token", False),
        ({"per": ["shopper", "attribute"], "attribute": "a", "uses": 1}, "token", False),
        ({"per": ["shopper", "merchant"], "uses": 1, "period": "day"}, "token", True),
        ({"per": ["shopper", "store"], "amount_minor": 1}, "automatic", True),
        ({"uses": 1, "period": "day"}, "automatic", True),
    ],
)
def test_only_uses_for_ever_of_a_shopper_can_be_limited_over_all_merchants(
    limit: dict[str, Any], access: str, is_exact: bool
) -> None:
    assert c.inexact(terms_of(limit, access={"type": access})) == ([] if is_exact else [0])


def test_the_name_of_a_shared_counter_says_what_it_counts() -> None:
    zone = "America/Chicago"
    at_ms = to_ms(datetime(2026, 11, 30, 23, 59, tzinfo=ZoneInfo(zone)))
    terms = terms_of(
        {"uses": 5, "period": "day"},
        {"amount_minor": 900, "period": "day"},
        {"uses": 7, "per": ["attribute"], "attribute": "tier", "period": "month"},
        schedule={"time_zone": zone},
    )
    gold, plain = names(terms, at_ms, attributes={"tier": "gold"}), names(terms, at_ms)
    assert gold[0] == "day:2026-11-30"
    assert gold[1].startswith("month:2026-11/attribute:tier=")
    assert gold[1] != plain[1]
    daily = c.shared_counter(terms, gold[0])
    assert daily is not None
    assert (daily.uses, daily.minor, daily.ends_at_ms) == (5, 900, at_ms + 60_000)
    monthly = c.shared_counter(terms, gold[1])
    assert monthly is not None
    assert (monthly.uses, monthly.minor, monthly.ends_at_ms) == (7, None, at_ms + 60_000)
    assert c.are_counters_of(terms, at_ms, gold)
    assert not c.are_counters_of(terms, at_ms + 60_000, gold)
    for wrong in (gold[:1], gold[1:], [*gold, *plain[1:]], [*gold, "day:2026-12-01"], []):
        assert not c.are_counters_of(terms, at_ms, wrong)
    assert names(terms, at_ms + 60_000)[0] == "day:2026-12-01"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "day",
        "day:",
        "day:2026-13-01",
        "day:20261124",
        "day:2026-W48-2",
        "day:2026-11-24/",
        "day:2026-11-24/code",
        "week:2026-W48",
        "month:2026-11",
        "ever:",
        "month:2026-11/attribute:tier=",
        "month:2026-11/attribute:tier=gold",
        "month:2026-11/attribute:other=" + "a" * 22,
        "day:9999-12-31",
        "fortnight:2026-11-24",
    ],
)
def test_other_names_are_of_no_counter(name: str) -> None:
    terms = terms_of(
        {"uses": 5, "period": "day"},
        {"uses": 7, "per": ["attribute"], "attribute": "tier", "period": "month"},
    )
    assert c.shared_counter(terms, name) is None
    known = "month:2026-11/attribute:tier=" + "a" * 22
    assert c.shared_counter(terms, known) is not None


@given(instants, st.sampled_from(ZONES), st.sampled_from(PERIODS))
def test_what_comes_next_is_known_ahead(at_ms: int, zone: str, period: str) -> None:
    """Goal: what is asked for ahead is what the first redemption of the next period is counted in,
    also by attribute.
    """
    terms = terms_of(
        {"uses": 5, "period": period},
        {"uses": 7, "per": ["attribute"], "attribute": "tier", "period": period},
        schedule={"time_zone": zone},
    )
    now = names(terms, at_ms, attributes={"tier": 1})
    found = list(c.ahead(terms, at_ms, now))
    ends_at_ms = min(one.ends_at_ms or 0 for one in found)
    next_ = names(terms, ends_at_ms, attributes={"tier": 1})
    assert sorted(one.name for one in found) == sorted(now + next_)


def test_versions_share_counters_when_their_limits_zone_and_code_are_the_same() -> None:
    daily = {"uses": 5, "period": "day"}
    per_code = {"uses": 5, "per": ["code"]}

    def is_same(one: Terms, other: Terms) -> bool:
        return c.is_same_sharing(one, other)

    assert is_same(terms_of(daily), terms_of({"per": ["store"], "uses": 1}, daily, title="other"))
    assert not is_same(terms_of(daily), terms_of({**daily, "uses": 6}))
    assert not is_same(terms_of(daily), terms_of())
    berlin = {"time_zone": "Europe/Berlin"}
    assert not is_same(terms_of(daily), terms_of(daily, schedule=berlin))
    assert is_same(terms_of(), terms_of(schedule=berlin))
    one, other = ({"access": {"type": "code", "code": code}} for code in ("A", "B"))
    assert not is_same(terms_of(per_code, **one), terms_of(per_code, **other))
    assert is_same(terms_of(daily, **one), terms_of(daily, **other))
