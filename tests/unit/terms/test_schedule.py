"""Windows, weekly hours and days after the clip, in the promotion's own time zone."""

import pytest

from sconto.base.clock import rfc3339
from sconto.terms.schedule import Schedule, WeeklyHours, instant_ms, minute_of_week

DAY_MS = 86_400_000


def test_the_same_instant_in_three_spellings() -> None:
    spellings = ("2017-10-30T05:00:00Z", "2017-10-30T00:00:00-05:00", "2017-10-30")
    assert {instant_ms(text, "America/Chicago") for text in spellings} == {1_509_339_600_000}


@pytest.mark.parametrize("text", ["2017-10-30T25:00", "30.10.2017 ", "2017-10-30Z", "x" * 12])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Schedule(from_=text)


def test_windows_are_half_open() -> None:
    schedule = Schedule(from_="2020-01-01T00:00:00Z", until="2020-01-02T00:00:00Z")
    start = instant_ms("2020-01-01", "UTC")
    times = (start - 1, start, start + DAY_MS - 1, start + DAY_MS)
    assert [schedule.can_clip(at) for at in times] == [False, True, True, False]
    assert [schedule.can_redeem(at) for at in times] == [False, True, True, False]


def test_redemption_may_have_a_window_of_its_own() -> None:
    schedule = Schedule(
        from_="2020-01-01", until="2020-02-01", redeem_from="2020-01-15", redeem_until="2020-03-01"
    )
    january, february = instant_ms("2020-01-10", "UTC"), instant_ms("2020-02-10", "UTC")
    assert (schedule.can_clip(january), schedule.can_redeem(january)) == (True, False)
    assert (schedule.can_clip(february), schedule.can_redeem(february)) == (False, True)


def test_a_token_ends_with_its_days_or_with_the_promotion() -> None:
    schedule = Schedule(days_after_clip=2, until="2020-01-10", time_zone="Asia/Tokyo")
    early, late = instant_ms("2020-01-01T23:00", "Asia/Tokyo"), instant_ms("2020-01-09", "UTC")
    assert rfc3339(schedule.token_until_ms(early) or 0) == "2020-01-03T15:00:00Z"
    assert schedule.token_until_ms(late) == schedule.until_ms
    assert schedule.token_until_ms(None) == schedule.until_ms
    assert Schedule().token_until_ms(early) is None
    assert schedule.can_redeem(early + DAY_MS, early)
    assert not schedule.can_redeem(early + 3 * DAY_MS, early)


def test_a_day_is_a_calendar_day_where_the_clock_changes() -> None:
    """The day on which Berlin has 23 hours ends at its midnight."""
    schedule = Schedule(days_after_clip=0, time_zone="Europe/Berlin")
    clipped = instant_ms("2026-03-29T00:30", "Europe/Berlin")
    assert rfc3339(schedule.token_until_ms(clipped) or 0) == "2026-03-29T22:00:00Z"


def test_weekly_hours_over_the_end_of_the_week() -> None:
    hours = WeeklyHours(days=frozenset(["sun"]), from_="23:00", until="01:00")
    assert sorted(hours.spans) == [(0, 60), (10_020, 10_080)]


def test_hours_without_days_are_every_day_and_a_whole_day_is_one() -> None:
    assert len(WeeklyHours(from_="08:00", until="09:00").spans) == 7
    assert WeeklyHours(days=frozenset(["mon"])).spans == ((0, 1440),)


def test_the_minute_of_the_week_is_local() -> None:
    thursday_midnight = 3 * 1440
    assert minute_of_week(0, "UTC") == thursday_midnight
    assert minute_of_week(0, "Asia/Tokyo") == thursday_midnight + 9 * 60
    assert Schedule(weekly=(WeeklyHours(from_="09:00"),), time_zone="Asia/Tokyo").is_open_hour(0)
    assert not Schedule(weekly=(WeeklyHours(from_="09:01"),), time_zone="Asia/Tokyo").is_open_hour(
        0
    )
