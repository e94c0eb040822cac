"""Unique codes and their jobs, on both databases: exact steps, one use each."""

import hashlib

import pytest

from sconto.base.errors import InvariantError
from sconto.store import Store, codes, promotions
from sconto.store.access import add_tenant
from sconto.store.codes import CodeJob
from sconto.store.writer import Tx


def digest_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def batch(first: int, count: int) -> list[bytes]:
    return [digest_of(number) for number in range(first, first + count)]


def start(store: Store, job_id: str = "j", *, kind: str = "made", count: int = 3000) -> CodeJob:
    def command(tx: Tx) -> CodeJob:
        add_tenant(tx, "shop", "merchant", "Shop")
        version = promotions.Version("p", 1, "sha-256=:x:", b"{}", "signature")
        promotions.save(tx, version, tenant_id="shop", hub=None, status="active", is_accepted=True)
        return codes.start(
            tx,
            promotion_id="p",
            job_id=job_id,
            kind=kind,
            terms_digest="sha-256=:x:",
            prefix="",
            wanted=count,
            content_hash=b"h",
        )

    made: CodeJob = store.write_now(command)
    return made


def step(store: Store, job: CodeJob, hashes: list[bytes]) -> CodeJob | None:
    after: CodeJob | None = store.write_now(lambda tx: codes.step(tx, job, hashes))
    return after


def test_a_job_goes_step_by_step_and_finishes(store: Store) -> None:
    job = start(store)
    half = step(store, job, batch(0, 1500))
    assert half is not None
    assert (half.done, half.next_number, half.state) == (1500, 1500, "running")
    with store.read() as connection:
        assert codes.unfinished(connection) == [half]
        assert codes.job(connection, "p", "j") == half
    whole = step(store, half, batch(1500, 1500))
    assert whole is not None
    assert (whole.done, whole.state, whole.finished_at_ms) == (3000, "finished", store.clock())
    with store.read() as connection:
        assert codes.unfinished(connection) == []
        assert codes.jobs(connection, "p") == [whole]
        found = codes.find(connection, digest_of(7))
        assert found == codes.UniqueCode(digest_of(7), "p", "sha-256=:x:", 1)
        assert codes.find(connection, digest_of(3000)) is None
        assert codes.used(connection, whole.number) == 0


def test_a_step_from_somewhere_else_changes_nothing(store: Store) -> None:
    """Goal: a step that was repeated, or is late, is not made twice."""
    job = start(store)
    assert step(store, job, batch(0, 10)) is not None
    assert step(store, job, batch(0, 10)) is None
    with store.read() as connection:
        (now,) = codes.jobs(connection, "p")
        assert (now.done, len(codes.hashes_of(connection, now.number))) == (10, 10)


def test_a_code_that_exists_is_passed_over(store: Store) -> None:
    """A collision costs one number, never the job; whose the code is does not change."""
    other = start(store, "other", count=2)
    assert step(store, other, batch(5, 2)) is not None
    job = start(store, count=10)
    first = step(store, job, batch(0, 10))
    assert first is not None
    assert (first.done, first.next_number, first.state) == (8, 10, "running")
    last = step(store, first, batch(10, 2))
    assert last is not None
    assert (last.done, last.next_number, last.state) == (10, 12, "finished")
    with store.read() as connection:
        owners = codes.owners(connection, batch(0, 12))
    assert [owners[digest_of(n)] for n in (4, 5, 6, 7)] == [2, 1, 1, 2]


def test_a_code_is_used_once_and_revives(store: Store) -> None:
    job = start(store, count=1)
    step(store, job, batch(0, 1))
    store.write_now(lambda tx: codes.take_use(tx, digest_of(0)))
    with store.read() as connection:
        found = codes.find(connection, digest_of(0))
        assert found is not None
        assert (found.uses_left, codes.used(connection, job.number)) == (0, 1)
    with pytest.raises(InvariantError):
        store.write_now(lambda tx: codes.take_use(tx, digest_of(0)))
    for _ in range(2):
        store.write_now(lambda tx: codes.give_use_back(tx, digest_of(0)))
    with store.read() as connection:
        assert codes.used(connection, job.number) == 0
    store.write_now(lambda tx: codes.take_use(tx, digest_of(0)))


def test_codes_of_an_import_count_once_it_is_complete(store: Store) -> None:
    job = start(store, kind="imported", count=3)
    half = step(store, job, batch(0, 2))
    assert half is not None
    with store.read() as connection:
        assert codes.find(connection, digest_of(0)) is None
    step(store, half, batch(2, 1))
    with store.read() as connection:
        assert codes.find(connection, digest_of(0)) is not None


def test_an_undone_import_is_taken_out_in_pages(store: Store) -> None:
    other = start(store, "other", count=5)
    step(store, other, batch(100, 5))
    job = start(store, kind="imported", count=50)
    half = step(store, job, batch(0, 30))
    assert half is not None
    undone = store.write_now(lambda tx: codes.undo(tx, half))
    assert step(store, undone, batch(30, 20)) is None
    after, seen = b"", 0
    while True:
        with store.read() as connection:
            page = codes.hashes_of(connection, job.number, after, limit=7)
        if not page:
            break
        seen += len(page)
        after = page[-1]
        store.write_now(lambda tx, page=page: codes.remove(tx, job.number, [*page, digest_of(100)]))
    store.write_now(lambda tx: codes.forget(tx, undone))
    assert seen == 30
    with store.read() as connection:
        assert [one.job_id for one in codes.jobs(connection, "p")] == ["other"]
        assert len(codes.hashes_of(connection, other.number)) == 5
