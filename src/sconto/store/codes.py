"""Unique codes at a merchant, kept as keyed digests, each for one use; the jobs they come from.

A job goes on in steps, each a command of the writer that stores some codes and how far it has come,
in one transaction: so it stops and starts anywhere and loses or doubles nothing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from sconto.base.canonical import b64url
from sconto.base.errors import invariant
from sconto.store.prepared import Prepared
from sconto.store.schema import code_jobs, codes
from sconto.store.writer import Tx


class CodeJob(NamedTuple):
    """Unique codes of a promotion that are made, or were imported, in one go."""

    promotion_id: str
    job_id: str
    number: int
    #: made or imported
    kind: str
    #: running, finished, or undone: an import whose codes are taken out again
    state: str
    terms_digest: str
    prefix: str
    wanted: int
    done: int
    next_number: int
    content_hash: bytes
    created_at_ms: int
    finished_at_ms: int | None


class UniqueCode(NamedTuple):
    """A code that the store knows: what it stands for, and whether it is unused."""

    code_hash: bytes
    promotion_id: str
    terms_digest: str
    uses_left: int

    @property
    def token_id(self) -> str:
        """The id of the one token that it is worth, in redemptions and in the journal."""
        return f"c_{b64url(self.code_hash)}"


_JOB = [code_jobs.c[name] for name in CodeJob._fields]
#: Codes of an import count once all of it is in.
_IS_GOOD = sa.or_(code_jobs.c.kind == "made", code_jobs.c.state == "finished")
_UNFINISHED = Prepared(
    sa.select(*_JOB).where(code_jobs.c.state != "finished").order_by(code_jobs.c.number)
)
_FIND = Prepared(
    sa.select(
        codes.c.code_hash, code_jobs.c.promotion_id, code_jobs.c.terms_digest, codes.c.uses_left
    )
    .join(code_jobs, code_jobs.c.number == codes.c.job)
    .where(codes.c.code_hash == sa.bindparam("code_hash"), _IS_GOOD)
)
_CHANGE_USES = Prepared(
    sa.update(codes)
    .where(
        codes.c.code_hash == sa.bindparam("hash_now"), codes.c.uses_left == sa.bindparam("left_now")
    )
    .values(uses_left=sa.bindparam("left_then"))
)
_INSERT_ROWS = Prepared(
    lambda insert: (
        insert(codes)
        .inline()
        .values(
            code_hash=sa.bindparam("code_hash"), job=sa.bindparam("job"), uses_left=sa.text("1")
        )
        .on_conflict_do_nothing()
    )
)
#: PostgreSQL takes an array in a tenth of the time of as many rows.
_INSERT_ARRAY = Prepared(
    postgresql.insert(codes)
    .from_select(
        ["code_hash", "job", "uses_left"],
        sa.select(
            sa.func.unnest(sa.bindparam("hashes", type_=postgresql.ARRAY(sa.LargeBinary))),
            sa.bindparam("job", type_=sa.Integer),
            sa.literal_column("1"),
        ),
    )
    .on_conflict_do_nothing()
)


# --- a code at the checkout -------------------------------------------------------------------


def find(connection: sa.Connection, code_hash: bytes) -> UniqueCode | None:
    """What a typed code stands for, used or not; None where it is not known."""
    row = _FIND.first(connection, code_hash=code_hash)
    return None if row is None else UniqueCode(*row)


def take_use(tx: Tx, code_hash: bytes) -> None:
    """Use a code up, which was shown to be unused in this transaction."""
    taken = _CHANGE_USES.run(tx.changing_apart(), hash_now=code_hash, left_now=1, left_then=0)
    invariant(taken == 1, "a code has the use that it showed in the same transaction")


def give_use_back(tx: Tx, code_hash: bytes) -> None:
    """A reservation ended, or the whole redemption was reversed: the code can be used again."""
    _CHANGE_USES.run(tx.changing_apart(), hash_now=code_hash, left_now=0, left_then=1)


# --- jobs -------------------------------------------------------------------------------------


def job(connection: sa.Connection, promotion_id: str, job_id: str) -> CodeJob | None:
    """One job."""
    row = connection.execute(
        sa.select(*_JOB).where(
            code_jobs.c.promotion_id == promotion_id, code_jobs.c.job_id == job_id
        )
    ).first()
    return None if row is None else CodeJob(*row)


def jobs(connection: sa.Connection, promotion_id: str) -> list[CodeJob]:
    """The jobs of a promotion, oldest first."""
    rows = connection.execute(
        sa.select(*_JOB)
        .where(code_jobs.c.promotion_id == promotion_id)
        .order_by(code_jobs.c.number)
    )
    return [CodeJob(*row) for row in rows]


def unfinished(connection: sa.Connection) -> list[CodeJob]:
    """The jobs of all promotions that have something left to do, oldest first."""
    return [CodeJob(*row) for row in _UNFINISHED.rows(connection)]


def used(connection: sa.Connection, number: int) -> int:
    """How many codes of a job are used up or reserved."""
    query = (
        sa.select(sa.func.count())
        .select_from(codes)
        .where(codes.c.job == number, codes.c.uses_left == 0)
    )
    return int(connection.execute(query).scalar_one())


def start(
    tx: Tx,
    *,
    promotion_id: str,
    job_id: str,
    kind: str,
    terms_digest: str,
    prefix: str,
    wanted: int,
    content_hash: bytes,
) -> CodeJob:
    """A new job, with nothing done yet."""
    highest = tx.read(sa.select(sa.func.max(code_jobs.c.number))).scalar()
    made = CodeJob(
        promotion_id=promotion_id,
        job_id=job_id,
        number=(highest or 0) + 1,
        kind=kind,
        state="running",
        terms_digest=terms_digest,
        prefix=prefix,
        wanted=wanted,
        done=0,
        next_number=0,
        content_hash=content_hash,
        created_at_ms=tx.now_ms,
        finished_at_ms=None,
    )
    tx.write(sa.insert(code_jobs).values(made._asdict()))
    return made


def step(tx: Tx, before: CodeJob, hashes: Sequence[bytes]) -> CodeJob | None:
    """Store the next codes of a job; those that exist already are passed over, not counted.

    None, and nothing is stored, when the job is not where `before` says.
    """
    now = job(tx.connection, before.promotion_id, before.job_id)
    if now != before or before.state != "running":
        return None
    added = _insert(tx, before.number, hashes)
    done = before.done + added
    is_finished = done == before.wanted
    after = before._replace(
        done=done,
        next_number=before.next_number + len(hashes),
        state="finished" if is_finished else "running",
        finished_at_ms=tx.now_ms if is_finished else None,
    )
    _keep(tx, after)
    return after


def undo(tx: Tx, before: CodeJob) -> CodeJob:
    """Give an import up; its codes never counted, and are removed next."""
    after = before._replace(state="undone")
    _keep(tx, after)
    return after


def forget(tx: Tx, before: CodeJob) -> None:
    """Drop an undone job, once none of its codes is left."""
    tx.write(sa.delete(code_jobs).where(code_jobs.c.number == before.number))


def hashes_of(
    connection: sa.Connection, number: int, after: bytes = b"", limit: int = 1000
) -> list[bytes]:
    """Digests of the codes of a job, a page at a time."""
    query = (
        sa.select(codes.c.code_hash)
        .where(codes.c.job == number, codes.c.code_hash > after)
        .order_by(codes.c.code_hash)
        .limit(limit)
    )
    return [bytes(one) for one in connection.execute(query).scalars()]


def owners(connection: sa.Connection, hashes: Iterable[bytes]) -> dict[bytes, int]:
    """Of some digests those that are stored, with the number of their job."""
    query = sa.select(codes.c.code_hash, codes.c.job).where(codes.c.code_hash.in_(list(hashes)))
    return {bytes(code_hash): number for code_hash, number in connection.execute(query)}


def remove(tx: Tx, number: int, hashes: Sequence[bytes]) -> None:
    """Take codes of an undone job out."""
    tx.write(sa.delete(codes).where(codes.c.code_hash.in_(list(hashes)), codes.c.job == number))


def _keep(tx: Tx, after: CodeJob) -> None:
    tx.write(
        sa.update(code_jobs)
        .where(code_jobs.c.number == after.number)
        .values(
            state=after.state,
            done=after.done,
            next_number=after.next_number,
            finished_at_ms=after.finished_at_ms,
        )
    )


def _insert(tx: Tx, number: int, hashes: Sequence[bytes]) -> int:
    """Insert what is not there yet, and give how many that were."""
    connection = tx.changing_apart()
    if connection.dialect.name == "sqlite":
        rows = [{"code_hash": one, "job": number} for one in hashes]
        return _INSERT_ROWS.run_many(connection, rows)
    return _INSERT_ARRAY.run(connection, hashes=list(hashes), job=number)
