"""A clip becomes exactly one token, whatever is lost on the way and however often it is asked."""

import asyncio
from typing import Any

import msgspec
import pytest

from sconto.base.ids import handle_of
from sconto.base.keys import SigningKey
from sconto.servers.hub import codes
from sconto.store import schema
from sconto.tokens import issue_token
from sconto.wallet import claims_of

pytestmark = pytest.mark.anyio

BOTH_DATABASES = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
#: Everything that a clip asks of a hub, in order.
STEPS = (
    "/v1/frames/",
    "/v1/terms/",
    "/v1/impressions",
    "/v1/clips",
    "/openid4vci/token",
    "/openid4vci/nonce",
    "/openid4vci/credential",
)


@pytest.fixture
async def frame_id(world: Any) -> str:
    """A published frame with one offer."""
    made: str = await world.publish(await world.promise())
    return made


async def counted_once(world: Any) -> None:
    """One token at every server, and the same counts in all three datastores."""
    await world.settle()
    for server in (world.hub, world.shop, world.wallet):
        assert server.parked() == [], server.url
        totals = server.totals()
        assert (totals.shown, totals.clipped) == (1, 1), (server.url, totals)
    assert world.hub.rows()["tokens"] == world.wallet.rows()["tokens"] == 1
    assert world.shop.rows()["coupon_information"] == 1


@BOTH_DATABASES
async def test_a_clip_becomes_a_token_in_the_wallet(world: Any, frame_id: str) -> None:
    """Goal: the shopper's step of the flow. Method: clip, then look at all three servers."""
    key = await world.account()
    made = await world.clip(key, frame_id=frame_id)
    assert made.status == 201, made
    claims = claims_of(made["jws"])
    assert made.json == {
        "token_id": claims.jti,
        "handle": handle_of(claims.jti),
        "status": "usable",
        "account_id": "ada",
        "promotion_id": "oaty-10",
        "title": "1.00 off Oaty",
        "sentence": made["sentence"],
        "merchant": "https://shop.example",
        "hub": "https://hub.example",
        "frame_id": frame_id,
        "terms_digest": claims.terms_digest,
        "clip_id": "clip-1",
        "uses": 1,
        "uses_left": 1,
        "clipped_at": made["clipped_at"],
        "expires_at": "9000-01-01T00:00:00Z",
        "jws": made["jws"],
    }
    account = await world.wallet.get("/v1/accounts/ada", key=key)
    assert claims.cnf.jkt == account["holder_jkt"]
    await counted_once(world)


@BOTH_DATABASES
async def test_the_same_clip_again_answers_the_same(world: Any, frame_id: str) -> None:
    key = await world.account()
    first = await world.clip(key, frame_id=frame_id)
    asked = len(world.wire.requests)
    again = await world.clip(key, frame_id=frame_id)
    assert (again.status, again.json) == (201, first.json)
    hub_calls = [r for r in world.wire.requests[asked:] if "hub" in r and "events" not in r]
    assert [r for r in hub_calls if "notification" not in r] == []
    await counted_once(world)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_clip_cut_off_anywhere_goes_on(
    world: Any, frame_id: str, step: str, when: str
) -> None:
    """Goal: exactly one token. Method: lose the request or the reply of each step, end the process,
    and ask for the same clip again.
    """
    key = await world.account()
    world.wire.cut(step, when)
    lost = await world.clip(key, frame_id=frame_id)
    assert lost.problem == (503, "hub_unreachable", None)
    assert int(lost.headers["retry-after"]) >= 1
    assert world.wallet.rows()["tokens"] == 0
    await world.restart_wallet()
    made = await world.clip(key, frame_id=frame_id)
    assert made.status == 201, made
    await counted_once(world)


@BOTH_DATABASES
async def test_a_clip_that_is_cut_at_every_step_ends_in_one_token(
    world: Any, frame_id: str
) -> None:
    """Method: each reply is lost once, one after another, before the token arrives."""
    key = await world.account()
    for step in STEPS:
        world.wire.cut(step, "after")
        assert (await world.clip(key, frame_id=frame_id)).status == 503, step
    assert (await world.clip(key, frame_id=frame_id)).status == 201
    await counted_once(world)


async def test_an_access_token_that_is_over_is_asked_for_anew(
    world: Any, frame_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method: cut off with an access token in hand that is good for a millisecond; come back."""
    key = await world.account()
    with monkeypatch.context() as patch:
        patch.setattr(codes, "ACCESS_LIFE_MS", 1)
        world.wire.cut("/openid4vci/nonce", "before")
        assert (await world.clip(key, frame_id=frame_id)).status == 503
    await asyncio.sleep(0.01)
    exchanged = sum("/openid4vci/token" in r for r in world.wire.requests)
    assert (await world.clip(key, frame_id=frame_id)).status == 201
    assert sum("/openid4vci/token" in r for r in world.wire.requests) == exchanged + 1
    await counted_once(world)


@BOTH_DATABASES
async def test_twenty_requests_at_once_make_one_token(world: Any, frame_id: str) -> None:
    key = await world.account()
    made = await asyncio.gather(*(world.clip(key, frame_id=frame_id) for _ in range(20)))
    assert {m.status for m in made} == {201}
    assert len({m["token_id"] for m in made}) == 1
    assert world.wallet.server.turns._locks == {}
    await counted_once(world)


@BOTH_DATABASES
@pytest.mark.parametrize(
    ("field", "value"),
    [("promotion_id", "other"), ("frame_id", "ni:///sha-256;" + "A" * 43)],
)
async def test_the_same_id_for_another_clip_is_a_conflict(
    world: Any, frame_id: str, field: str, value: str
) -> None:
    key = await world.account()
    await world.clip(key, frame_id=frame_id)
    before = world.wallet.rows()
    clash = await world.clip(key, **{"frame_id": frame_id, field: value})
    assert clash.problem == (409, f"exists_with_different_{field}", field)
    assert world.wallet.rows() == before


async def test_clip_ids_are_each_account_s_own(world: Any, frame_id: str) -> None:
    """Two shoppers use the same clip id: two tokens, held by two keys, and the hub sees neither."""
    ada, bob = await world.account("ada"), await world.account("bob")
    first = await world.clip(ada, frame_id=frame_id)
    second = await world.clip(bob, frame_id=frame_id)
    assert first["token_id"] != second["token_id"]
    keys = {claims_of(made["jws"]).cnf.jkt for made in (first, second)}
    assert len(keys) == 2


@BOTH_DATABASES
async def test_a_wallet_that_lost_its_datastore_gets_the_token_back(
    world: Any, frame_id: str
) -> None:
    """Method: forget everything but the account, as a restored backup has; clip again."""
    key = await world.account()
    first = await world.clip(key, frame_id=frame_id)

    def forget(tx: Any) -> None:
        tx.write(schema.clips.delete())
        tx.write(schema.tokens.delete())

    world.wallet.store.write_now(forget)
    again = await world.clip(key, frame_id=frame_id)
    assert (again["token_id"], again["jws"]) == (first["token_id"], first["jws"])
    assert world.hub.totals().shown == 1


async def test_a_hub_that_is_away_is_asked_again_later(world: Any, frame_id: str) -> None:
    key = await world.account()
    hub = world.wire.apps.pop("https://hub.example")
    away = await world.clip(key, frame_id=frame_id)
    assert away.problem == (503, "hub_unreachable", None)
    assert "remedy" in away.json
    assert (await world.wallet.get("/v1/tokens", key=key))["tokens"] == []
    world.wire.apps["https://hub.example"] = hub
    assert (await world.clip(key, frame_id=frame_id)).status == 201
    await counted_once(world)


async def test_a_refusal_of_the_hub_is_told_and_may_end(world: Any, frame_id: str) -> None:
    """A paused promotion is refused in our own words; launched again, the same clip works."""
    key = await world.account()
    await world.hub.post("/v1/promotions/oaty-10/pause", key=world.brand)
    refused = await world.clip(key, frame_id=frame_id)
    assert refused.problem[:2] == (409, "clip_refused")
    assert refused["peer_code"] == "promotion_not_active"
    await world.hub.post("/v1/promotions/oaty-10/launch", key=world.brand)
    assert (await world.clip(key, frame_id=frame_id)).status == 201


async def test_a_limit_per_shopper_is_kept(world: Any) -> None:
    terms = await world.promise(
        limits=[{"uses": 100}, {"per": ["shopper"], "uses": 1}],
    )
    frame_id = await world.publish(terms)
    key = await world.account()
    assert (await world.clip(key, frame_id=frame_id)).status == 201
    second = await world.clip(key, frame_id=frame_id, clip_id="clip-2")
    assert second.problem[:2] == (409, "clip_refused")
    assert "shopper_limit_reached" in second["detail"]
    assert world.wallet.rows()["tokens"] == 1


async def test_what_is_not_in_the_frame_cannot_be_clipped(world: Any, frame_id: str) -> None:
    key = await world.account()
    absent = await world.clip(key, frame_id=frame_id, promotion_id="other")
    assert absent.problem == (400, "not_offered", "promotion_id")
    unknown = await world.clip(key, frame_id="ni:///sha-256;" + "A" * 43, clip_id="clip-2")
    assert unknown.problem == (404, "not_found", "frame_id")
    assert world.wallet.rows()["tokens"] == 0


# --- a hub that does not keep its promise --------------------------------------------------------


def other_claims(world: Any, **changed: Any) -> Any:
    """A change of the credential answer: the hub signs other claims than it promised."""

    def change(answer: Any) -> Any:
        claims = claims_of(answer["credentials"][0]["credential"])
        if changed.get("cnf"):
            changed["cnf"] = msgspec.structs.replace(
                claims.cnf, jkt=SigningKey.from_seed(bytes(32)).kid
            )
        forged = msgspec.structs.replace(claims, **changed)
        key = world.hub.server.base.home.key
        return answer | {"credentials": [{"credential": issue_token(key, forged)}]}

    return change


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"promotion_id": "other"}, "token_not_as_promised"),
        ({"terms_digest": "sha-256=:" + "A" * 43 + "=:"}, "token_not_as_promised"),
        ({"frame": "ni:///sha-256;" + "A" * 43}, "token_not_as_promised"),
        ({"cnf": True}, "token_not_as_promised"),
        ({"aud": "https://other.example"}, "audience_mismatch"),
        ({"iss": "https://other.example"}, "issuer_unknown"),
        ({"exp": 1_500_000_000, "nbf": 1_400_000_000}, "token_expired"),
        ({"jti": "x" * 27}, "invalid_input"),
    ],
)
async def test_a_token_that_was_not_promised_is_not_kept(
    world: Any, frame_id: str, changed: dict[str, Any], code: str
) -> None:
    key = await world.account()
    world.wire.changes["/openid4vci/credential"] = other_claims(world, **changed)
    broken = await world.clip(key, frame_id=frame_id)
    assert broken.problem[:2] == (502, "peer_broke_promise")
    assert broken["peer_code"] == code
    assert world.wallet.rows()["tokens"] == 0
    world.wire.changes.clear()
    assert (await world.clip(key, frame_id=frame_id)).status == 201
    await counted_once(world)


async def test_a_nonce_serves_until_the_hub_says_no(world: Any, frame_id: str) -> None:
    """Two clips with one nonce; the hub forgets its nonces; the third gets a new one."""
    key = await world.account()
    for number in range(2):
        made = await world.clip(key, frame_id=frame_id, clip_id=f"clip-{number}")
        assert made.status == 201, made
    asked = [r for r in world.wire.requests if "/nonce" in r]
    assert len(asked) == 1
    world.wallet.server.issuer("https://hub.example")._nonce = "not-the-hubs"
    assert (await world.clip(key, frame_id=frame_id, clip_id="clip-2")).status == 201
    assert len([r for r in world.wire.requests if "/nonce" in r]) == 2


async def test_a_token_of_another_signer_is_not_kept(world: Any, frame_id: str) -> None:
    key = await world.account()
    thief = SigningKey.from_seed(bytes(32))

    def change(answer: Any) -> Any:
        claims = claims_of(answer["credentials"][0]["credential"])
        return answer | {"credentials": [{"credential": issue_token(thief, claims)}]}

    world.wire.changes["/openid4vci/credential"] = change
    broken = await world.clip(key, frame_id=frame_id)
    assert broken.problem[:2] == (502, "peer_broke_promise")
    assert broken["peer_code"] == "key_not_found"
    assert world.wallet.rows()["tokens"] == 0


async def test_a_new_key_of_the_hub_is_looked_up(world: Any, frame_id: str) -> None:
    """The hub signs with a key that the wallet has not seen; its profile publishes it."""
    key = await world.account()
    world.hub.set_keys(SigningKey.from_seed(bytes([7]) * 32), *world.hub.server.base.home.keys)
    assert (await world.clip(key, frame_id=frame_id)).status == 201


async def test_the_token_of_another_clip_is_not_taken_for_this_one(
    world: Any, frame_id: str
) -> None:
    """The hub answers with a token that the wallet holds already, changed: it is not kept."""
    key = await world.account()
    first = await world.clip(key, frame_id=frame_id)
    world.wire.changes["/openid4vci/credential"] = other_claims(
        world, jti=first["token_id"], iat=1_500_000_000, nbf=1_500_000_000
    )
    broken = await world.clip(key, frame_id=frame_id, clip_id="clip-2")
    assert broken.problem[:2] == (502, "peer_error")
    assert world.wallet.rows()["tokens"] == 1


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/frames/", lambda answer: {"manifest": answer["manifest"] | {"seq": 9}}),
        ("/v1/frames/", lambda answer: {"manifest": []}),
        ("/v1/frames/", lambda answer: ["nothing"]),
        ("/v1/terms/", lambda answer: answer | {"terms": answer["terms"] | {"title": "2.00 off"}}),
        ("/v1/terms/", lambda answer: answer | {"signature": "e30..AA"}),
        ("/v1/terms/", lambda answer: {}),
        ("/v1/clips", lambda answer: {"credential_offer": {}}),
        ("/openid4vci/token", lambda answer: {"access_token": "line\nbreak"}),
        ("/openid4vci/token", lambda answer: {"access_token": 7}),
        ("/openid4vci/nonce", lambda answer: {"c_nonce": ""}),
        ("/openid4vci/credential", lambda answer: {"credentials": []}),
        ("/openid4vci/credential", lambda answer: {"credentials": [{"credential": "x.y"}]}),
    ],
)
async def test_whatever_a_hub_answers_is_its_fault_and_not_ours(
    world: Any, frame_id: str, path: str, change: Any
) -> None:
    """Goal: never a 500, never a token. Method: a wrong answer of each kind, then a right one."""
    key = await world.account()
    world.wire.changes[path] = change
    broken = await world.clip(key, frame_id=frame_id)
    assert broken.problem[0] == 502, broken
    assert broken["code"] in ("peer_broke_promise", "peer_error")
    assert world.wallet.rows()["tokens"] == 0
    world.wire.changes.clear()
    assert (await world.clip(key, frame_id=frame_id)).status == 201
