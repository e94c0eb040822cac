"""Clips: the same one again is the same token, a wrong one changes nothing, no cap is passed."""

import asyncio

import httpx
import pytest

from sconto.base.clock import MS_PER_DAY, rfc3339
from sconto.frames import Withdrawal, sign_withdrawal
from sconto.servers.hub import codes
from sconto.store.schema import promotions, tokens

pytestmark = pytest.mark.anyio

SHOP = "https://shop.example"
HUB = "https://hub.example"


async def published(world, *promised, **changes):
    frame = world.frame(*promised, **changes)
    answer = await world.publish(frame)
    assert answer.status_code == 201, answer.text
    return frame


async def test_the_same_clip_gives_the_same_offer(world):
    frame = await published(world, await world.promise(), await world.promise("second"))
    first = await world.clip(frame)
    assert first.status_code == 201
    with world.unchanged():
        again = await world.clip(frame)
        assert again.json() == first.json()
        world.refused(
            await world.clip(frame, "second"), 409, "exists_with_different_promotion_id",
            "promotion_id",
        )  # fmt: skip
        world.refused(
            await world.clip(frame, at=rfc3339(world.hub.base.clock() - MS_PER_DAY)),
            409, "exists_with_different_at", "at",
        )  # fmt: skip
    assert world.column(promotions.c.circulation) in ([1, 0], [0, 1])


async def test_a_clip_that_must_not_be_is_refused(world):
    """Each time the thing that is wrong is named, and nothing is stored."""
    now_ms = world.hub.base.clock()
    future = await world.promise("future", schedule={"from": rfc3339(now_ms + MS_PER_DAY)})
    past = await world.promise("past", schedule={"until": rfc3339(now_ms - MS_PER_DAY)})
    paused, ended = await world.promise("paused"), await world.promise("ended")
    good = await world.promise()
    frame = await published(world, good, future, past, paused, ended)
    await world.call("POST", "/v1/promotions/paused/pause", key=world.brand_key)
    await world.call("POST", "/v1/promotions/ended/end", key=world.brand_key)
    await world.promise("elsewhere")
    unknown = frame.frame_id[:14] + "A" * 43
    with world.unchanged():
        for promotion_id, status, code in (
            ("future", 409, "schedule_closed"),
            ("past", 409, "schedule_closed"),
            ("paused", 409, "promotion_not_active"),
            ("ended", 409, "promotion_not_active"),
            ("elsewhere", 400, "not_offered"),
            ("nowhere", 400, "not_offered"),
        ):
            answer = await world.clip(frame, promotion_id)
            world.refused(answer, status, code, "promotion_id")
        world.refused(await world.clip(frame, frame_id=unknown), 404, "not_found", "frame_id")
        world.refused(await world.clip(frame, frame_id="x"), 400, "invalid_input", "frame_id")
        world.refused(await world.clip(frame, clip_id=""), 400, "invalid_input", "clip_id")
        world.refused(await world.clip(frame, clip_id="a\0b"), 400, "invalid_json")
        world.refused(await world.clip(frame, colour="red"), 400, "invalid_input", "colour")
        world.refused(await world.clip(frame, at="yesterday"), 400, "invalid_input", "at")
        world.refused(await world.clip(frame, at="2026-01-01T00:00:00"), 400, "invalid_input", "at")
        world.refused(
            await world.clip(frame, at="0001-01-01T00:00:00Z"), 400, "invalid_input", "at"
        )
        world.refused(
            await world.clip(frame, at="9999-12-31T23:59:59Z"), 400, "invalid_input", "at"
        )
        world.refused(
            await world.clip(frame, at=rfc3339(now_ms - 365 * MS_PER_DAY)), 409, "frame_not_live"
        )
        for body, code in (
            (b"", "invalid_json"), (b"{", "invalid_json"), (b"[]", "invalid_input"),
            (b'{"clip_id": 1.5}', "invalid_json"), (b"{}", "invalid_input"),
        ):  # fmt: skip
            answer = await world.call("POST", "/v1/clips", body=body, peer=world.wallet)
            world.refused(answer, 400, code)
        answer = await world.call("POST", "/v1/clips", body=b" " * 10_000_000, peer=world.wallet)
        world.refused(answer, 413, "too_large")


async def test_only_a_registered_wallet_clips(world):
    frame = await published(world, await world.promise())
    document = {"clip_id": "c", "frame_id": frame.frame_id, "promotion_id": "oaty-10"}
    stranger = type(world.wallet)("https://stranger.example", "wallet", "stranger")
    with world.unchanged():
        for path in ("/v1/clips", "/v1/impressions"):
            for options, status, code in (
                ({}, 401, "not_authenticated"),
                ({"key": world.brand_key}, 403, "forbidden"),
                ({"key": world.admin_key}, 401, "signature_missing"),
                ({"peer": world.shop}, 403, "forbidden"),
                ({"peer": stranger}, 403, "peer_not_trusted"),
            ):
                body = document
                if path == "/v1/impressions":
                    body = {"frame_id": frame.frame_id, "promotion_ids": ["oaty-10"]}
                world.refused(await world.call("POST", path, body, **options), status, code)
    await world.register(stranger)
    at = rfc3339(world.hub.base.clock() - 1000)
    answer = await world.call("POST", "/v1/clips", document | {"at": at}, peer=stranger)
    world.refused(answer, 403, "forbidden", "Authorization")
    # Another wallet's clip ids are its own.
    assert (await world.clip(frame, clip_id="c")).status_code == 201
    answer = await world.call("POST", "/v1/clips", document, peer=stranger)
    assert answer.status_code == 201
    assert len(world.column(tokens.c.token_id)) == 2


async def test_twenty_at_once_get_exactly_the_circulation(world):
    frame = await published(world, await world.promise(circulation=7))
    answers = await asyncio.gather(*(world.clip(frame, clip_id=f"c{i}") for i in range(20)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] * 7 + [409] * 13
    for answer in answers:
        if answer.status_code == 409:
            world.refused(answer, 409, "circulation_exhausted", "promotion_id")
    assert world.column(promotions.c.circulation) == [7]
    for answer in answers:
        if answer.status_code == 201:
            await world.take(answer)
    assert world.totals().clipped == 7
    world.refused(await world.clip(frame, clip_id="late"), 409, "circulation_exhausted")


async def test_an_offer_that_nobody_took_makes_room_again(world):
    """Circulation 1: the first lapses, the second takes its place, the first cannot come back."""
    frame = await published(world, await world.promise(circulation=1))
    real = world.hub.base.wall_clock
    first = await world.clip(frame, clip_id="first")
    world.hub.base.wall_clock = lambda: real() + codes.CODE_LIFE_MS + codes.ACCESS_LIFE_MS // 2
    world.refused(await world.clip(frame, clip_id="second"), 409, "circulation_exhausted")
    world.hub.base.wall_clock = lambda: real() + codes.CODE_LIFE_MS + codes.ACCESS_LIFE_MS + 2000
    second = await world.clip(frame, clip_id="second")
    assert second.status_code == 201
    assert world.column(promotions.c.circulation) == [1]
    world.oauth_refused(await world.exchange(world.code_of(first)), 400, "invalid_grant")
    world.refused(await world.clip(frame, clip_id="first"), 409, "circulation_exhausted")
    await world.take(second)
    assert sorted(world.column(tokens.c.status)) == ["issued", "lapsed"]


async def test_an_offer_that_is_over_is_renewed_for_the_same_token(world):
    frame = await published(world, await world.promise())
    real = world.hub.base.wall_clock
    first = await world.clip(frame)
    place = httpx.URL(first.json()["credential_offer_uri"]).path
    world.hub.base.wall_clock = lambda: real() + codes.CODE_LIFE_MS + 1000
    world.refused(await world.call("GET", place), 410, "gone")
    world.oauth_refused(await world.exchange(world.code_of(first)), 400, "invalid_grant")
    again = await world.clip(frame)
    assert world.code_of(again) != world.code_of(first)
    world.refused(await world.call("GET", place), 404, "not_found")
    world.oauth_refused(await world.exchange(world.code_of(first)), 400, "invalid_grant")
    await world.take(again)
    assert world.column(tokens.c.status) == ["issued"]
    assert world.column(promotions.c.circulation) == [1]


async def test_what_was_lapsed_comes_back_while_there_is_room(world):
    terms = await world.promise(circulation=2)
    frame = await published(world, terms)
    real = world.hub.base.wall_clock
    for clip_id in ("a", "b"):
        assert (await world.clip(frame, clip_id=clip_id)).status_code == 201
    world.hub.base.wall_clock = lambda: real() + codes.CODE_LIFE_MS + codes.ACCESS_LIFE_MS + 2000
    assert (await world.clip(frame, clip_id="c")).status_code == 201
    assert world.column(promotions.c.circulation) == [1]
    assert sorted(world.column(tokens.c.status)) == ["lapsed", "lapsed", "offered"]
    back = await world.clip(frame, clip_id="a")
    await world.take(back)
    assert world.column(promotions.c.circulation) == [2]
    await world.call("POST", "/v1/promotions/oaty-10/pause", key=world.brand_key)
    world.refused(await world.clip(frame, clip_id="b"), 409, "promotion_not_active")
    # What was issued is given out again, whatever became of the promotion.
    said = Withdrawal(v=1, iss=SHOP, aud=HUB, seq=9, withdraws=frame.frame_id)
    document = {"withdrawal": sign_withdrawal(world.shop.key, said)}
    await world.call("POST", "/v1/frames/withdrawals", document, peer=world.shop)
    token = await world.take(await world.clip(frame, clip_id="a"))
    assert world.claims(token).promotion_id == "oaty-10"


async def test_an_offers_address_cannot_be_guessed(world):
    frame = await published(world, await world.promise())
    clipped = await world.clip(frame)
    place = httpx.URL(clipped.json()["credential_offer_uri"]).path
    code = world.code_of(clipped)
    for wrong in (place[:-1], place + "A", place[:-3] + "AAA", place.rpartition(".")[0], "a" * 300,
                  "/v1/credential-offers/" + code, "%00", "é"):  # fmt: skip
        path = wrong if wrong.startswith("/") else f"/v1/credential-offers/{wrong}"
        world.refused(await world.call("GET", path), 404, "not_found")
    await world.exchange(code)
    world.refused(await world.call("GET", place), 410, "gone")


async def test_impressions_count_once_per_key(world):
    frame = await published(world, await world.promise(), await world.promise("second"))
    document = {"frame_id": frame.frame_id, "promotion_ids": ["oaty-10", "second", "oaty-10"]}
    real = world.hub.base.wall_clock
    for second in range(3):
        world.hub.base.wall_clock = lambda second=second: real() + second * 1000
        answer = await world.call(
            "POST", "/v1/impressions", document, peer=world.wallet, idempotency_key="one"
        )
        assert answer.status_code == 204, answer.text
    assert world.totals().shown == 2
    with world.unchanged():
        answer = await world.call(
            "POST",
            "/v1/impressions",
            document | {"promotion_ids": ["second"]},
            peer=world.wallet,
            idempotency_key="one",
        )
        world.refused(answer, 409, "idempotency_conflict", "Idempotency-Key")
        for more, status, code, field in (
            ({"promotion_ids": []}, 400, "invalid_input", "promotion_ids"),
            ({"promotion_ids": ["other"]}, 400, "not_offered", "promotion_ids[0]"),
            ({"promotion_ids": ["oaty-10", "other"]}, 400, "not_offered", "promotion_ids[1]"),
            ({"promotion_ids": "oaty-10"}, 400, "invalid_input", "promotion_ids"),
        ):
            answer = await world.call("POST", "/v1/impressions", document | more, peer=world.wallet)
            world.refused(answer, status, code, field)


async def test_a_signed_request_works_once(world):
    frame = await published(world, await world.promise())
    sent = []
    plain = world.client.request

    async def keep(method, url, **options):
        sent.append((method, url, options))
        return await plain(method, url, **options)

    world.client.request = keep
    assert (await world.clip(frame)).status_code == 201
    method, url, options = sent[-1]
    with world.unchanged():
        world.refused(await plain(method, url, **options), 401, "signature_replayed", "Signature")
        stolen = {**options, "content": options["content"].replace(b"clip-1", b"clip-2")}
        world.refused(await plain(method, url, **stolen), 400, "digest_mismatch")
        moved = url.replace("/v1/clips", "/v1/impressions")
        world.refused(await plain(method, moved, **options), 401, "signature_invalid")


async def test_the_control_group_is_told_to_the_merchant_alone(world):
    """The token looks like any other; the coupon information says that it gives nothing."""
    terms = await world.promise(holdout_basis_points=10_000)
    frame = world.frame(terms)
    assert (await world.publish(frame)).status_code == 201
    token = await world.take(await world.clip(frame))
    await world.settle_outbox()
    (information,) = world.shop.of_type("sconto.token.issued.v1")
    assert information["is_control"] is True
    assert information["token_id"] == world.claims(token).jti
