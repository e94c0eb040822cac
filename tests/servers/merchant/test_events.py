"""What hubs tell a merchant: promotions, allotments, coupon information, in a gapless stream.

An event that can never be applied is parked with its reason and the stream goes on; a batch that is
not the hub's, or not right as a whole, is refused and nothing changes.
"""

import json
import time
from typing import Any

import pytest

from sconto.federation.events import encode_batch
from sconto.store import ledger

pytestmark = pytest.mark.anyio


async def parked(shop: Any) -> list[tuple[int, str]]:
    """Sequence and code of each parked event, as the operator sees them."""
    shown = await shop.get("/v1/exchange")
    return [(one["sequence"], one["reason"].partition(":")[0]) for one in shown["parked"]]


def left(shop: Any, promotion_id: str) -> list[tuple[int, int]]:
    with shop.store.read() as connection:
        return [tuple(part.left) for part in ledger.of_promotion(connection, promotion_id)]


async def test_a_hubs_promotion_applies_once_accepted_and_granted(
    shop: Any, hub: Any, make_terms: Any, make_cart: Any
) -> None:
    """Told, accepted, granted: each step is needed, and each leaves its trace in the outbox."""
    await hub.send(shop, hub.promotion_changed(make_terms("p")))
    shown = await shop.get("/v1/promotions/p")
    assert (shown["hub"], shown["is_accepted"], shown["status"]) == (hub.url, False, "active")
    request = {"order_id": "o-0", "cart": make_cart()}
    assert (await shop.post("/v1/redemptions", request))["evaluation"]["applied"] == []
    asked = {"hub": hub.url, "all": True}
    assert (await shop.post("/v1/acceptances", asked))["promotion_ids"] == ["p"]
    assert (await shop.post("/v1/acceptances", asked)).status == 200
    told = {"promotion_id": "p", "terms_digest": shown["terms_digest"]}
    assert shop.outbox(hub.url, "promotion.accepted") == [told]
    order = await shop.post("/v1/redemptions", {"order_id": "o-1", "cart": make_cart()})
    (refusal,) = order["evaluation"]["refused"]
    assert (refusal["code"], refusal["had"]) == ("allotment_exhausted", 0)
    await hub.send(shop, hub.granted(shop, "p", uses=4))
    order = await shop.post("/v1/redemptions", {"order_id": "o-2", "cart": make_cart()})
    assert order["discount_minor"] == 105
    await shop.post("/v1/acceptances", {"hub": hub.url, "promotion_ids": ["p"], "accept": False})
    assert [e["promotion_id"] for e in shop.outbox(hub.url, "promotion.declined")] == ["p"]
    order = await shop.post("/v1/redemptions", {"order_id": "o-3", "cart": make_cart()})
    assert order["discount_minor"] == 0
    shop.audit()


async def test_reports_carry_the_journal_and_the_receipt(
    shop: Any, hub: Any, make_terms: Any, make_cart: Any
) -> None:
    """Every entry about a hub's promotion goes to that hub in order, the merchant's own do not."""
    await hub.offer(shop, make_terms("p"), uses=100)
    own = {"terms": make_terms("own", 100), "launch": True}
    await shop.post("/v1/promotions", own)
    await shop.post("/v1/redemptions", {"order_id": "o-1", "cart": make_cart()})
    await shop.post("/v1/reservations", {"order_id": "o-2", "cart": make_cart()})
    await shop.post("/v1/reservations/o-2/redeem")
    await shop.post("/v1/reservations", {"order_id": "o-3", "cart": make_cart()})
    await shop.post("/v1/reservations/o-3/release")
    await shop.post("/v1/orders/o-1/reversals", {"reversal_id": "r"})
    reports = shop.outbox(hub.url, "journal.reported")
    kinds = [report["entry"]["kind"] for report in reports]
    assert kinds == ["redeemed", "reserved", "redeemed", "reserved", "released", "reversed"]
    assert {report["entry"]["promotion_id"] for report in reports} == {"p"}
    assert ["receipt" in report for report in reports] == [kind == "redeemed" for kind in kinds]
    assert reports[0]["entry"]["is_direct"] and not reports[2]["entry"].get("is_direct")
    shop.audit()


async def test_a_promise_needs_the_hubs_signature(
    shop: Any, hub: Any, make_hub: Any, make_terms: Any
) -> None:
    """Terms that were changed, or signed by another, are parked; the next event still counts."""
    good = hub.promotion_changed(make_terms("p"))
    changed = json.loads(json.dumps(good.data))
    changed["terms"]["benefits"][0]["basis_points"] = 9_999
    forged = make_hub().promotion_changed(make_terms("q")).data
    renamed = {**good.data, "promotion_id": "other"}
    hub.sequence = 0
    events = [
        hub.event("sconto.promotion.changed.v1", data)
        for data in (changed, forged, renamed, {**good.data, "terms": 5}, {}, good.data)
    ]
    reply = await hub.send(shop, *events)
    assert (reply.status, reply["acked"]) == (200, 6)
    assert await parked(shop) == [
        (1, "signature_invalid"),
        (2, "key_not_found"),
        (3, "invalid_input"),
        (4, "invalid_input"),
        (5, "invalid_input"),
    ]
    listed = (await shop.get("/v1/promotions"))["promotions"]
    assert [one["promotion_id"] for one in listed] == ["p"]


async def test_promotion_ids_of_others_cannot_be_taken(
    shop: Any, hub: Any, make_hub: Any, make_terms: Any, make_cart: Any
) -> None:
    """Neither the merchant's own promotion nor another hub's can be changed or granted by a hub."""
    await shop.post("/v1/promotions", {"terms": make_terms("own"), "launch": True})
    other = make_hub("https://other.example")
    other.register(shop)
    await hub.offer(shop, make_terms("p"), uses=5)
    reply = await other.send(
        shop,
        other.promotion_changed(make_terms("own", 9000, version=2)),
        other.promotion_changed(make_terms("p", 9000, version=2)),
        other.granted(shop, "p", uses=1000),
        other.granted(shop, "own", uses=1000),
        other.granted(shop, "nothing", uses=1000),
    )
    assert reply["acked"] == 5
    assert [number for number, _ in await parked(shop)] == [1, 2, 3, 4, 5]
    assert left(shop, "p") == [(5, 10**9)]
    accepted = await shop.post("/v1/acceptances", {"hub": other.url, "promotion_ids": ["p"]})
    assert accepted.problem == (404, "not_found", "promotion_ids[0]")
    order = await shop.post("/v1/redemptions", {"order_id": "o", "cart": make_cart()})
    assert sorted(one["amount_minor"] for one in order["redemptions"]) == [95, 105]


async def test_versions_of_a_promise(shop: Any, hub: Any, make_terms: Any, make_cart: Any) -> None:
    """A new version counts from then on; a changed text of an old one is parked; an old one that
    comes late does not become the current one."""
    await hub.offer(shop, make_terms("p", 1000), uses=50)
    await hub.send(
        shop,
        hub.promotion_changed(make_terms("p", 3000, version=3)),
        hub.promotion_changed(make_terms("p", 2000, version=2)),
        hub.promotion_changed(make_terms("p", 2500, version=3)),
    )
    assert [code for _, code in await parked(shop)] == ["exists_with_different_terms"]
    order = await shop.post("/v1/redemptions", {"order_id": "o-1", "cart": make_cart()})
    assert order["discount_minor"] == 315
    shown = await shop.get("/v1/promotions/p")
    assert shown.json.get("is_accepted", True), "acceptance outlives a version"
    for status, given in (("paused", 0), ("active", 315), ("ended", 0)):
        await hub.send(shop, hub.promotion_changed(make_terms("p", 3000, version=3), status))
        order = await shop.post("/v1/redemptions", {"order_id": status, "cart": make_cart()})
        assert order["discount_minor"] == given


async def test_a_grant_counts_once(shop: Any, hub: Any, make_terms: Any) -> None:
    """Repeated under a new number it is the same grant; for another incarnation it is fenced."""
    await hub.offer(shop, make_terms("p"))
    grant = hub.granted(shop, "p", uses=3)
    again = hub.event(grant.type, grant.data)
    fenced = hub.granted(shop, "p", uses=100, incarnation="0" * 26)
    strange = hub.granted(shop, "p", uses=-1)
    huge = hub.granted(shop, "p", uses=2**53 - 1)
    long = hub.granted(shop, "p", uses=1, allotment_id="x" * 27)
    reply = await hub.send(shop, grant, again, fenced, strange, huge, long)
    assert reply["acked"] == hub.sequence
    assert left(shop, "p") == [(3, 10**9)]
    assert [code for _, code in await parked(shop)] == [
        "incarnation_mismatch",
        "invalid_input",
        "invalid_input",
        "invalid_input",
    ]


async def test_running_low_asks_for_more_once(
    shop: Any, hub: Any, make_terms: Any, make_cart: Any, clock: Any
) -> None:
    """At a quarter left, and when more is needed than was asked for: one request each, until the
    hub answers or 30 s have passed; the refusal says what was needed and what was there."""
    await hub.offer(shop, make_terms("p"), uses=4)
    for number in range(6):
        order = await shop.post("/v1/redemptions", {"order_id": f"a{number}", "cart": make_cart()})
        assert order["discount_minor"] == (105 if number < 4 else 0)
    (refusal,) = order["evaluation"]["refused"]
    assert (refusal["needed"], refusal["had"], refusal["missing"]) == (1, 0, 1)
    asked = {"promotion_id": "p", "needed_uses": 1, "needed_minor": 1}
    more = {**asked, "needed_minor": 105}
    assert shop.outbox(hub.url, "allotment.requested") == [asked, more]
    clock.advance(31)
    await shop.post("/v1/redemptions", {"order_id": "b", "cart": make_cart()})
    assert shop.outbox(hub.url, "allotment.requested")[2:] == [more]
    await hub.send(shop, hub.granted(shop, "p", uses=1, amount_minor=100))
    order = await shop.post("/v1/redemptions", {"order_id": "c", "cart": make_cart()})
    (refusal,) = order["evaluation"]["refused"]
    assert (refusal["needed"], refusal["had"], refusal["unit"]) == (105, 100, "minor")
    assert len(shop.outbox(hub.url, "allotment.requested")) == 4, "it was heard: ask again"
    refused = [one["entry"] for one in shop.outbox(hub.url, "journal.reported")][4:]
    assert [one.get("reason") for one in refused] == ["allotment_exhausted"] * 4
    shop.audit()


async def test_a_batch_again_is_harmless_and_a_gap_says_where_to_go_on(
    shop: Any, hub: Any, make_terms: Any
) -> None:
    """The answer is always the last number that is stored; nothing is applied twice."""
    events = [hub.promotion_changed(make_terms(f"p{i}")) for i in range(1, 6)]
    assert (await hub.send(shop, *events[:2]))["acked"] == 2
    before = shop.rows()
    assert (await hub.send(shop, *events[:2]))["acked"] == 2
    assert (await hub.send(shop, *events[3:]))["acked"] == 2, "the third is missing"
    assert (await hub.send(shop))["acked"] == 2, "an empty batch asks how far it came"
    assert shop.rows() == before
    assert (await hub.send(shop, *events[1:]))["acked"] == 5, "an overlap applies what is new"
    assert len((await shop.get("/v1/promotions"))["promotions"]) == 5
    assert await parked(shop) == []


async def test_what_can_never_be_applied_is_parked(shop: Any, hub: Any, make_terms: Any) -> None:
    """Unknown types, broken data, a doubled id, values beyond their columns: the stream goes on."""
    good = hub.promotion_changed(make_terms("p"))
    await hub.send(
        shop,
        good,
        hub.event("sconto.unheard.of.v7", {"a": 1}),
        hub.event("sconto.frame.shown.v1", {"frame_id": 7}),
        hub.event("sconto.token.revoked.v1", {"token_id": "T" * 26}),
        hub.event("sconto.token.issued.v1", {"token_id": "T" * 200, "client": "c" * 200}),
        hub.event("sconto.allotment.refused.v1", {"promotion_id": "p"}),
        hub.event("sconto.promotion.changed.v1", good.data, id=good.id),
        hub.event("sconto.frame.shown.v1", {}, id="i" * 200),
    )
    assert await parked(shop) == [
        (2, "event_type_unknown"),
        (3, "invalid_input"),
        (4, "peer_error"),
        (5, "invalid_input"),
        (7, "duplicate"),
        (8, "invalid_input"),
    ]
    assert (await hub.send(shop, hub.promotion_changed(make_terms("q"))))["acked"] == 9


async def test_whose_events_they_are_is_proven(
    shop: Any, hub: Any, make_hub: Any, make_terms: Any
) -> None:
    """Unsigned, of another source, by another key, old, replayed, with a changed body: refused."""
    event = hub.promotion_changed(make_terms("p"))
    body = encode_batch([event])
    before = shop.rows()
    plain = await shop.post("/v1/events", content=body, key=None)
    assert plain.problem == (401, "not_authenticated", "Authorization")
    by_key = await shop.post("/v1/events", content=body)
    assert by_key.problem == (401, "signature_missing", "Signature")
    stranger = make_hub("https://stranger.example")
    unknown = await stranger.send(shop, stranger.promotion_changed(make_terms("p")))
    assert unknown.problem[:2] == (403, "peer_not_trusted")
    other = make_hub("https://other.example")
    other.register(shop)
    foreign = await other.send_bytes(shop, body)
    assert foreign.problem == (400, "source_mismatch", "[0].source")
    wrong_key = await hub.send_bytes(shop, body, key=other.key)
    assert wrong_key.problem[:2] == (401, "key_not_found")
    old = await hub.send_bytes(shop, body, created_s=int(time.time()) - 400)
    assert old.problem[:2] == (401, "signature_expired")
    headers = hub.sign(shop, "POST", "/v1/events", body, media_type="application/json")
    changed = await shop.post("/v1/events", content=body + b" ", headers=headers, key=None)
    assert changed.problem[:2] == (400, "digest_mismatch")
    elsewhere = await shop.post("/v1/evaluations", content=body, headers=headers, key=None)
    assert elsewhere.problem[:2] == (401, "signature_invalid")
    rows = shop.rows()
    assert {k: v for k, v in rows.items() if k not in ("peers", "tenants")} == {
        k: v for k, v in before.items() if k not in ("peers", "tenants")
    }
    assert (await shop.post("/v1/events", content=body, headers=headers, key=None)).status == 200
    replay = await shop.post("/v1/events", content=body, headers=headers, key=None)
    assert replay.problem == (401, "signature_replayed", "Signature")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b"[{}]",
        b"[" * 5000,
        b'[{"specversion":"0.3"}]',
        b"[" + b"{}," * 1000 + b"{}]",
        b"\xff",
        b'[{"a":1,"a":2}]',
        b"[NaN]",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_a_batch_that_is_none_is_refused(shop: Any, hub: Any, body: bytes) -> None:
    before = shop.rows()
    reply = await hub.send_bytes(shop, body)
    assert reply.problem[0] in (400, 413), reply
    assert shop.rows() == before


async def test_frames_that_were_shown_are_counted(
    shop: Any, hub: Any, make_terms: Any, clock: Any
) -> None:
    from sconto.base.canonical import ni
    from sconto.base.clock import rfc3339

    await hub.offer(shop, make_terms("p"))
    shown = {"frame_id": ni(b"frame"), "promotion_id": "p", "at": rfc3339(clock())}
    old = {**shown, "at": "0001-01-01T00:00:00Z"}
    naive = {**shown, "at": "2026-01-01T00:00:00"}
    await hub.send(
        shop, *(hub.event("sconto.frame.shown.v1", data) for data in (shown, old, naive, shown))
    )
    assert (await shop.get("/v1/statistics"))["totals"]["shown"] == 2
    assert [code for _, code in await parked(shop)] == ["invalid_input"] * 2
    shop.audit()


async def test_accepting_what_is_not_there(shop: Any, hub: Any) -> None:
    before = shop.rows()
    for hub_url, ids, problem in (
        ("https://nobody.example", ["p"], (404, "not_found", "hub")),
        (hub.url, ["p"], (404, "not_found", "promotion_ids[0]")),
        ("ftp://x", ["p"], (400, "invalid_input", "hub")),
    ):
        reply = await shop.post("/v1/acceptances", {"hub": hub_url, "promotion_ids": ids})
        assert reply.problem == problem
    assert shop.rows() == before


async def test_what_waits_is_delivered_when_the_hub_is_there(
    shop: Any, hub: Any, network: Any, make_terms: Any, make_cart: Any
) -> None:
    """The outbox is sent in one ordered stream, signed, and emptied by the acknowledgement."""
    import asyncio

    import httpx

    await hub.offer(shop, make_terms("p"), uses=100)
    await shop.post("/v1/redemptions", {"order_id": "o", "cart": make_cart()})
    assert len(shop.outbox(hub.url)) == 2
    taken: list[dict[str, Any]] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["signature-input"]
        taken.extend(json.loads(request.content))
        return httpx.Response(200, json={"acked": int(taken[-1]["sequence"])})

    network.servers[hub.url] = answer
    await hub.send(shop)  # the hub was heard from: no waiting for the end of the back-off
    for _ in range(100):
        await asyncio.sleep(0.02)
        stream = (await shop.get("/v1/exchange"))["streams"][0]
        if stream["acked"] and stream["failure"] is None:
            break
    assert [int(event["sequence"]) for event in taken] == [1, 2]
    assert [event["type"] for event in taken] == [
        "sconto.promotion.accepted.v1",
        "sconto.journal.reported.v1",
    ]
    assert shop.outbox(hub.url) == []
    assert stream == {"peer": hub.url, "sent": 2, "acked": 2, "failure": None}
