"""Unique codes: made by a job that survives restarts, imported whole or not at all, used once."""

import asyncio
import csv
import io
import secrets
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sconto.servers.config import load_home
from sconto.servers.merchant import Merchant, minting
from sconto.servers.merchant.reservations import expire_overdue
from sconto.store import schema
from sconto.terms.codes import normalise_code

pytestmark = pytest.mark.anyio

#: 10 % off two of 5.25.
OFF = 105
JOBS = "/v1/promotions/p/code-jobs"
IMPORT = "/v1/promotions/p/codes/import"


@pytest.fixture
async def coded(shop: Any, make_terms: Any) -> Any:
    """A shop with a promotion for unique codes."""
    terms = make_terms("p", access={"type": "unique_codes"}, limits=[{"uses": 1000}])
    assert (await shop.post("/v1/promotions", {"terms": terms, "launch": True})).status == 201
    return shop


async def finished(shop: Any, job_id: str) -> Any:
    for _ in range(1000):
        reply = await shop.get(f"{JOBS}/{job_id}")
        assert reply.status == 200, reply
        if reply["state"] == "finished":
            return reply
        await asyncio.sleep(0.01)
    raise AssertionError(reply)


async def make(shop: Any, count: int, job_id: str = "j", **more: Any) -> list[str]:
    """Codes of a new job."""
    reply = await shop.post(JOBS, {"job_id": job_id, "count": count, **more})
    assert reply.status in (201, 202), reply
    await finished(shop, job_id)
    return await export(shop, job_id)


async def export(shop: Any, job_id: str = "j") -> list[str]:
    reply = await shop.get(f"{JOBS}/{job_id}/codes.csv")
    assert (reply.status, reply.media_type) == (200, "text/csv; charset=utf-8"), reply
    rows = list(csv.reader(io.StringIO(reply.content.decode())))
    assert rows[0] == ["code"]
    return [row[0] for row in rows[1:]]


async def send_csv(shop: Any, text: str | bytes, query: str = "", **options: Any) -> Any:
    content = text.encode() if isinstance(text, str) else text
    headers = {"Content-Type": "text/csv"}
    return await shop.post(IMPORT + query, content=content, headers=headers, **options)


def everything(shop: Any) -> bytes:
    """Every value in the datastore that is text or bytes."""
    parts = []
    with shop.store.read() as connection:
        for table in schema.metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                parts += [v if isinstance(v, bytes) else str(v).encode() for v in row]
    return b"\0".join(parts)


# --- making ---------------------------------------------------------------------------------------


async def test_a_job_makes_codes_that_can_be_exported_again_and_are_not_stored(coded: Any) -> None:
    reply = await coded.post(JOBS, {"job_id": "j", "count": 2500, "prefix": "OATY-"})
    assert (reply.status, reply["state"], reply["count"]) == (202, "running", 2500)
    done = await finished(coded, "j")
    assert (done["done"], done["used"], done["kind"], done["prefix"]) == (2500, 0, "made", "OATY-")
    made = await export(coded)
    assert len({normalise_code(code) for code in made}) == 2500
    assert all(code.startswith("OATY-") and len(code) == 5 + 19 for code in made)
    assert await export(coded) == made
    stored = everything(coded).lower()
    for code in made[:50]:
        assert code.lower().encode() not in stored
        assert normalise_code(code).encode() not in stored
    again = await coded.post(JOBS, {"job_id": "j", "count": 2500, "prefix": "OATY-"})
    assert (again.status, again["done"]) == (201, 2500)
    other = await coded.post(JOBS, {"job_id": "j", "count": 2501, "prefix": "OATY-"})
    assert other.problem == (409, "exists_with_different_content", "job_id")
    listed = (await coded.get(JOBS))["code_jobs"]
    assert [(one["job_id"], one["done"]) for one in listed] == [("j", 2500)]


async def test_the_export_can_be_asked_for_without_its_body(coded: Any) -> None:
    await make(coded, 3)
    reply = await coded.call("HEAD", f"{JOBS}/j/codes.csv")
    assert (reply.status, reply.content) == (200, b"")
    assert reply.headers["content-disposition"] == 'attachment; filename="j.csv"'
    assert reply.headers["cache-control"] == "no-store"


async def test_two_jobs_have_different_codes(coded: Any) -> None:
    assert set(await make(coded, 300, "a")).isdisjoint(await make(coded, 300, "b"))


async def test_a_job_goes_on_after_a_restart_exactly_where_it_was(
    coded: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pain 58, solidus #1524: Goal: nothing is lost or doubled. Method: the server is stopped in
    the middle of a job, twice, and started again on the same home."""
    monkeypatch.setattr(minting, "BATCH_MAX", 100)
    server = coded.server
    await coded.post(JOBS, {"job_id": "j", "count": 2500})
    seen = [0]
    for _ in range(2):
        while (await coded.get(f"{JOBS}/j"))["done"] <= seen[-1] + 200:
            await asyncio.sleep(0)
        exported = await export(coded)
        await server.mint.stop()
        seen.append((await coded.get(f"{JOBS}/j"))["done"])
        assert seen[-1] < 2500, "stopped in the middle"
        server.mint = minting.Mint(server.base.store, server.base.home.secret)
        server.mint.start()
    await finished(coded, "j")
    whole = await export(coded)
    assert len(set(whole)) == 2500
    assert whole[: len(exported)] == exported
    with coded.store.read() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(schema.codes))
    assert count == 2500


async def test_a_job_waits_for_the_next_start_of_the_server(
    coded: Any, clock: Any, network: Any, tmp_path: Path
) -> None:
    await coded.server.mint.stop()
    await coded.post(JOBS, {"job_id": "j", "count": 50})
    folder = coded.server.base.home.folder
    await coded.http.aclose()
    await coded.server.stop()
    coded.server.stop = lambda: asyncio.sleep(0)  # the fixture stops it once more
    merchant = Merchant(load_home(folder), clock)
    await merchant.start()
    try:
        for _ in range(500):
            with merchant.base.store.read() as connection:
                done = connection.scalar(sa.select(schema.code_jobs.c.done))
            if done == 50:
                break
            await asyncio.sleep(0.01)
        assert done == 50
    finally:
        await merchant.stop()


async def test_a_collision_never_stops_a_job(coded: Any) -> None:
    """pain 59, sylius #10795: the numbers that are taken are passed over, and not exported."""
    mint = coded.server.mint
    await mint.stop()
    await coded.post(JOBS, {"job_id": "j", "count": 30})
    with coded.store.read() as connection:
        (job,) = minting.codes.jobs(connection, "p")
    taken = list(mint._codes(job, 3, 4))
    assert (await send_csv(coded, "code\n" + "\n".join(taken))).status == 201
    mint.start()
    done = await finished(coded, "j")
    assert done["done"] == 30
    made = await export(coded)
    assert len(set(made)) == 30 and set(made).isdisjoint(taken)


async def test_checkouts_go_on_while_codes_are_made(coded: Any, make_cart: Any) -> None:
    await coded.post(JOBS, {"job_id": "j", "count": 20_000})
    for number in range(20):
        reply = await coded.post("/v1/redemptions", {"order_id": f"o{number}", "cart": make_cart()})
        assert reply.status == 201
    assert (await coded.get(f"{JOBS}/j"))["done"] < 20_000


async def test_what_cannot_be_made_is_refused(coded: Any, make_terms: Any, hub: Any) -> None:
    for changed, field in (
        ({"count": 0}, "count"),
        ({"count": 1_000_001}, "count"),
        ({"count": "5"}, "count"),
        ({"prefix": "=SUM("}, "prefix"),
        ({"prefix": "x" * 33}, "prefix"),
        ({"job_id": "a b"}, "job_id"),
        ({"job_id": "../x"}, "job_id"),
        ({"coutn": 5}, "coutn"),
    ):
        reply = await coded.post(JOBS, {"job_id": "j", "count": 5, **changed})
        assert reply.problem == (400, "invalid_input", field), changed
    await coded.post("/v1/promotions", {"terms": make_terms("q")})
    await hub.send(coded, hub.promotion_changed(make_terms("h", access={"type": "unique_codes"})))
    for promotion_id, problem in (
        ("none", (404, "not_found", "promotion_id")),
        ("q", (409, "access_not_codes", "promotion_id")),
        ("h", (409, "promised_elsewhere", "promotion_id")),
    ):
        path = f"/v1/promotions/{promotion_id}"
        reply = await coded.post(f"{path}/code-jobs", {"job_id": "j", "count": 5})
        assert reply.problem == problem
        headers = {"Content-Type": "text/csv"}
        reply = await coded.post(f"{path}/codes/import", content=b"code\nA1\n", headers=headers)
        assert reply.problem == problem
    assert (await coded.get(f"{JOBS}/j")).problem == (404, "not_found", "job_id")
    assert (await coded.get(f"{JOBS}/j/codes.csv")).problem == (404, "not_found", "job_id")


async def test_jobs_are_their_tenants(coded: Any) -> None:
    await make(coded, 3)
    stranger = coded.make_key("other", "promotions:read", "promotions:write")
    reader = coded.make_key("operator", "promotions:read", kind="operator")
    for path in (JOBS, f"{JOBS}/j", f"{JOBS}/j/codes.csv"):
        reply = await coded.get(path, key=stranger)
        assert reply.problem == (404, "not_found", "promotion_id")
    reply = await coded.post(JOBS, {"job_id": "k", "count": 1}, key=stranger)
    assert reply.problem == (404, "not_found", "promotion_id")
    reply = await send_csv(coded, "code\nA1\n", key=stranger)
    assert reply.problem == (404, "not_found", "promotion_id")
    assert (await coded.get(f"{JOBS}/j", key=reader)).status == 200
    reply = await coded.get(f"{JOBS}/j/codes.csv", key=reader)
    assert reply.problem == (403, "forbidden", "Authorization")


# --- import ---------------------------------------------------------------------------------------


async def test_a_file_is_imported_once(coded: Any, make_cart: Any) -> None:
    text = "name,code\r\nAnn,ANN-2026\r\n\r\nBob,bob 2026\r\n"
    reply = await send_csv(coded, text, "?job_id=mail")
    assert (reply.status, reply["kind"], reply["state"]) == (201, "imported", "finished"), reply
    assert (reply["count"], reply["done"], reply["job_id"]) == (2, 2, "mail")
    before = coded.rows()
    again = await send_csv(coded, text, "?job_id=mail")
    assert (again.status, again.json) == (201, reply.json)
    other = await send_csv(coded, "code\nX1\n", "?job_id=mail")
    assert other.problem == (409, "exists_with_different_content", "job_id")
    twice = await send_csv(coded, text)
    assert twice.problem == (409, "code_exists", "row[2].code")
    assert coded.rows() == before
    exported = await coded.get(f"{JOBS}/mail/codes.csv")
    assert exported.problem == (409, "codes_not_kept", "job_id")
    order = await coded.post(
        "/v1/redemptions", {"order_id": "o", "cart": make_cart(codes=("Ann 2O26",))}
    )
    assert order["discount_minor"] == OFF
    assert (await coded.get(f"{JOBS}/mail"))["used"] == 1
    unnamed = await send_csv(coded, "code\nY1\n")
    assert unnamed.status == 201 and len(unnamed["job_id"]) == 43


BAD_FILES: list[tuple[str | bytes, int, str, str]] = [
    ("", 400, "invalid_input", "header"),
    ("name\nAnn\n", 400, "invalid_input", "header"),
    ("code\n", 400, "invalid_input", "rows"),
    ("code\nA1\n \n - \n", 400, "invalid_input", "row[3].code"),
    ("code\nA1\nB1\na-1\n", 400, "code_twice", "row[4].code"),
    (b"code\nA1\n\xff\n", 400, "invalid_input", "row[3]"),
    ('code\n"A1\n', 400, "invalid_input", "row[2]"),
    ("code\nA1\n" + "x" * 65, 400, "invalid_input", "row[3].code"),
    ("code\nA1\n" + "x" * 200_000, 400, "invalid_input", "row[3]"),
]


async def test_a_bad_file_names_its_row_and_imports_nothing(coded: Any) -> None:
    before = coded.rows()
    for body, *problem in BAD_FILES:
        reply = await send_csv(coded, body)
        assert reply.problem == tuple(problem), body[:40]
    large = await send_csv(coded, b"code\n" + b"A" * (33 << 20))
    assert large.problem == (413, "too_large", "body")
    as_json = await coded.post(IMPORT, content=b"code\nA1\n")
    assert as_json.problem == (415, "unsupported_media_type", "Content-Type")
    name = await send_csv(coded, "code\nA1\n", "?job_id=a%20b")
    assert name.problem == (400, "invalid_input", "job_id")
    assert coded.rows() == before


async def test_the_code_that_exists_is_named_even_on_the_last_row(coded: Any) -> None:
    (made,) = await make(coded, 1)
    rows = "".join(f"N{number}\n" for number in range(3000))
    before = coded.rows()
    reply = await send_csv(coded, f"code\n{rows}{made.lower()}\n")
    assert reply.problem == (409, "code_exists", "row[3002].code")
    assert coded.rows() == before


async def test_an_import_that_breaks_off_leaves_nothing(
    coded: Any, make_cart: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: all or nothing, also when the server stops in the middle. Method: the third batch
    fails; what was stored never counts and is taken out; then the same file goes in."""
    text = "code\n" + "".join(f"N{number}\n" for number in range(3500))
    step = minting.Mint._step
    batches = []

    async def failing(self: Any, job: Any, hashes: Any) -> Any:
        batches.append(len(hashes))
        if len(batches) == 3:
            reply = await coded.post("/v1/evaluations", {"cart": make_cart(codes=("N5",))})
            assert reply["evaluation"]["applied"] == [], "half an import does not count"
            busy = await send_csv(coded, text, "?job_id=mail")
            assert busy.problem == (409, "in_progress", "job_id")
            raise minting.UnavailableError("too many writes are waiting", code="overloaded")
        return await step(self, job, hashes)

    monkeypatch.setattr(minting.Mint, "_step", failing)
    reply = await send_csv(coded, text, "?job_id=mail")
    assert reply.problem == (503, "overloaded", None)
    monkeypatch.setattr(minting.Mint, "_step", step)
    for _ in range(500):
        if not coded.rows()["code_jobs"]:
            break
        await asyncio.sleep(0.01)
    assert (coded.rows()["codes"], coded.rows()["code_jobs"]) == (0, 0)
    assert (await send_csv(coded, text, "?job_id=mail"))["done"] == 3500


async def test_two_imports_of_one_code_at_once(coded: Any) -> None:
    """One of them gets all of its codes in, the other none."""
    files = [
        "code\n" + "".join(f"{name}{number}\n" for number in range(2500)) + "shared\n"
        for name in ("a", "b")
    ]
    replies = await asyncio.gather(*(send_csv(coded, text) for text in files))
    for _ in range(500):
        if coded.rows()["code_jobs"] <= 1:
            break
        await asyncio.sleep(0.01)
    good = [reply for reply in replies if reply.status == 201]
    assert len(good) <= 1
    assert coded.rows()["codes"] == 2501 * len(good)
    for reply in replies:
        if reply.status != 201:
            assert reply.problem[:2] in ((409, "code_exists"), (503, "unavailable"))


# --- redemption -----------------------------------------------------------------------------------


async def redeem(shop: Any, order_id: str, cart: Any) -> Any:
    return await shop.post("/v1/redemptions", {"order_id": order_id, "cart": cart})


def uniform(evaluation: Any, code: str) -> bool:
    """Whether this is all that a stranger is told."""
    return evaluation["applied"] == [] and evaluation["refused"] == [
        {"promotion_id": "", "code": "not_applicable", "presented_code": code}
    ]


async def test_a_code_is_used_once_however_it_is_spelt(coded: Any, make_cart: Any) -> None:
    code, other = await make(coded, 2)
    quote = await coded.post("/v1/evaluations", {"cart": make_cart(codes=(code,))})
    assert [one["code"] for one in quote["evaluation"]["applied"]] == [code]
    order = await redeem(coded, "o1", make_cart(codes=(code.lower().replace("-", " "), code)))
    assert (order.status, order["discount_minor"], len(order["redemptions"])) == (201, OFF, 1)
    assert order["redemptions"][0]["token_id"].startswith("c_")
    again = await redeem(coded, "o2", make_cart(codes=(code,)))
    assert uniform(again["evaluation"], code)
    reasons = {"cart": make_cart(codes=(code,)), "dry_run": {}}
    (refusal,) = (await coded.post("/v1/evaluations", reasons))["evaluation"]["refused"]
    assert refusal["code"] == "code_used"
    unknown = "0000-0000-0000-0000"
    never = await redeem(coded, "o3", make_cart(codes=(unknown,)))
    assert uniform(never["evaluation"], unknown)
    assert (await redeem(coded, "o4", make_cart(codes=(other,))))["discount_minor"] == OFF
    assert (await coded.get(f"{JOBS}/j"))["used"] == 2
    assert [one.token_id for one in coded.entries("redeemed")] == [
        o["redemptions"][0]["token_id"] for o in (order, await coded.get("/v1/orders/o4"))
    ]
    coded.audit()


async def test_one_code_redeemed_64_times_at_once_counts_once(coded: Any, make_cart: Any) -> None:
    """pain 3, oscar #2101: Goal: one use, exactly. Method: 64 orders at once, in three rounds, half
    of them reserve."""
    for code in await make(coded, 3):
        cart = make_cart(codes=(code,))
        paths = ("/v1/redemptions", "/v1/reservations")
        orders = await asyncio.gather(
            *(
                coded.post(paths[i % 2], {"order_id": f"{code}-{i}", "cart": cart})
                for i in range(64)
            )
        )
        assert {order.status for order in orders} == {201}
        assert sorted(order["discount_minor"] for order in orders) == [0] * 63 + [OFF]
    assert (await coded.get("/v1/promotions/p"))["budget"]["uses"]["spent"] <= 3
    coded.audit()


async def test_a_code_revives_when_its_use_is_undone(
    coded: Any, make_cart: Any, clock: Any
) -> None:
    """By release, by expiry, and by a complete return; not by a part of one."""
    (code,) = await make(coded, 1)
    cart = make_cart(codes=(code,))
    for order_id, end in (("o1", "release"), ("o2", "expire"), ("o3", "return")):
        order = await coded.post("/v1/reservations", {"order_id": order_id, "cart": cart})
        assert order["discount_minor"] == OFF, order_id
        assert (await redeem(coded, f"x{order_id}", cart))["discount_minor"] == 0
        if end == "release":
            assert (await coded.post(f"/v1/reservations/{order_id}/release")).status == 200
        elif end == "expire":
            clock.advance(3600)
            await expire_overdue(coded.server)
        else:
            assert (await coded.post(f"/v1/reservations/{order_id}/redeem")).status == 200
            part = {"reversal_id": "r1", "lines": [{"line_id": "1", "quantity": 1}]}
            assert (await coded.post("/v1/orders/o3/reversals", part)).status == 201
            assert (await redeem(coded, "part", cart))["discount_minor"] == 0
            assert (
                await coded.post("/v1/orders/o3/reversals", {"reversal_id": "r2"})
            ).status == 201
    assert (await redeem(coded, "last", cart))["discount_minor"] == OFF
    assert (await redeem(coded, "late", cart))["discount_minor"] == 0
    coded.audit()


async def test_a_return_evaluates_again_with_the_code(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """The code is used up, but for its own order it still holds."""
    quantity = {"type": "quantity", "min": 2}
    terms = make_terms(
        "p", access={"type": "unique_codes"}, on_return="reevaluate", conditions=[quantity]
    )
    await shop.post("/v1/promotions", {"terms": terms, "launch": True})
    (code,) = await make(shop, 1)
    await redeem(shop, "o", make_cart((3, 500), codes=(code,)))
    line = {"line_id": "1", "quantity": 1}
    back = await shop.post("/v1/orders/o/reversals", {"reversal_id": "r1", "lines": [line]})
    assert (back["refund_minor"], back["discount_reversed_minor"]) == (450, 50)
    back = await shop.post("/v1/orders/o/reversals", {"reversal_id": "r2", "lines": [line]})
    assert (back["refund_minor"], back["discount_reversed_minor"]) == (400, 100)
    shop.audit()


async def test_several_codes_in_one_order_are_several_uses(
    shop: Any, make_terms: Any, make_cart: Any
) -> None:
    """Each is a token of its own; of three codes a budget of two uses covers two."""
    terms = make_terms("p", access={"type": "unique_codes"}, limits=[{"uses": 2}])
    await shop.post("/v1/promotions", {"terms": terms, "launch": True})
    made = await make(shop, 3)
    order = await redeem(shop, "o", make_cart(codes=tuple(made)))
    assert order.status == 201, order
    used = [one["code"] for one in order["redemptions"]]
    assert len(set(used)) == 2
    (refusal,) = order["evaluation"]["refused"]
    assert (refusal["code"], refusal["missing"]) == ("allotment_exhausted", 1)
    assert {refusal["presented_code"], *used} == set(made)
    assert (await shop.get(f"{JOBS}/j"))["used"] == 2
    shop.audit()


async def test_a_code_keeps_the_terms_that_it_was_made_under(
    coded: Any, make_terms: Any, make_cart: Any
) -> None:
    (old,) = await make(coded, 1, "old")
    terms = make_terms(
        "p", 2000, access={"type": "unique_codes"}, limits=[{"uses": 1000}], version=2
    )
    assert (await coded.post("/v1/promotions/p/versions", {"terms": terms})).status == 201
    (new,) = await make(coded, 1, "new")
    assert (await redeem(coded, "o1", make_cart(codes=(old,))))["discount_minor"] == OFF
    assert (await redeem(coded, "o2", make_cart(codes=(new,))))["discount_minor"] == 2 * OFF


async def test_strangers_hear_the_same_of_every_code_that_does_not_apply(
    coded: Any, make_terms: Any, make_cart: Any
) -> None:
    """pain 52: unknown, used, paused, expired, nearly matching: one answer, to the letter."""
    (used,) = await make(coded, 1)
    await redeem(coded, "o", make_cart(codes=(used,)))
    for name, more in (
        ("past", {"schedule": {"until": "2020-01-01"}}),
        ("paused", {}),
        ("near", {"conditions": [{"type": "subtotal", "min_minor": 1051}]}),
    ):
        terms = make_terms(name, access={"type": "unique_codes"}, **more)
        await coded.post("/v1/promotions", {"terms": terms, "launch": True})
        headers = {"Content-Type": "text/csv"}
        path = f"/v1/promotions/{name}/codes/import"
        assert (await coded.post(path, content=f"code\n{name}1\n".encode(), headers=headers)).status
    await coded.post("/v1/promotions/paused/pause")
    for code in (used, "past1", "paused1", "near1", "nothing", secrets.token_hex(8)):
        reply = await coded.post("/v1/evaluations", {"cart": make_cart(codes=(code,))})
        assert uniform(reply["evaluation"], code), code


async def test_known_codes_are_no_guesses(coded: Any, make_cart: Any) -> None:
    """A used code is somebody's code: only codes that mean nothing count as guesses."""
    (code,) = await make(coded, 1)
    await redeem(coded, "o", make_cart(codes=(code,)))
    guesses: list[int] = []
    coded.server.code_guesses.failed = lambda who, now, number, field: guesses.append(number)
    await coded.post("/v1/evaluations", {"cart": make_cart(codes=(code, "nothing"))})
    assert guesses == [1]
