"""Issuing by OpenID4VCI: one token for one code and one key, errors in OAuth's own form."""

import asyncio
import secrets

import httpx
import pytest

from sconto.base.keys import KeySet, SigningKey, sign_self
from sconto.servers.hub import codes
from sconto.store.schema import tokens
from sconto.tokens import make_key_proof, verify_status_list

pytestmark = pytest.mark.anyio

HUB = "https://hub.example"
GRANT = "urn:ietf:params:oauth:grant-type:pre-authorized_code"
FORM = "application/x-www-form-urlencoded"


def new_key():
    return SigningKey.from_seed(secrets.token_bytes(32))


async def published(world, *promised):
    frame = world.frame(*promised)
    answer = await world.publish(frame)
    assert answer.status_code == 201, answer.text
    return frame


async def access(world, frame, clip_id="clip-1", promotion_id="oaty-10"):
    """An access token for a new clip."""
    clipped = await world.clip(frame, promotion_id, clip_id)
    assert clipped.status_code == 201, clipped.text
    return (await world.exchange(world.code_of(clipped))).json()["access_token"]


async def ask(world, access_token, jwt, peer=None, **more):
    document = {"credential_configuration_id": "promo-token", "proofs": {"jwt": jwt}} | more
    return await world.call(
        "POST",
        "/openid4vci/credential",
        document,
        peer=peer,
        headers={"Authorization": f"Bearer {access_token}"},
    )


async def test_the_metadata_name_the_endpoints(world):
    issuer = (await world.call("GET", "/.well-known/openid-credential-issuer")).json()
    server = (await world.call("GET", "/.well-known/oauth-authorization-server")).json()
    assert issuer["credential_issuer"] == server["issuer"] == HUB
    assert "promo-token" in issuer["credential_configurations_supported"]
    assert server["grant_types_supported"] == [GRANT]
    schema = (await world.call("GET", "/schema/openapi.json")).json()
    for url in (
        issuer["credential_endpoint"],
        issuer["nonce_endpoint"],
        issuer["notification_endpoint"],
        server["token_endpoint"],
    ):
        assert "post" in schema["paths"][url.removeprefix(HUB)], url


async def test_a_code_works_once(world):
    """Also when it is used twenty times at once."""
    clipped = await world.clip(await published(world, await world.promise()))
    answers = await asyncio.gather(*(world.exchange(world.code_of(clipped)) for _ in range(20)))
    assert sorted(a.status_code for a in answers) == [200] + [400] * 19
    for answer in answers:
        if answer.status_code == 400:
            world.oauth_refused(answer, 400, "invalid_grant")
        assert answer.headers["cache-control"] == "no-store"


async def test_a_wrong_token_request_is_refused(world):
    clipped = await world.clip(await published(world, await world.promise()))
    code = world.code_of(clipped)
    token_id = code.partition(".")[0]
    good = {"grant_type": GRANT, "pre-authorized_code": code}
    with world.unchanged():
        for form, error in (
            ({}, "invalid_request"),
            ({"grant_type": GRANT}, "invalid_request"),
            ({"pre-authorized_code": code}, "invalid_request"),
            (good | {"grant_type": "password"}, "unsupported_grant_type"),
            (good | {"pre-authorized_code": code[:-1]}, "invalid_grant"),
            (good | {"pre-authorized_code": token_id}, "invalid_grant"),
            (good | {"pre-authorized_code": "x" * 200}, "invalid_grant"),
            (good | {"pre-authorized_code": "A" * 25 + "\0.x"}, "invalid_grant"),
            (good | {"pre-authorized_code": "\N{SNOWMAN}"}, "invalid_grant"),
        ):
            body = str(httpx.QueryParams(form)).encode()
            answer = await world.call("POST", "/openid4vci/token", body=body, media_type=FORM)
            world.oauth_refused(answer, 400, error)
        whole = str(httpx.QueryParams(good)).encode()
        for body, media_type, status in (
            (whole + b"&" + whole, FORM, 400),
            (whole, "application/json", 400),
            (b"\xff", FORM, 400),
            (b"a=1&" * 100, FORM, 400),
            (b"x" * 10_000_000, FORM, 413),
        ):
            answer = await world.call("POST", "/openid4vci/token", body=body, media_type=media_type)
            world.oauth_refused(answer, status, "invalid_request")
    assert (await world.exchange(code)).status_code == 200


async def test_a_wrong_credential_request_is_refused(world):
    frame = await published(world, await world.promise())
    token = await access(world, frame)
    now_ms = world.hub.base.wall_clock()
    nonce = await world.nonce()

    def proof(key=None, audience=HUB, nonce=nonce, at_ms=now_ms):
        return make_key_proof(
            key or world.holder, audience=audience, nonce=nonce, issued_at_ms=at_ms
        )

    other = nonce[:-2] + ("BA" if nonce.endswith("AA") else "AA")
    claims = {"aud": HUB, "iat": now_ms // 1000, "nonce": nonce}
    good = proof()
    with world.unchanged():
        for proofs, error in (
            ([], "invalid_proof"),
            ([good, good], "invalid_proof"),
            (["a.b.c"], "invalid_proof"),
            ([good[:-4]], "invalid_proof"),
            ([good[:-8] + "AAAAAAAA"], "invalid_proof"),
            ([proof(audience="https://other.example")], "invalid_proof"),
            ([proof(at_ms=now_ms - 400_000)], "invalid_proof"),
            ([proof(at_ms=now_ms + 400_000)], "invalid_proof"),
            ([sign_self(world.holder, "dpop+jwt", claims)], "invalid_proof"),
            ([proof(nonce="made up")], "invalid_nonce"),
            ([proof(nonce=other)], "invalid_nonce"),
            (["\0"], "invalid_request"),
        ):
            world.oauth_refused(await ask(world, token, proofs), 400, error)
        for more, error in (
            ({"credential_configuration_id": None}, "invalid_credential_request"),
            ({"credential_configuration_id": "pid"}, "unknown_credential_configuration"),
            ({"credential_identifier": "x"}, "unknown_credential_identifier"),
            ({"proofs": None}, "invalid_proof"),
            ({"proofs": 7}, "invalid_request"),
        ):
            world.oauth_refused(await ask(world, token, [good], **more), 400, error)
        for text in ("", "nonsense", token[:-1], token + "A", token.replace(".", ".9", 1), "a b"):
            answer = await ask(world, text, [good])
            world.oauth_refused(answer, 401, "invalid_token")
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        answer = await world.call("POST", "/openid4vci/credential", {"proofs": {"jwt": [good]}})
        world.oauth_refused(answer, 401, "invalid_token")
        answer = await world.call(
            "POST", "/openid4vci/credential", body=b"x" * 10_000_000,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip
        world.oauth_refused(answer, 413, "invalid_request")
        real = world.hub.base.wall_clock
        world.hub.base.wall_clock = lambda: real() + codes.ACCESS_LIFE_MS + 1000
        world.oauth_refused(await ask(world, token, [good]), 401, "invalid_token")
        world.hub.base.wall_clock = real
    assert (await ask(world, token, [good], colour="is ignored")).status_code == 200


async def test_the_same_request_gives_the_same_bytes(world):
    """Twenty at once, then once more after another code: one token, one entry, one event."""
    frame = await published(world, await world.promise())
    clipped = await world.clip(frame)
    token = (await world.exchange(world.code_of(clipped))).json()["access_token"]
    answers = await asyncio.gather(*(world.credential(token) for _ in range(20)))
    issued = {answer.json()["credentials"][0]["credential"] for answer in answers}
    assert len(issued) == 1
    again = await world.take(await world.clip(frame))
    assert {again} == issued
    assert world.totals().clipped == 1
    await world.settle_outbox()
    assert len(world.shop.of_type("sconto.token.issued.v1")) == 1
    with world.unchanged():
        other = await world.credential(token, new_key())
        world.oauth_refused(other, 400, "credential_request_denied")


async def test_the_token_is_for_the_wallet_that_clipped(world):
    frame = await published(world, await world.promise())
    stranger = type(world.wallet)("https://stranger.example", "wallet", "stranger")
    token = await access(world, frame)
    now_ms = world.hub.base.wall_clock()

    async def by(peer):
        nonce = await world.nonce()
        proof = make_key_proof(world.holder, audience=HUB, nonce=nonce, issued_at_ms=now_ms)
        return await ask(world, token, [proof], peer=peer)

    with world.unchanged():
        world.oauth_refused(await by(stranger), 401, "invalid_client")
        world.oauth_refused(await by(world.shop), 401, "invalid_client")
    await world.register(stranger)
    with world.unchanged():
        world.oauth_refused(await by(stranger), 400, "credential_request_denied")
    assert (await by(None)).status_code == 200
    assert world.column(tokens.c.wallet) == [world.wallet.url]


async def test_nothing_is_issued_of_a_paused_promotion(world):
    frame = await published(world, await world.promise())
    token = await access(world, frame)
    await world.call("POST", "/v1/promotions/oaty-10/pause", key=world.brand_key)
    with world.unchanged():
        world.oauth_refused(await world.credential(token), 400, "credential_request_denied")
    await world.call("POST", "/v1/promotions/oaty-10/launch", key=world.brand_key)
    assert (await world.credential(token)).status_code == 200


async def test_a_limit_per_shopper_is_a_limit_on_tokens(world):
    """Two uses per shopper: two tokens to one key, from whatever frame, and not a third at once."""
    terms = await world.promise(limits=[{"per": ["shopper"], "uses": 2}, {"uses": 100}])
    frame = await published(world, terms)
    asked = [await access(world, frame, f"c{i}") for i in range(6)]
    with world.unchanged():
        unsigned = await world.credential(asked[0], signed=False)
        world.oauth_refused(unsigned, 400, "credential_request_denied")
    answers = await asyncio.gather(*(world.credential(token) for token in asked))
    assert sorted(a.status_code for a in answers) == [200] * 2 + [400] * 4
    for answer in answers:
        if answer.status_code == 400:
            world.oauth_refused(answer, 400, "credential_request_denied")
            assert "shopper_limit_reached" in answer.json()["error_description"]
    left = next(token for token, a in zip(asked, answers, strict=True) if a.status_code == 400)
    assert (await world.credential(left, new_key())).status_code == 200


async def test_a_token_of_several_uses_takes_them_from_the_shoppers_limit(world):
    terms = await world.promise(
        limits=[{"per": ["shopper"], "uses": 5}, {"per": ["token"], "uses": 2}]
    )
    frame = await published(world, terms)
    statuses = []
    for i in range(3):
        issued = await world.credential(await access(world, frame, f"c{i}"))
        statuses.append(issued.status_code)
    assert statuses == [200, 200, 400]  # 2 + 2 of 5: a third would be 6
    await world.settle_outbox()
    assert [e["uses"] for e in world.shop.of_type("sconto.token.issued.v1")] == [2, 2]


async def test_the_token_ends_when_the_terms_say(world):
    """Seven days after the clip, at the end of the day there; or with the campaign."""
    zone = {"time_zone": "America/Chicago"}
    week = await world.promise("week", schedule={"days_after_clip": 7, **zone})
    fixed = await world.promise("fixed", schedule={"until": "2999-01-01T00:00:00Z", **zone})
    frame = await published(world, week, fixed)
    claims = world.claims(await world.take(await world.clip(frame, "week", "c1")))
    assert 7 * 86_400 < claims.exp - claims.iat <= 8 * 86_400
    assert claims.nbf == claims.iat == world.column(tokens.c.clipped_at_ms)[0] // 1000
    claims = world.claims(await world.take(await world.clip(frame, "fixed", "c2")))
    assert claims.exp == 32_472_144_000


async def test_a_deleted_token_is_revoked(world):
    frame = await published(world, await world.promise())
    access_token = await access(world, frame)
    issued = await world.credential(access_token)
    claims = world.claims(issued.json()["credentials"][0]["credential"])
    good = {"notification_id": issued.json()["notification_id"], "event": "credential_accepted"}

    async def notify(token=access_token, **changes):
        return await world.call(
            "POST",
            "/openid4vci/notification",
            good | changes,
            headers={"Authorization": f"Bearer {token}"},
        )

    with world.unchanged():
        assert (await notify()).status_code == 204
        world.oauth_refused(await notify("x"), 401, "invalid_token")
        world.oauth_refused(await notify(notification_id="x"), 400, "invalid_notification_id")
        world.oauth_refused(await notify(event="eaten"), 400, "invalid_request")
    for _ in range(2):
        assert (await notify(event="credential_deleted")).status_code == 204
    assert world.column(tokens.c.status) == ["deleted"]
    await world.settle_outbox()
    assert len(world.shop.of_type("sconto.token.revoked.v1")) == 1
    world.refused(await world.clip(frame), 410, "gone", "clip_id")
    world.oauth_refused(await world.credential(access_token), 400, "credential_request_denied")
    reference = claims.status.status_list
    listed = await world.call("GET", httpx.URL(reference.uri).path)
    keys = KeySet([world.hub.base.home.key.public])
    now_ms = world.hub.base.wall_clock()
    status = verify_status_list(listed.text, keys, uri=reference.uri, at_ms=now_ms)
    assert status.statuses.is_revoked(reference.idx)
