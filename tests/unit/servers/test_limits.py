"""Token buckets for wrong guesses: in values, with time as an argument."""

import threading

import pytest

from sconto.base.errors import UnavailableError
from sconto.servers import problems
from sconto.servers.limits import Buckets, Guesses, source_of

NOON_MS = 1_500_000_000_000


def guesses(**changes: int) -> Guesses:
    return Guesses(
        "keys", **({"burst": 3, "every_ms": 1000, "burst_all": 5, "every_all_ms": 500} | changes)
    )


def is_refused(limit: Guesses, who: str, now_ms: int = NOON_MS, count: int = 1) -> int | None:
    """After how many seconds to come back; None: it was only counted."""
    try:
        limit.failed(who, now_ms, count)
    except UnavailableError as error:
        assert error.code == "rate_limited"
        assert problems.problem(error)["status"] == 429
        return error.retry_after_s
    return None


def test_a_bucket_gives_a_burst_and_then_one_at_a_time() -> None:
    bucket = Buckets(burst=3, every_ms=1000)
    assert [bucket.take("a", NOON_MS) for _ in range(4)] == [0, 0, 0, 1000]
    assert bucket.take("a", NOON_MS + 400) == 600
    assert bucket.take("a", NOON_MS + 1000) == 0
    assert bucket.take("a", NOON_MS + 1000) == 1000
    assert [bucket.take("a", NOON_MS + 60_000) for _ in range(4)] == [0, 0, 0, 1000]
    assert bucket.take("b", NOON_MS) == 0, "another name has a bucket of its own"


def test_nothing_is_taken_where_there_are_too_few() -> None:
    bucket = Buckets(burst=3, every_ms=1000)
    assert bucket.take("a", NOON_MS, 2) == 0
    assert bucket.take("a", NOON_MS, 2) == 1000
    assert bucket.take("a", NOON_MS, 1) == 0
    assert bucket.take("a", NOON_MS + 10**9, 4) > 0, "more than a bucket holds is never there"


def test_a_clock_that_is_set_back_closes_nothing_for_long() -> None:
    """Goal: a correction of the clock by a year is no ban of a year."""
    bucket = Buckets(burst=3, every_ms=1000)
    assert [bucket.take("a", NOON_MS + 31_536_000_000) for _ in range(3)] == [0, 0, 0]
    assert bucket.take("a", NOON_MS) == 1000
    assert bucket.take("a", NOON_MS + 3000) == 0


def test_memory_is_bounded_and_keeps_who_is_busy() -> None:
    """Goal: a million names cost as much as a hundred, and do not wash away the guesser."""
    bucket = Buckets(burst=3, every_ms=1000, names_max=100)
    for _ in range(3):
        bucket.take("busy", NOON_MS)
    for number in range(5000):
        bucket.take(f"n{number}", NOON_MS)
        if number % 50 == 0:
            assert bucket.take("busy", NOON_MS) >= 0
    assert len(bucket) == 100


def test_threads_share_a_bucket_exactly() -> None:
    bucket = Buckets(burst=1000, every_ms=1000)
    taken: list[int] = []

    def run() -> None:
        taken.append(sum(not bucket.take("a", NOON_MS) for _ in range(500)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1000


def test_one_guesser_does_not_use_up_the_guesses_of_the_others() -> None:
    limit = guesses()
    assert [is_refused(limit, "a") for _ in range(50)] == [None] * 3 + [1] * 47
    assert [is_refused(limit, "b") for _ in range(3)] == [None, None, 1]
    assert is_refused(limit, "c") == 1, "together they are too many"
    assert is_refused(limit, "c", NOON_MS + 500) is None


def test_guesses_of_one_request_count_each() -> None:
    limit = guesses(burst=100, burst_all=100)
    assert is_refused(limit, "a", count=99) is None
    assert is_refused(limit, "a", count=2) == 1
    assert is_refused(limit, "a", count=1) is None


def test_spread_over_many_sources_the_whole_is_limited() -> None:
    """Goal: ten thousand addresses guess no faster than the limit of all. Time: one minute."""
    limit = guesses(burst_all=100, every_all_ms=100)
    let = sum(
        is_refused(limit, f"source-{number}", NOON_MS + number * 6) is None
        for number in range(10_000)
    )
    assert 600 <= let <= 700


def test_it_is_told_in_the_log_but_not_each_time(caplog: pytest.LogCaptureFixture) -> None:
    limit = guesses()
    for number in range(500):
        is_refused(limit, "192.0.2.7", NOON_MS + number)
    assert [record.message for record in caplog.records] == ["guessing"]
    is_refused(limit, "192.0.2.7", NOON_MS + 31_000, count=100)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("client", "source"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (["192.0.2.7", 1], "192.0.2.7"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8::1", 1), "2001:db8::/64"),
        (("2001:db8::ffff:1", 1), "2001:db8::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (None, "unknown"),
        ((), "unknown"),
        (("/run/sconto.sock", None), "unknown"),
        (("testclient", 50000), "unknown"),
    ],
)
def test_the_source_of_a_call(client: object, source: str) -> None:
    assert source_of(client) == source
