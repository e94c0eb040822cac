"""Making unique codes in the background, a little at a time, so that no checkout waits for it.

A job's n-th code is the n-th number under a permutation that only this server's secret knows
(`sconto.terms.codes`), so it can be made again: after a restart from the number where the job
stopped, and for whoever exports the codes. The datastore has only digests under another key.

The event loop makes a few codes at a time, since a thread would hold the interpreter for longer,
and one command of the writer stores a batch. While others write too, batches are small, and the
job pauses after each for as long as it took.
"""

import asyncio
import contextlib
import hmac
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from itertools import islice

from sconto.base.errors import ConflictError, InvalidInputError, UnavailableError
from sconto.store import codes
from sconto.store.codes import CodeJob
from sconto.store.writer import Store, Tx
from sconto.terms.codes import hash_code, make_codes, read_codes, write_codes

log = logging.getLogger("sconto.codes")

#: Codes that one command of the writer stores while others write too, and when it is alone.
BATCH_MIN, BATCH_MAX = 250, 4000
#: Codes to one question, or to one step of an import.
PAGE = 1000
#: Codes that are made before others have their turn: about a millisecond.
SLICE = 50
RETRY_S = 1.0
#: An import of another process that has not gone on for this long has ended with that process.
ABANDONED_S = 60.0
LOOK_AGAIN_S = 20.0


class Mint:
    """The unique codes of a merchant: made, imported, exported, looked up."""

    def __init__(self, store: Store, secret: bytes, *, makes: bool = True) -> None:
        #: Of several processes, one makes codes; imports are of whoever received the file.
        self._makes = makes
        self._store = store
        self._key = hmac.digest(secret, b"unique codes", "sha256")
        self._digest_key = hmac.digest(secret, b"digests of unique codes", "sha256")
        #: Promotion and job of the imports whose file is in memory.
        self._importing: set[tuple[str, str]] = set()
        #: Imports that another process may be at: how far they were, and since when.
        self._seen: dict[tuple[str, str], tuple[CodeJob, float]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._batch = BATCH_MIN
        self._commits = 0

    def start(self) -> None:
        if self._makes:
            self._task = asyncio.create_task(self._run(), name="unique codes")
        self._wake.set()  # a job may wait since before the last stop

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def wake(self) -> None:
        """There is a new job."""
        self._wake.set()

    def digest(self, code: str) -> bytes:
        """What the datastore has of a code, however it is spelt."""
        return hash_code(self._digest_key, code)

    # --- making -------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                if not await self._turn():
                    self._wake.clear()
                    again_s = None if self._store.process is None else LOOK_AGAIN_S
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), again_s)
            except UnavailableError as error:
                log.warning("unique codes wait; trying again", extra={"why": str(error)})
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("a job of unique codes failed; trying again")
                await asyncio.sleep(RETRY_S)

    async def _turn(self) -> bool:
        """One batch of each job; False when there is nothing to do."""
        with self._store.read() as connection:
            waiting = codes.unfinished(connection)
        mine = [job for job in waiting if job.kind == "made" or self._is_abandoned(job)]
        for job in mine:
            if job.kind == "made":
                await self._make(job)
            else:
                await self._undo(job)
        return bool(mine)

    def _is_abandoned(self, job: CodeJob) -> bool:
        """Whether nobody is importing any more: another process would have gone on by now."""
        name = (job.promotion_id, job.job_id)
        if name in self._importing:
            return False
        if self._store.process is None or job.state == "undone":
            return True
        now_s = asyncio.get_running_loop().time()
        before, since_s = self._seen.get(name, (None, now_s))
        if before != job:
            self._seen[name] = (job, now_s)
        elif since_s + ABANDONED_S <= now_s:
            del self._seen[name]
            return True
        return False

    async def _make(self, job: CodeJob) -> None:
        hashes: list[bytes] = []
        count = min(self._batch, job.wanted - job.done)
        for number, code in enumerate(self._codes(job, job.next_number, count), 1):
            hashes.append(self.digest(code))
            if number % SLICE == 0:
                await asyncio.sleep(0)
        await self._step(job, hashes)

    async def _step(self, job: CodeJob, hashes: list[bytes]) -> CodeJob | None:
        clock = asyncio.get_running_loop().time
        is_alone = self._store.commits == self._commits
        started = clock()
        after: CodeJob | None = await self._store.write(
            partial(codes.step, before=job, hashes=hashes)
        )
        took_s = clock() - started
        self._commits = self._store.commits
        if is_alone and not self._store.waiting:
            self._batch = min(2 * self._batch, BATCH_MAX)
        else:
            self._batch = BATCH_MIN
            await asyncio.sleep(took_s)
        return after

    def _codes(self, job: CodeJob, first: int, count: int) -> Iterator[str]:
        name = f"{job.promotion_id}\n{job.job_id}"
        return make_codes(self._key, name, first, count, prefix=job.prefix)

    # --- export -------------------------------------------------------------------------------

    async def export(self, job: CodeJob) -> AsyncGenerator[bytes]:
        """The codes of a job, as far as it has come, as CSV."""
        rows = write_codes(self._of(job))
        while part := "".join(islice(rows, SLICE)):
            yield part.encode()
            await asyncio.sleep(0)

    def _of(self, job: CodeJob) -> Iterator[str]:
        for first in range(0, job.next_number, PAGE):
            page = list(self._codes(job, first, min(PAGE, job.next_number - first)))
            if job.done < job.next_number:  # some numbers were passed over
                owners = self._owners([self.digest(code) for code in page])
                page = [code for code in page if owners.get(self.digest(code)) == job.number]
            yield from page

    # --- import -------------------------------------------------------------------------------

    async def read_file(self, body: bytes) -> dict[bytes, int]:
        """Digest and row of each code of a CSV file; InvalidInputError names the wrong row.

        Raises ConflictError (`code_exists`) for a code that is here already.
        """
        rows: dict[bytes, int] = {}
        for turn, (number, _, found) in enumerate(read_codes(_text(body), self._digest_key), 1):
            rows[found] = number
            if turn % SLICE == 0:
                await asyncio.sleep(0)
        if not rows:
            raise InvalidInputError("the file has no codes", field="rows")
        for page in _pages(list(rows)):
            self._refuse_known(page, rows)
            await asyncio.sleep(0)
        return rows

    async def fill(
        self,
        promotion_id: str,
        job_id: str,
        begin: Callable[[Tx], CodeJob],
        rows: dict[bytes, int],
    ) -> CodeJob:
        """Run the command that begins an import, and store its codes: all of them, or none.

        Raises ConflictError (`code_exists`) when one of them came in by another way meanwhile, and
        what the writer raises; then all are taken out again.
        """
        name = (promotion_id, job_id)
        if name in self._importing:
            raise in_progress()
        self._importing.add(name)
        try:
            job: CodeJob = await self._store.write(begin)
            if job.state == "finished":
                return job  # the same request was made before
            for page in _pages(list(rows)):
                after = await self._step(job, page)
                if after is None:  # the same file is being imported by another process
                    raise in_progress()
                job = after
                if job.done < job.next_number:
                    self._refuse_known(page, rows, but=job.number)
                    raise UnavailableError(
                        "one of the codes was being imported elsewhere; nothing was imported"
                    )
            return job
        finally:
            self._importing.discard(name)
            self._wake.set()

    def _refuse_known(
        self, page: list[bytes], rows: dict[bytes, int], but: int | None = None
    ) -> None:
        owners = self._owners(page)
        for found in page:
            if owners.get(found, but) != but:
                raise ConflictError(
                    f"the code in row {rows[found]} exists already",
                    code="code_exists",
                    field=f"row[{rows[found]}].code",
                    remedy="take it out of the file; nothing was imported",
                )

    def _owners(self, hashes: list[bytes]) -> dict[bytes, int]:
        with self._store.read() as connection:
            return codes.owners(connection, hashes)

    async def _undo(self, job: CodeJob) -> None:
        """Take out what there is of an import that did not come to its end."""
        if job.state != "undone":
            await self._store.write(partial(codes.undo, before=job))
        after = b""
        while True:
            with self._store.read() as connection:
                page = codes.hashes_of(connection, job.number, after, PAGE)
            if not page:
                break
            after = page[-1]
            await self._store.write(partial(codes.remove, number=job.number, hashes=page))
        await self._store.write(partial(codes.forget, before=job))


def in_progress() -> ConflictError:
    return ConflictError(
        "this import is going on, or being taken out again",
        code="in_progress",
        field="job_id",
        remedy="wait, and look at the job",
    )


def _pages(hashes: list[bytes]) -> Iterator[list[bytes]]:
    for first in range(0, len(hashes), PAGE):
        yield hashes[first : first + PAGE]


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        number = body.count(b"\n", 0, error.start) + 1
        raise InvalidInputError(
            f"row {number} is not UTF-8", field=f"row[{number}]", remedy="save the file as UTF-8"
        ) from None
