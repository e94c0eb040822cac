"""Revocation, and what each tenant may see and do."""

import httpx
import pytest

from sconto.base.keys import KeySet
from sconto.servers.hub import status
from sconto.store import tokens as store
from sconto.store.schema import tokens
from sconto.tokens import STATUS_LIST_SIZE, verify_status_list

pytestmark = pytest.mark.anyio


async def listed(world, reference):
    answer = await world.call("GET", httpx.URL(reference.uri).path)
    assert answer.headers["content-type"] == "application/statuslist+jwt"
    keys = KeySet([world.hub.base.home.key.public])
    now_ms = world.hub.base.wall_clock()
    return verify_status_list(answer.text, keys, uri=reference.uri, at_ms=now_ms).statuses


async def test_a_revoked_token_is_in_the_list_and_told(world, till_of):
    till = await till_of()
    claims = world.claims(await world.take(await world.clip(till.frame)))
    reference = claims.status.status_list
    assert not (await listed(world, reference)).is_revoked(reference.idx)
    path = f"/v1/tokens/{claims.jti}/revoke"
    for _ in range(2):
        answer = await world.call("POST", path, {"reason": "by mistake"}, key=world.brand_key)
        assert answer.json() == {"token_id": claims.jti, "status": "revoked"}
    statuses = await listed(world, reference)
    assert statuses.is_revoked(reference.idx)
    assert sum(byte.bit_count() for byte in statuses.bits) == 1
    await world.settle_outbox()
    told = {"token_id": claims.jti, "reason": "by mistake"}
    assert world.shop.of_type("sconto.token.revoked.v1") == [told]
    assert world.wallet.of_type("sconto.token.revoked.v1") == [told]
    world.refused(await world.clip(till.frame), 410, "gone", "clip_id")
    # The shop used it before it could know: honoured.
    await till.report(till.entry(token_id=claims.jti))
    assert till.state() == ("redeemed", None)


async def test_a_redeemed_token_is_not_revoked(world, till_of):
    till = await till_of()
    token_id = await till.token_id()
    await till.report(till.entry(token_id=token_id))
    with world.unchanged():
        answer = await world.call(
            "POST", f"/v1/tokens/{token_id}/revoke", {"reason": "late"}, key=world.brand_key
        )
        world.refused(answer, 409, "token_redeemed", "token_id")


async def test_another_tenants_token_does_not_exist(world, till_of):
    """The same words for a foreign token and for none; the wrong scope is said aloud."""
    till = await till_of()
    token_id = await till.token_id()
    other = await world.make_key("other", "brand", "promotions:read", "promotions:write")
    reader = await world.make_key("oaty", "brand", "promotions:read")
    with world.unchanged():
        document = {"reason": "mine"}
        foreign = await world.call("POST", f"/v1/tokens/{token_id}/revoke", document, key=other)
        absent = await world.call("POST", "/v1/tokens/none/revoke", document, key=other)
        assert world.refused(foreign, 404, "not_found") == world.refused(absent, 404, "not_found")
        answer = await world.call("POST", f"/v1/tokens/{token_id}/revoke", document, key=reader)
        world.refused(answer, 403, "forbidden", "Authorization")
        for path in ("/v1/promotions/oaty-10", "/v1/statistics?promotion_id=oaty-10"):
            world.refused(await world.call("GET", path, key=other), 404, "not_found")
        for act in ("pause", "end", "top-ups"):
            answer = await world.call(
                "POST", f"/v1/promotions/oaty-10/{act}", {"top_up_id": "x", "uses": 1}, key=other
            )
            world.refused(answer, 404, "not_found")
        for reason in ({}, {"reason": ""}, {"reason": 1}, {"reason": "x" * 201}):
            answer = await world.call(
                "POST", f"/v1/tokens/{token_id}/revoke", reason, key=world.brand_key
            )
            world.refused(answer, 400, "invalid_input", "reason")
    answer = await world.call(
        "POST", f"/v1/tokens/{token_id}/revoke", {"reason": "operator"}, key=world.admin_key
    )
    assert answer.status_code == 200


async def test_an_offer_that_was_revoked_gives_no_token(world, till_of):
    till = await till_of()
    clipped = await world.clip(till.frame)
    token_id = world.column(tokens.c.token_id)[0]
    await world.call("POST", f"/v1/tokens/{token_id}/revoke", {"reason": "x"}, key=world.brand_key)
    world.oauth_refused(await world.exchange(world.code_of(clipped)), 400, "invalid_grant")
    await world.settle_outbox()
    assert world.shop.of_type("sconto.token.revoked.v1") == []


async def test_lists_that_are_not_there(world):
    assert (await world.call("GET", "/v1/status-lists/0")).status_code == 200
    for shard in ("1", "00", "-1", "x", "²", "9" * 30, "%00"):
        world.refused(await world.call("GET", f"/v1/status-lists/{shard}"), 404, "not_found")


async def test_a_full_list_is_followed_by_the_next(world, till_of, monkeypatch):
    """Every place that is drawn in the first list is taken: the token goes to the second."""
    till = await till_of()
    monkeypatch.setattr(store, "is_place_taken", lambda connection, place: place < STATUS_LIST_SIZE)
    claims = world.claims(await world.take(await world.clip(till.frame)))
    assert claims.status.status_list.uri == status.list_uri(world.hub, 1)
    assert (await world.call("GET", "/v1/status-lists/1")).status_code == 200
