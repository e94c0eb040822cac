"""Frames at the hub: what is wrong is refused by name and leaves nothing; the rest is served."""

import asyncio
import base64
import json
import secrets

import msgspec
import pytest
import sqlalchemy as sa

from sconto.base.keys import SigningKey
from sconto.frames import Withdrawal, build_frame, encode_bundle, frame_key, sign_withdrawal
from sconto.store.schema import frame_resources, frames

pytestmark = pytest.mark.anyio

HUB = "https://hub.example"
FRAMES = "https://frames.example"
SHOP = "https://shop.example"


async def put(world, frame, body, peer=None):
    path = f"/v1/frames/{frame_key(frame.frame_id)}"
    return await world.call("PUT", path, peer=peer or world.shop, body=body)


def changed(frame, change):
    """The bundle of a frame after `change` has had its way with the decoded JSON."""
    bundle = json.loads(encode_bundle(frame))
    change(bundle)
    return json.dumps(bundle).encode()


def set_at(*path_and_value):
    *path, last, value = path_and_value

    def change(bundle):
        for step in path:
            bundle = bundle[step]
        bundle[last] = value

    return change


BROKEN = {
    "a byte of a file is another": (
        set_at("resources", "/index.html", base64.b64encode(b"<h1>Ooty</h1>").decode()),
        400, "digest_mismatch", "resources./index.html",
    ),
    "a file is shorter": (
        set_at("resources", "/index.html", base64.b64encode(b"<h1>").decode()),
        400, "size_mismatch", "resources./index.html",
    ),
    "a file is missing": (
        lambda b: b["resources"].pop("/css/a.css"), 400, "resource_missing", "resources./css/a.css",
    ),
    "a file is too many": (
        set_at("resources", "/b.css", ""), 400, "resource_unlisted", "resources./b.css",
    ),
    "the manifest was changed": (
        set_at("manifest", "seq", 2), 422, "signature_invalid", "frame",
    ),
    "the signature is another": (
        set_at("signature", "a.b.c"), 400, "malformed", "frame",
    ),
    "the bundle has an unknown field": (
        set_at("extra", 1), 400, "malformed", "extra",
    ),
    "the bundle has no signature": (
        lambda b: b.pop("signature"), 400, "malformed", "signature",
    ),
    "a file is not base64": (
        set_at("resources", "/index.html", "!"), 400, "malformed", "resources./index.html",
    ),
}  # fmt: skip


async def test_a_broken_bundle_is_refused(world):
    frame = world.frame(await world.promise())
    with world.unchanged():
        for change, status, code, field in BROKEN.values():
            world.refused(await put(world, frame, changed(frame, change)), status, code, field)


async def test_a_frame_that_is_not_for_us_now_is_refused(world):
    """Audience, issuer, key, time, address: each signed correctly, each wrong."""
    terms = await world.promise()
    frame = world.frame(terms)
    now_s = world.hub.base.clock() // 1000
    stranger = SigningKey.from_seed(secrets.token_bytes(32))
    other = world.frame(terms, sequence=2)
    with world.unchanged():
        for made, status, code in (
            (world.frame(terms, hub="https://other.example"), 400, "audience_mismatch"),
            (world.frame(terms, merchant="https://other.example"), 400, "issuer_mismatch"),
            (world.frame(terms, expires_s=now_s - 1), 400, "frame_expired"),
            (world.frame(terms, not_before_s=now_s + 60), 400, "frame_not_yet_valid"),
        ):
            world.refused(await world.publish(made), status, code)
        foreign = build_frame(
            stranger,
            merchant=SHOP,
            hub=HUB,
            not_before_s=now_s - 60,
            expires_s=now_s + 600,
            sequence=1,
            offers=frame.manifest.offers,
            files={"index.html": b"x"},
        )
        world.refused(await world.publish(foreign), 422, "key_not_found")
        world.refused(
            await put(world, frame, encode_bundle(other)), 400, "frame_id_mismatch", "frame_id"
        )
        world.refused(
            await world.call("PUT", "/v1/frames/nonsense", peer=world.shop, body=b"{}"),
            400, "malformed",
        )  # fmt: skip


async def test_a_body_that_is_not_a_bundle_is_refused(world):
    """Cut anywhere, too large, not JSON, a key twice: a 4xx problem each time."""
    frame = world.frame(await world.promise())
    body = encode_bundle(frame)
    with world.unchanged():
        for cut in range(0, len(body), 97):
            answer = await put(world, frame, body[:cut])
            assert 400 <= answer.status_code < 500, (cut, answer.text)
        world.refused(await put(world, frame, b" " * 10_000_000), 413, "too_large")
        world.refused(await put(world, frame, b"{" * 100_000), 400, "invalid_json")
        world.refused(await put(world, frame, b'{"a":1,"a":2}'), 400, "invalid_json")
        world.refused(await put(world, frame, b"\xff"), 400, "invalid_json")
        world.refused(await put(world, frame, b"[]"), 400, "malformed")


async def test_only_the_merchant_itself_distributes_frames(world):
    terms = await world.promise()
    frame = world.frame(terms)
    path = f"/v1/frames/{frame_key(frame.frame_id)}"
    body = encode_bundle(frame)
    with world.unchanged():
        world.refused(await world.call("PUT", path, body=body), 401, "not_authenticated")
        world.refused(
            await world.call("PUT", path, body=body, key=world.brand_key), 403, "forbidden"
        )
        world.refused(
            await world.call("PUT", path, body=body, key=world.admin_key), 401, "signature_missing"
        )
        world.refused(await world.call("PUT", path, body=body, peer=world.wallet), 403, "forbidden")


async def test_every_offer_must_be_a_promise_of_this_hub(world):
    """Unknown, draft, paused, not accepted, not by token, other terms: named by its place."""
    good = await world.promise("good")
    paused = await world.promise("paused")
    await world.call("POST", "/v1/promotions/paused/pause", key=world.brand_key)
    automatic = await world.promise("automatic", access={"type": "automatic"})
    draft, lonely = world.terms_of("draft"), world.terms_of("lonely")
    for terms, launch in ((draft, False), (lonely, True)):
        made = await world.call(
            "POST", "/v1/promotions", {"terms": terms, "launch": launch}, key=world.brand_key
        )
        assert made.status_code == 201
    unknown = world.terms_of("unknown")
    cases = (
        (unknown, 400, "promotion_unknown", "promotion_id"),
        (draft, 400, "promotion_unknown", "promotion_id"),
        (paused, 409, "promotion_not_active", "promotion_id"),
        (lonely, 409, "promotion_not_accepted", "promotion_id"),
        (automatic, 400, "access_not_token", "promotion_id"),
        (
            good | {"title": "Something else", "promotion_id": "good2"},
            400,
            "promotion_unknown",
            None,
        ),
    )
    with world.unchanged():
        for terms, status, code, field in cases:
            answer = await world.publish(world.frame(good, terms))
            where = None if field is None else f"manifest.offers[1].{field}"
            world.refused(answer, status, code, where)
        altered = world.frame(good | {"title": "Something else"})
        world.refused(
            await world.publish(altered), 400, "terms_unknown", "manifest.offers[0].terms_digest"
        )


async def test_a_frame_is_withdrawn_by_a_higher_sequence(world):
    terms = await world.promise()
    frame = world.frame(terms, sequence=5)
    assert (await world.publish(frame)).status_code == 201
    world.refused(
        await world.publish(world.frame(terms, sequence=4)), 400, "sequence_too_low", "manifest.seq"
    )
    world.refused(
        await world.publish(world.frame(terms, sequence=5, csp="img-src 'none'")),
        400, "sequence_too_low", "manifest.seq",
    )  # fmt: skip

    async def withdraw(sequence, key=None, withdraws=frame.frame_id, audience=HUB):
        said = Withdrawal(v=1, iss=SHOP, aud=audience, seq=sequence, withdraws=withdraws)
        document = {"withdrawal": sign_withdrawal(key or world.shop.key, said)}
        return await world.call("POST", "/v1/frames/withdrawals", document, peer=world.shop)

    with world.unchanged():
        world.refused(await withdraw(5), 400, "sequence_too_low", "withdrawal.seq")
        world.refused(await withdraw(6, world.wallet.key), 422, "key_not_found")
        world.refused(await withdraw(6, audience="https://o.example"), 400, "audience_mismatch")
        world.refused(
            await withdraw(6, withdraws=frame.frame_id[:-6] + "AAAAAA"[:5] + "A"), 404, "not_found"
        )
        world.refused(
            await world.call("POST", "/v1/frames/withdrawals", {"withdraw": "x"}, peer=world.shop),
            400, "invalid_input",
        )  # fmt: skip
    for _ in range(2):
        answer = await withdraw(6)
        assert (answer.status_code, answer.json()["status"]) == (200, "withdrawn"), answer.text
    world.refused(await world.publish(frame), 410, "gone", "frame_id")
    world.refused(await world.clip(frame), 410, "gone", "frame_id")
    listed = await world.call("GET", "/v1/frames", peer=world.wallet)
    assert listed.json()["frames"] == []
    served = await world.call(
        "GET", f"/frames/{frame_key(frame.frame_id)}/index.html", base_url=FRAMES
    )
    world.refused(served, 410, "gone")


async def test_of_frames_at_once_with_one_sequence_one_is_taken(world):
    """Each was fine when it was verified; the transaction looks again. The same twice is one."""
    terms = await world.promise()
    made = [world.frame(terms, csp=f"img-src https://{i}.example") for i in range(4)]
    answers = await asyncio.gather(*(world.publish(frame) for frame in [*made, *made]))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 201] + [400] * 6
    for answer in answers:
        if answer.status_code == 400:
            world.refused(answer, 400, "sequence_too_low", "manifest.seq")
    assert world.column(frames.c.sequence) == [1]


async def test_a_file_is_served_on_the_frames_origin_only(world):
    frame = world.frame(await world.promise(), csp="img-src 'none'")
    await world.publish(frame)
    path = f"/frames/{frame_key(frame.frame_id)}/css/a.css"
    served = await world.call("GET", path, base_url=FRAMES)
    assert (served.status_code, served.content) == (200, b"h1 { color: green }")
    assert served.headers["content-type"] == "text/css; charset=utf-8"
    assert served.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert served.headers["x-content-type-options"] == "nosniff"
    assert "camera=()" in served.headers["permissions-policy"]
    assert served.headers["connection-allowlist"] == "(response-origin)"
    policy = served.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert policy.endswith(f"frame-ancestors {HUB}, img-src 'none'")
    world.refused(await world.call("GET", path, base_url=HUB), 404, "not_found")
    for wrong in ("/css/b.css", "/css", "/..%2fcss/a.css", "/%00", "/%ff"):
        answer = await world.call(
            "GET", f"/frames/{frame_key(frame.frame_id)}{wrong}", base_url=FRAMES
        )
        world.refused(answer, 404, "not_found")


async def test_a_byte_changed_in_the_datastore_is_not_shown(world):
    frame = world.frame(await world.promise())
    await world.publish(frame)
    tamper = sa.update(frame_resources).values(content=b"<h1>Evil</h1>")
    await world.hub.base.store.write(
        lambda tx: tx.write(tamper.where(frame_resources.c.path == "/index.html")) and None
    )
    place = f"/frames/{frame_key(frame.frame_id)}"
    answer = await world.call("GET", f"{place}/index.html", base_url=FRAMES)
    world.refused(answer, 409, "digest_mismatch", "/index.html")
    assert b"Evil" not in answer.content
    assert (await world.call("GET", f"{place}/css/a.css", base_url=FRAMES)).status_code == 200


async def test_frames_are_listed_newest_first_by_pages(world):
    first, second = await world.promise("first"), await world.promise("second")
    made = [world.frame(terms, sequence=n) for n, terms in enumerate([first, second, first], 1)]
    for frame in made:
        assert (await world.publish(frame)).status_code == 201
    ids = [frame.frame_id for frame in made]

    async def page(**query):
        text = "&".join(f"{k}={v}" for k, v in query.items())
        answer = await world.call("GET", f"/v1/frames?{text}", key=world.brand_key)
        assert answer.status_code == 200, answer.text
        return [f["frame_id"] for f in answer.json()["frames"]], answer.json().get("next")

    received, after = [], None
    for _ in range(4):
        listed, after = await page(limit=1, **({"before": after} if after else {}))
        received += listed
        if after is None:
            break
    assert sorted(received) == sorted(ids)
    assert (await page(promotion_id="second"))[0] == [ids[1]]
    assert (await page(merchant="https://other.example"))[0] == []
    assert len((await page(merchant=SHOP))[0]) == 3
    await world.call("POST", "/v1/promotions/second/end", key=world.brand_key)
    assert ids[1] not in (await page())[0]
    for query in ("limit=0", "limit=x", "before=x", "before=1.x", "merchant=%00", "limit=%ff"):
        answer = await world.call("GET", f"/v1/frames?{query}", key=world.brand_key)
        assert answer.status_code == 400, query
        assert answer.json()["field"] == query.partition("=")[0] or query == "limit=%ff"
    shown = await world.call("GET", f"/v1/frames/{frame_key(ids[0])}", key=world.brand_key)
    assert msgspec.json.encode(shown.json()["manifest"]) != b"null"
    assert shown.json()["signature"] == made[0].signature
    assert shown.json()["entry_url"] == f"{FRAMES}/frames/{frame_key(ids[0])}/index.html"
    assert world.column(frames.c.status) == ["active"] * 3


async def test_the_frames_origin_has_frames_and_nothing_else(world):
    """Goal: a page of the hub's own cannot be had where other people's pages are."""
    public = {"/healthz", "/schema/openapi.json", "/v1/frames", "/login", "/.well-known/ucp"}
    for path in public:
        assert (await world.call("GET", path)).status_code != 404, path
    for path in (*public, "/v1/promotions", "/", "/nowhere"):
        answer = await world.call("GET", path, base_url=FRAMES, key=world.admin_key)
        world.refused(answer, 404, "not_found")
    terms = world.terms_of("p")
    body = {"terms": terms, "launch": True}
    for host in (FRAMES, FRAMES.upper().replace("HTTPS", "https")):
        answer = await world.call(
            "POST", "/v1/promotions", body, base_url=host, key=world.brand_key
        )
        world.refused(answer, 404, "not_found")
