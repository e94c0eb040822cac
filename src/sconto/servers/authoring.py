"""Endpoints for whoever writes terms: what looks wrong in them, and what they say in plain words.

Both change nothing. The command line does the same on files: `sconto promotions lint|sentence`.
"""

from typing import Any

import msgspec

from sconto.base.documents import Document
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.promotions import EXAMPLE_TERMS, own
from sconto.store import promotions as store
from sconto.terms import (
    TERMS_BYTES_MAX,
    Finding,
    Terms,
    decode_terms,
    lint,
    sentence,
    terms_digest,
)
from sconto.terms.phrases import CATALOGUES

#: So many of the tenant's promotions in force are looked at beside the new one.
OTHERS_MAX = 1000


class TermsToLint(Document):
    """Terms that are not published yet."""

    terms: Terms


class LintReply(msgspec.Struct, kw_only=True):
    """What to look at again; empty when nothing strikes."""

    promotion_id: str
    terms_digest: str
    sentence: str
    findings: tuple[Finding, ...]


class SentenceReply(msgspec.Struct, kw_only=True):
    """What a promotion's terms in force promise."""

    promotion_id: str
    terms_digest: str
    #: English where there is no catalogue for the language that was asked for.
    language: str
    sentence: str


@endpoint(
    "POST",
    "/v1/lint",
    scope="promotions:write",
    summary="What to look at again in terms before they are published",
    accepts=TermsToLint,
    accepts_example={"terms": EXAMPLE_TERMS},
    returns=LintReply,
    max_bytes=TERMS_BYTES_MAX + 4096,
)
async def lint_terms(server: Any, call: Call) -> LintReply:
    """Beside the caller's promotions in force; nothing is kept, nothing is refused."""
    terms: Terms = call.document.terms
    with server.base.store.read() as connection:
        rows = store.page(
            connection, limit=OTHERS_MAX, tenant_id=call.principal.tenant_id, status="active"
        )
    others = [decode_terms(row.document) for row in rows]
    return LintReply(
        promotion_id=terms.promotion_id,
        terms_digest=terms_digest(terms),
        sentence=sentence(terms),
        findings=tuple(lint(terms, others)),
    )


@endpoint(
    "GET",
    "/v1/promotions/{promotion_id:str}/sentence",
    scope="promotions:read",
    summary="What a promotion promises, in one plain sentence",
    returns=SentenceReply,
    query={"lang": f"one of {', '.join(sorted(CATALOGUES))}; en if absent"},
)
async def show_sentence(server: Any, call: Call) -> SentenceReply:
    with server.base.store.read() as connection:
        promotion = own(call, connection)
    asked = call.query.get("lang", "en").partition("-")[0].lower()
    language = asked if asked in CATALOGUES else "en"
    return SentenceReply(
        promotion_id=promotion.promotion_id,
        terms_digest=promotion.terms_digest,
        language=language,
        sentence=sentence(decode_terms(promotion.document), language),
    )


ENDPOINTS = (lint_terms, show_sentence)
