"""Unique codes of a merchant's own promotions: make them by the million, import, export, watch.

Each code is worth one token: it is used once, and promises the version of the terms that was in
force when its job began. What makes them is in `minting.py`.
"""

import hashlib
from typing import TYPE_CHECKING, Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from sconto.base.canonical import b64url, canonical
from sconto.base.clock import rfc3339
from sconto.base.documents import Document, from_builtins
from sconto.base.errors import ConflictError, NotFoundError
from sconto.servers.endpoint import Answer, Call, Stream, encode_answer, endpoint
from sconto.servers.merchant.minting import in_progress
from sconto.servers.promotions import own, promised_here
from sconto.store import codes
from sconto.store.codes import CodeJob
from sconto.store.writer import Tx
from sconto.terms import decode_terms
from sconto.terms.codes import IMPORT_ROWS_MAX
from sconto.terms.model import UniqueCodes

if TYPE_CHECKING:
    from sconto.servers.merchant import Merchant

CSV = "text/csv"
#: A million codes of 30 characters.
IMPORT_BYTES_MAX = 32 << 20
_JOBS = "/v1/promotions/{promotion_id:str}/code-jobs"

JobIdText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:@~-]{1,100}$(?!\n)")]


class NewCodeJob(Document):
    """How many unique codes to make, under an id that the caller has made."""

    job_id: JobIdText
    count: Annotated[int, Meta(ge=1, le=IMPORT_ROWS_MAX)]
    #: Stands before every code; no part of its secrecy.
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{0,32}$(?!\n)")] = ""


class _ImportQuery(Document):
    job_id: JobIdText


class CodeJobDocument(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Unique codes that were made or imported in one go."""

    promotion_id: str
    job_id: str
    #: made or imported
    kind: str
    #: running, finished, or undone
    state: str
    count: int
    #: How many of them are there already.
    done: int
    #: How many of them were used, or are reserved.
    used: int
    #: The version of the terms that they promise.
    terms_digest: str
    created_at: str
    prefix: str = ""
    finished_at: str | None = None


class CodeJobs(msgspec.Struct, kw_only=True):
    """The jobs of a promotion, oldest first."""

    code_jobs: tuple[CodeJobDocument, ...]


_EXAMPLE = CodeJobDocument(
    promotion_id="oaty-10",
    job_id="leaflet-2026",
    kind="made",
    state="running",
    count=1_000_000,
    done=250_000,
    used=0,
    terms_digest="sha-256=:…:",
    created_at="2026-11-24T11:30:00Z",
    prefix="OATY-",
)


@endpoint(
    "POST",
    _JOBS,
    scope="promotions:write",
    summary="Make unique codes of a promotion, in the background",
    accepts=NewCodeJob,
    accepts_example={"job_id": "leaflet-2026", "count": 1_000_000, "prefix": "OATY-"},
    returns=CodeJobDocument,
    status=202,
    example=_EXAMPLE,
)
async def add_code_job(server: "Merchant", call: Call) -> Answer:
    """202 while it runs, 201 once it is done; the same request again says how far it has come."""
    new: NewCodeJob = call.document
    content = hashlib.sha256(canonical([new.count, new.prefix])).digest()

    def command(tx: Tx) -> CodeJobDocument:
        terms_digest = _of_codes(call, tx.connection)
        known = _known(tx.connection, call.params["promotion_id"], new.job_id, "made", content)
        job = known or codes.start(
            tx,
            promotion_id=call.params["promotion_id"],
            job_id=new.job_id,
            kind="made",
            terms_digest=terms_digest,
            prefix=new.prefix,
            wanted=new.count,
            content_hash=content,
        )
        tx.announce("codes", new.job_id)
        return _document(tx.connection, job)

    document = await server.base.store.write(command)
    server.mint.wake()
    return encode_answer(call.endpoint, document)._replace(status=_status(document))


@endpoint(
    "GET",
    _JOBS,
    scope="promotions:read",
    summary="The jobs that made or imported unique codes of a promotion",
    returns=CodeJobs,
    example=CodeJobs(code_jobs=(_EXAMPLE,)),
)
async def list_code_jobs(server: "Merchant", call: Call) -> CodeJobs:
    with server.base.store.read() as connection:
        promotion = own(call, connection)
        found = codes.jobs(connection, promotion.promotion_id)
        return CodeJobs(code_jobs=tuple(_document(connection, job) for job in found))


@endpoint(
    "GET",
    _JOBS + "/{job_id:str}",
    scope="promotions:read",
    summary="How far a job has come, and how many of its codes were used",
    returns=CodeJobDocument,
    example=_EXAMPLE,
)
async def show_code_job(server: "Merchant", call: Call) -> CodeJobDocument:
    with server.base.store.read() as connection:
        return _document(connection, _job(call, connection))


@endpoint(
    "GET",
    _JOBS + "/{job_id:str}/codes.csv",
    scope="promotions:write",
    summary="The codes of a job as CSV, made again from this server's secret",
    media_type=CSV,
    returns=str,
    example="code\r\nOATY-R1DQ-6ANW-WV3Q-RBS3\r\n",
)
async def export_codes(server: "Merchant", call: Call) -> Stream:
    """They are not stored. Codes that were imported are known to this server as digests only."""
    with server.base.store.read() as connection:
        job = _job(call, connection)
    if job.kind == "imported":
        raise ConflictError(
            "imported codes are kept as digests only",
            code="codes_not_kept",
            field="job_id",
            remedy="keep the file that they came from",
        )
    headers = (("content-disposition", f'attachment; filename="{job.job_id}.csv"'),)
    return Stream(server.mint.export(job), f"{CSV}; charset=utf-8", headers)


@endpoint(
    "POST",
    "/v1/promotions/{promotion_id:str}/codes/import",
    scope="promotions:write",
    summary="Import unique codes from a CSV file with a column `code`",
    accepts_type=CSV,
    returns=CodeJobDocument,
    status=201,
    max_bytes=IMPORT_BYTES_MAX,
    query={"job_id": "your id of this import; made from the file if absent"},
    example=_EXAMPLE,
)
async def import_codes(server: "Merchant", call: Call) -> CodeJobDocument:
    """All of the file or nothing: what is wrong in it is named by its row."""
    call.require_media_type(CSV)
    content = call.body_hash()
    named = {"job_id": call.query.get("job_id", b64url(content))}
    job_id = from_builtins(named, _ImportQuery, what="query").job_id
    promotion_id = call.params["promotion_id"]
    store = server.base.store
    with store.read() as connection:
        _of_codes(call, connection)
        known = _known(connection, promotion_id, job_id, "imported", content)
        if known is not None:
            return _document(connection, known)
    rows = await server.mint.read_file(call.body)

    def begin(tx: Tx) -> CodeJob:
        terms_digest = _of_codes(call, tx.connection)
        known = _known(tx.connection, promotion_id, job_id, "imported", content)
        return known or codes.start(
            tx,
            promotion_id=promotion_id,
            job_id=job_id,
            kind="imported",
            terms_digest=terms_digest,
            prefix="",
            wanted=len(rows),
            content_hash=content,
        )

    job = await server.mint.fill(promotion_id, job_id, begin, rows)
    with store.read() as connection:
        return _document(connection, job)


ENDPOINTS = (add_code_job, list_code_jobs, show_code_job, export_codes, import_codes)


def _of_codes(call: Call, connection: sa.Connection) -> str:
    """The terms in force of the caller's promotion, which must be for unique codes."""
    promotion = promised_here(call, connection)
    if not isinstance(decode_terms(promotion.document).access, UniqueCodes):
        raise ConflictError(
            f"{promotion.promotion_id} is not for unique codes",
            code="access_not_codes",
            field="promotion_id",
            remedy='publish terms with the access {"type": "unique_codes"}',
        )
    return promotion.terms_digest


def _known(
    connection: sa.Connection, promotion_id: str, job_id: str, kind: str, content: bytes
) -> CodeJob | None:
    """The job of the same request, if it was made before."""
    job = codes.job(connection, promotion_id, job_id)
    if job is None:
        return None
    if (job.kind, job.content_hash) != (kind, content):
        raise ConflictError(
            "this job was made with other content",
            code="exists_with_different_content",
            field="job_id",
            remedy="use a new job id",
        )
    if kind == "imported" and job.state != "finished":
        raise in_progress()
    return job


def _job(call: Call, connection: sa.Connection) -> CodeJob:
    promotion = own(call, connection)
    job = codes.job(connection, promotion.promotion_id, call.params["job_id"])
    if job is None:
        raise NotFoundError(f"there is no job {call.params['job_id'][:100]}", field="job_id")
    return job


def _status(document: CodeJobDocument) -> int:
    return 202 if document.state == "running" else 201


def _document(connection: sa.Connection, job: CodeJob) -> CodeJobDocument:
    return CodeJobDocument(
        promotion_id=job.promotion_id,
        job_id=job.job_id,
        kind=job.kind,
        state=job.state,
        count=job.wanted,
        done=job.done,
        used=codes.used(connection, job.number),
        terms_digest=job.terms_digest,
        created_at=rfc3339(job.created_at_ms),
        prefix=job.prefix,
        finished_at=None if job.finished_at_ms is None else rfc3339(job.finished_at_ms),
    )
