"""The hub's half of a move: who may ask, what is refused, what a release brings about.

Method: the shop, the other one and the wallet are only keys; the tests say their events.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sconto.base.clock import MS_PER_DAY, rfc3339
from sconto.base.keys import KeySet, SigningKey
from sconto.servers.hub import codes
from sconto.store import moves, tokens
from sconto.store.schema import tokens as token_table
from sconto.tokens import make_proof, verify_status_list
from sconto.wallet import claims_of

pytestmark = pytest.mark.anyio

HUB = "https://hub.example"
OTHER = "https://other.example"
THIRD = "https://third.example"


class Mover:
    """A holder's token at the shop, and another merchant that takes part."""

    def __init__(self, world: Any, till: Any, jws: str) -> None:
        self.world, self.till, self.jws = world, till, jws
        self.id = claims_of(jws).jti
        self.other = type(world.shop)(OTHER, "merchant", "other")

    def proof(
        self,
        jws: str,
        move_id: str,
        merchant: str,
        *,
        key: SigningKey | None = None,
        token_id: str = "",
    ) -> str:
        return make_proof(
            key or self.world.holder,
            jws,
            method="POST",
            url=f"{HUB}/v1/tokens/{token_id or claims_of(jws).jti}/moves",
            order=f"{move_id} {merchant}",
            nonce=None,
            issued_at_ms=self.world.hub.base.wall_clock(),
            proof_id=secrets.token_hex(8),
        )

    async def ask(
        self,
        merchant: str = OTHER,
        move_id: str = "m1",
        jws: str | None = None,
        **changed: Any,
    ) -> Any:
        jws = self.jws if jws is None else jws
        document = {
            "move_id": move_id,
            "merchant": merchant,
            "token": jws,
            "proof": changed.pop("proof", None) or self.proof(jws, move_id, merchant),
        }
        path = f"/v1/tokens/{claims_of(jws).jti}/moves"
        return await self.world.call("POST", path, document | changed)

    async def requested(self) -> dict[str, Any]:
        """The last request that the shop got."""
        await self.world.settle_outbox()
        asked: dict[str, Any] = self.world.shop.of_type("sconto.token.release_requested.v1")[-1]
        return asked

    async def release(self, uses: int = 1, **changed: Any) -> None:
        asked = await self.requested()
        data = {name: asked[name] for name in ("token_id", "move_id", "proof")} | {"uses": uses}
        await self.world.deliver(self.world.shop, ("sconto.token.released.v1", data | changed))
        await self.world.settle_outbox()

    async def refuse(self, reason: str) -> None:
        asked = await self.requested()
        data = {name: asked[name] for name in ("token_id", "move_id")} | {"reason": reason}
        await self.world.deliver(self.world.shop, ("sconto.token.release_refused.v1", data))
        await self.world.settle_outbox()

    def state(self, move_id: str = "m1") -> Any:
        with self.world.hub.base.store.read() as connection:
            return moves.get(connection, self.id, move_id)

    def status(self, token_id: str = "") -> str:
        with self.world.hub.base.store.read() as connection:
            token = tokens.get(connection, token_id or self.id)
        assert token is not None
        return token.status


@pytest.fixture
def mover_of(world: Any, till_of: Any) -> Callable[..., Awaitable[Mover]]:
    async def make(**terms: Any) -> Mover:
        till = await till_of(**terms)
        made = Mover(world, till, await world.take(await world.clip(till.frame)))
        await world.register(made.other)
        accepted = ("sconto.promotion.accepted.v1", {"promotion_id": "oaty-10"})
        await world.deliver(made.other, accepted)
        await world.settle_outbox()
        return made

    return make


@pytest.fixture
async def mover(mover_of: Any) -> Mover:
    made: Mover = await mover_of()
    return made


async def test_a_release_brings_the_successor(world: Any, mover: Mover) -> None:
    """One clip, one right: everybody hears what they must, and the first merchant no more."""
    answer = await mover.ask()
    assert answer.json() == {
        "token_id": mover.id, "move_id": "m1", "merchant": OTHER, "state": "pending",
    }  # fmt: skip
    asked = await mover.requested()
    assert OTHER not in str(asked), "where it goes is none of the first merchant's business"
    first = claims_of(mover.jws)
    assert (asked["token_id"], asked["client"], asked["uses"]) == (mover.id, first.sub, 1)
    assert mover.status() == "issued"
    counted = world.totals()
    circulation = world.rows()["tokens"]
    await mover.release()
    told = world.wallet.of_type("sconto.token.moved.v1")[0]
    successor = claims_of(told["token"])
    with world.unchanged():
        again = await mover.ask()
    assert again.json() == answer.json() | {"state": "moved", "token": told["token"]}
    assert successor.aud == OTHER
    assert successor.sub != first.sub, "a pseudonym of its own"
    assert successor.jti != first.jti
    assert (successor.uses, successor.exp, successor.frame, successor.terms_digest) == (
        1, first.exp, first.frame, first.terms_digest,
    )  # fmt: skip
    information = mover.other.of_type("sconto.token.issued.v1")[0]
    assert (information["token_id"], information["is_moved"]) == (successor.jti, True)
    assert (information["client"], information["uses"]) == (successor.sub, 1)
    assert mover.status() == "moved"
    assert world.totals() == counted, "no second clip"
    assert world.rows()["tokens"] == circulation + 1
    listed = await world.call("GET", "/v1/status-lists/0")
    keys = KeySet([world.hub.base.home.key.public])
    published = verify_status_list(
        listed.text, keys, uri=f"{HUB}/v1/status-lists/0", at_ms=world.hub.base.wall_clock()
    )
    places = {c.jti: c.status.status_list.idx for c in (first, successor) if c.status}
    assert published.statuses.is_revoked(places[first.jti])
    assert not published.statuses.is_revoked(places[successor.jti])
    assert world.parked() == []


async def test_events_that_come_again_change_nothing(world: Any, mover: Mover) -> None:
    await mover.ask()
    await mover.release()
    rows = world.rows()
    await mover.release()
    await mover.refuse("token_used")
    changed = {n: c for n, c in world.rows().items() if rows.get(n) != c}
    assert set(changed) <= {"inbox"}, changed
    assert mover.status() == "moved"


async def test_what_cannot_be_moved_is_refused(world: Any, mover: Mover) -> None:
    """Each time the thing that is wrong is named, and nothing is stored."""
    stranger = SigningKey.from_seed(secrets.token_bytes(32))
    with world.unchanged():
        for answer, status, code, field in (
            (await mover.ask("https://shop.example"), 400, "invalid_input", "merchant"),
            (await mover.ask(THIRD), 409, "promotion_not_accepted", "merchant"),
            (await mover.ask("nowhere"), 400, "invalid_input", "merchant"),
            (await mover.ask(move_id=""), 400, "invalid_input", "move_id"),
            (await mover.ask(move_id="a b"), 400, "invalid_input", "move_id"),
            (await mover.ask(colour="red"), 400, "invalid_input", "colour"),
            (
                await mover.ask(proof=mover.proof(mover.jws, "m1", OTHER, key=stranger)),
                400, "holder_mismatch", "proof.header.jwk",
            ),
            (
                await mover.ask(proof=mover.proof(mover.jws, "m1", THIRD)),
                400, "proof_mismatch", "proof.order",
            ),
            (
                await mover.ask(proof=mover.proof(mover.jws, "m2", OTHER)),
                400, "proof_mismatch", "proof.order",
            ),
            (
                await mover.ask(proof=mover.proof(mover.jws, "m1", OTHER, token_id="x")),
                400, "proof_mismatch", "proof.htu",
            ),
            (await mover.ask(token=mover.jws[:-4] + "AAAA"), 404, "not_found", "token"),
        ):  # fmt: skip
            world.refused(answer, status, code, field)
        path = f"/v1/tokens/{'0' * 26}/moves"
        document = {
            "move_id": "m1", "merchant": OTHER, "token": mover.jws,
            "proof": mover.proof(mover.jws, "m1", OTHER),
        }  # fmt: skip
        world.refused(await world.call("POST", path, document), 404, "not_found", "token")
    await world.call("POST", "/v1/promotions/oaty-10/pause", key=world.brand_key)
    world.refused(await mover.ask(), 409, "promotion_not_active", "token")


async def test_one_move_at_a_time_and_each_id_once(world: Any, mover: Mover) -> None:
    third = type(world.shop)(THIRD, "merchant", "third")
    await world.register(third)
    await world.deliver(third, ("sconto.promotion.accepted.v1", {"promotion_id": "oaty-10"}))
    assert (await mover.ask()).status_code == 200
    with world.unchanged():
        world.refused(await mover.ask(THIRD), 409, "exists_with_different_merchant", "merchant")
        problem = world.refused(await mover.ask(move_id="m2"), 409, "move_pending", "move_id")
        assert problem["pending"] == "m1"
        assert (await mover.ask()).json()["state"] == "pending"
    await mover.refuse("token_reserved")
    assert world.wallet.of_type("sconto.token.move_refused.v1") == [
        {"token_id": mover.id, "move_id": "m1", "reason": "token_reserved"}
    ]
    with world.unchanged():
        ended = (await mover.ask()).json()
    assert (ended["state"], ended["reason"]) == ("refused", "token_reserved")
    assert (await mover.ask(THIRD, "m2")).status_code == 200
    await mover.release()
    world.refused(await mover.ask(move_id="m3"), 409, "token_moved", "token")


async def test_a_token_that_ended_is_not_moved(world: Any, mover: Mover) -> None:
    """Revoked while a move is pending: it comes to nothing, whatever the merchant then says."""
    await mover.ask()
    path = f"/v1/tokens/{mover.id}/revoke"
    revoked = await world.call("POST", path, {"reason": "a mistake"}, key=world.brand_key)
    assert revoked.status_code == 200, revoked.text
    await mover.release()
    assert (mover.state().state, mover.state().reason) == ("refused", "token_revoked")
    assert mover.status() == "revoked"
    assert mover.other.of_type("sconto.token.issued.v1") == []
    world.refused(await mover.ask(move_id="m2"), 409, "token_revoked", "token")
    told = world.wallet.of_type("sconto.token.move_refused.v1")
    assert [one["reason"] for one in told] == ["token_revoked"]


async def test_a_moved_token_is_revoked_by_its_successor(world: Any, mover: Mover) -> None:
    await mover.ask()
    await mover.release()
    answer = await world.call(
        "POST", f"/v1/tokens/{mover.id}/revoke", {"reason": "x"}, key=world.brand_key
    )
    successor = world.refused(answer, 409, "token_moved", "token_id")["successor_id"]
    path = f"/v1/tokens/{successor}/revoke"
    answer = await world.call("POST", path, {"reason": "x"}, key=world.brand_key)
    assert answer.json()["status"] == "revoked"
    await world.settle_outbox()
    assert mover.other.of_type("sconto.token.revoked.v1")[0]["token_id"] == successor


async def test_the_same_clip_leads_to_where_the_token_is(world: Any, mover: Mover) -> None:
    await mover.ask()
    await mover.release()
    again = await world.take(await world.clip(mover.till.frame))
    assert claims_of(again).aud == OTHER
    assert again == world.wallet.of_type("sconto.token.moved.v1")[0]["token"]


async def test_uses_are_split_and_never_made(world: Any, mover_of: Any) -> None:
    """Of five uses one was used: four go, whatever the merchant says; more there is disputed."""
    mover = await mover_of(limits=[{"uses": 5, "per": ["token"]}, {"uses": 100}])
    till = mover.till
    await till.report(till.entry(token_id=mover.id))
    await mover.ask()
    await mover.release(uses=5)
    successor = claims_of(world.wallet.of_type("sconto.token.moved.v1")[0]["token"])
    assert successor.uses == 4
    assert sorted(u for u in world.column(token_table.c.uses) if u is not None) == [1, 4]
    await till.report(till.entry(token_id=mover.id, redemption_id="r2", order_id="o2"))
    assert till.state("r2") == ("disputed", "token_moved")
    # What is taken back there can be given there again, and is nobody else's.
    back = {"is_complete": True, "is_direct": False, "token_id": mover.id}
    await till.report(till.entry("reversed", **back))
    await till.report(till.entry(token_id=mover.id, redemption_id="r3", order_id="o3"))
    assert till.state("r3") == ("redeemed", None)
    assert mover.status() == "moved"


async def test_a_merchant_that_has_nothing_left_moves_nothing(world: Any, mover: Mover) -> None:
    """It reports the only use and then says that it is left."""
    await mover.ask()
    await mover.till.report(mover.till.entry(token_id=mover.id))
    await mover.release()
    assert (mover.state().state, mover.state().reason) == ("refused", "token_used")
    assert mover.status() == "redeemed"
    assert mover.other.of_type("sconto.token.issued.v1") == []


async def test_only_the_merchant_that_was_asked_releases(world: Any, mover: Mover) -> None:
    await mover.ask()
    asked = await mover.requested()
    data = {name: asked[name] for name in ("token_id", "move_id", "proof")} | {"uses": 1}
    for peer, changed in (
        (mover.other, {}),
        (world.wallet, {}),
        (world.shop, {"proof": "x"}),
        (world.shop, {"move_id": "m2"}),
        (world.shop, {"token_id": "0" * 26}),
        (world.shop, {"uses": 0}),
        (world.shop, {"uses": 1001}),
    ):
        await world.deliver(peer, ("sconto.token.released.v1", data | changed))
    await world.deliver(
        world.shop,
        ("sconto.token.release_refused.v1", {"token_id": mover.id, "move_id": "m1"}),
    )
    assert len(world.parked()) == 8
    assert mover.state().state == "pending"


async def test_a_release_of_a_move_that_was_forgotten_is_taken(world: Any, mover: Mover) -> None:
    """As after a restore: the proof says where to, and the id is the one that it was before."""
    proof = codes.move_proof(world.hub.base.home.secret, mover.id, "lost", OTHER)
    data = {"token_id": mover.id, "move_id": "lost", "uses": 1, "proof": proof}
    await mover.ask(move_id="m2")
    await world.deliver(world.shop, ("sconto.token.released.v1", data))
    await mover.refuse("token_moved")
    assert (mover.state("lost").state, mover.state("lost").merchant) == ("moved", OTHER)
    assert (mover.state("m2").state, mover.state("m2").reason) == ("refused", "token_moved")
    with world.hub.base.store.read() as connection:
        held = tokens.get(connection, mover.id)
    assert held is not None
    assert mover.state("lost").successor_id == codes.successor_id(
        world.hub.base.home.secret, mover.id, "lost", held.clipped_at_ms
    )
    assert mover.status() == "moved"


async def test_limits_by_shopper_count_a_moved_token_once(world: Any, mover_of: Any) -> None:
    """Two tokens at all: one that was moved leaves room for one. One at each merchant: none."""
    mover = await mover_of(
        limits=[
            {"uses": 2, "per": ["shopper"]},
            {"uses": 1, "per": ["shopper", "merchant"]},
            {"uses": 100},
        ]
    )
    await mover.ask()
    other_frame = world.frame(mover.till.terms, peer=mover.other)
    assert (await world.publish(other_frame, mover.other)).status_code == 201
    clipped = await world.clip(other_frame, clip_id="clip-2")
    exchanged = await world.exchange(world.code_of(clipped))
    access = exchanged.json()["access_token"]
    refused = await world.credential(access)
    world.oauth_refused(refused, 400, "credential_request_denied")  # one is on its way there
    await mover.release()
    world.oauth_refused(await world.credential(access), 400, "credential_request_denied")
    second = await world.take(await world.clip(mover.till.frame, clip_id="clip-3"))
    world.refused(await mover.ask(jws=second), 409, "shopper_limit_reached", "merchant")
    third = await world.clip(mover.till.frame, clip_id="clip-4")
    code = (await world.exchange(world.code_of(third))).json()["access_token"]
    world.oauth_refused(await world.credential(code), 400, "credential_request_denied")


@pytest.mark.parametrize(
    "more",
    [
        {"holdout_basis_points": 5000},
        {"limits": [{"uses": 1, "per": ["token"], "period": "day"}]},
        {"limits": [{"amount_minor": 500, "per": ["token"]}]},
    ],
    ids=["control group", "uses of a token in a day", "money of a token"],
)
async def test_what_the_first_merchant_counts_or_drew_keeps_a_token_there(
    world: Any, mover_of: Any, more: Any
) -> None:
    mover = await mover_of(**more)
    world.refused(await mover.ask(), 409, "token_not_movable", "token")


async def test_an_expired_token_stays_expired(world: Any, mover_of: Any) -> None:
    """Asked in time and released late: the successor ends when the first one did."""
    until = rfc3339(world.hub.base.clock() + MS_PER_DAY)
    mover = await mover_of(schedule={"until": until})
    await mover.ask()
    clock = world.hub.base.clock
    world.hub.base.store.clock = lambda: clock() + 2 * MS_PER_DAY
    world.refused(await mover.ask(move_id="m2"), 409, "token_expired", "token")
    await mover.release()
    successor = claims_of(world.wallet.of_type("sconto.token.moved.v1")[0]["token"])
    assert successor.exp == claims_of(mover.jws).exp


async def test_the_other_merchant_is_told_of_an_older_version(world: Any, mover: Mover) -> None:
    """It has come after the token's own version was replaced."""
    newer = mover.till.terms | {"title": "another title", "version": 2}
    answer = await world.call(
        "POST", "/v1/promotions/oaty-10/versions", {"terms": newer}, key=world.brand_key
    )
    assert answer.status_code in (200, 201), answer.text
    late = type(world.shop)(THIRD, "merchant", "third")
    await world.register(late)
    await world.deliver(late, ("sconto.promotion.accepted.v1", {"promotion_id": "oaty-10"}))
    await mover.ask(THIRD)
    await mover.release()
    types = [event.type for event in late.events]
    told = types.index("sconto.promotion.changed.v1")
    assert late.events[told].data["terms"].get("version", 1) == 1
    assert told < types.index("sconto.token.issued.v1")
