"""A token moves to another merchant, and is good at no moment at both.

Goal: only after the first merchant's durable release is there a successor. Method: a hub, two
merchants and a wallet in one process, each of which may be away, stopped or put back to a backup.
"""

import itertools

import pytest

from sconto.cli.restore import renew_hub, renew_merchant
from sconto.frames import FrameOffer, build_frame, encode_bundle
from sconto.terms import terms_digest, terms_from

pytestmark = pytest.mark.anyio

PROMOTION = "p"


class Shopper:
    """Ada, who holds a token for the first of two merchants."""

    def __init__(self, net, wallet, first, other):
        self.net, self.wallet, self.first, self.other = net, wallet, first, other
        self.token_id = ""
        self._moves = itertools.count(1)

    @classmethod
    async def begin(cls, net, **terms):
        first, other = [await net.add_merchant(name) for name in ("a", "b")]
        wallet = await net.add_wallet()
        await net.promise(PROMOTION, first, other, access={"type": "token"}, **terms)
        ada = cls(net, wallet, first, other)
        await wallet.post("/v1/accounts", {"account_id": "ada"}, 201)
        ada.frame_id = await ada.publish(terms)
        ada.token_id = (await ada.clip("clip-1"))["token_id"]
        await net.settle()
        return ada

    async def publish(self, terms):
        home, now_s = self.first.server.base.home, self.net.clock() // 1000
        shown = (await self.net.hub.call("GET", f"/v1/promotions/{PROMOTION}")).json()["terms"]
        frame = build_frame(
            home.key,
            merchant=home.url,
            hub=self.net.hub.url,
            not_before_s=now_s - 60,
            expires_s=now_s + 86_400,
            sequence=1,
            offers=[FrameOffer("o", PROMOTION, terms_digest(terms_from(shown)))],
            files={"index.html": b"<h1>p</h1>"},
        )
        headers = {"Authorization": f"Bearer {self.first.key}"}
        answer = await self.first.http.post(
            "/v1/frames", content=encode_bundle(frame), headers=headers
        )
        assert answer.status_code in (200, 201), answer.text
        return frame.frame_id

    async def clip(self, clip_id, status=201):
        asked = {
            "clip_id": clip_id,
            "hub": self.net.hub.url,
            "frame_id": self.frame_id,
            "promotion_id": PROMOTION,
            "account_id": "ada",
        }
        return await self.wallet.post("/v1/clips", asked, status)

    async def move(self, to=None, *, move_id="move-1", token_id="", status=200):
        to = to or self.other
        asked = {"move_id": move_id, "merchant": to.url, "account_id": "ada"}
        path = f"/v1/tokens/{token_id or self.token_id}/moves"
        return await self.wallet.post(path, asked, status)

    async def token(self, token_id=""):
        answer = await self.wallet.call("GET", f"/v1/tokens/{token_id or self.token_id}")
        return answer.json()

    async def buy(self, site, cart, token=None, *, path="/v1/redemptions", status=201):
        """Present a token, whatever its own merchant is; gives the answer."""
        shown = token or await self.token()
        order_id = self.net.order_id()
        proof = await self.wallet.post(
            "/v1/presentations",
            {
                "token_id": shown["token_id"],
                "order_id": order_id,
                "account_id": "ada",
                "path": path,
            },
            201,
        )
        presented = [{"token": proof["token"], "proof": proof["proof"]}]
        document = {"order_id": order_id, "cart": cart, "presented": presented}
        return await site.post(path, document, status)

    async def proof_of(self, order_id, token_id=""):
        """A presentation that was made while the wallet still had the token."""
        asked = {"token_id": token_id or self.token_id, "order_id": order_id, "account_id": "ada"}
        made = await self.wallet.post("/v1/presentations", asked, 201)
        return [{"token": made["token"], "proof": made["proof"]}]

    def quiet(self):
        """Nobody has parked anything, but what a restored server says a second time."""
        parked = [reason for site in self.net.sites for reason in site.parked()]
        assert not [reason for reason in parked if not reason.startswith("duplicate")]


async def funnel(site, merchant):
    """Clipped, redeemed and given minor units at a merchant, as a server counts them."""
    answer = await site.call("GET", "/v1/statistics?by=promotion,merchant")
    rows = [row for row in answer.json()["rows"] if row.get("merchant") == merchant.url]
    names = ("clipped", "redeemed", "given_minor")
    return tuple(sum(row.get(name, 0) for row in rows) for name in names)


async def test_a_token_is_moved_and_used_at_the_other_merchant(net, make_cart):
    """All of it once: the old one is refused by its own reason, the funnel has one clip."""
    ada = await Shopper.begin(net, limits=[{"uses": 3, "per": ["token"]}, {"uses": 100}])
    await ada.buy(ada.first, make_cart())
    await net.settle()
    late = await ada.proof_of("late")
    assert (await ada.move())["state"] == "pending"
    await net.settle()
    moved = await ada.move()
    assert moved["state"] == "moved"
    old, new = await ada.token(), await ada.token(moved["successor_id"])
    assert (old["status"], old.get("uses_left", 0), old["move"]["successor_id"]) == (
        "moved", 0, new["token_id"],
    )  # fmt: skip
    assert (new["status"], new["uses"], new["merchant"]) == ("usable", 2, ada.other.url)
    assert (new["clip_id"], new["frame_id"], new["expires_at"]) == (
        old["clip_id"], old["frame_id"], old["expires_at"],
    )  # fmt: skip
    document = {"order_id": "late", "cart": make_cart(), "presented": late}
    assert (await ada.first.post("/v1/redemptions", document, 400))["code"] == "token_moved"
    for _ in range(2):
        sold = await ada.buy(ada.other, make_cart(), new)
        assert len(sold["redemptions"]) == 1
    await net.settle()
    assert (await ada.token(new["token_id"]))["status"] == "redeemed"
    assert net.hub.count() == 3
    assert net.hub.count("disputed") == 0
    given = sum(one["amount_minor"] for one in sold["redemptions"])
    assert given > 0
    for site in (net.hub, ada.wallet, ada.first):
        assert await funnel(site, ada.first) == (1, 1, given), site.url
    for site in (net.hub, ada.wallet, ada.other):
        assert await funnel(site, ada.other) == (0, 2, 2 * given), site.url
    ada.quiet()


async def test_while_the_first_merchant_is_away_the_token_stays_there(net, make_cart):
    """Pending, and good where it was: a use there that crosses the request ends the move."""
    ada = await Shopper.begin(net)
    net.away.add(ada.first.url)
    assert (await ada.move())["state"] == "pending"
    assert (await ada.move())["state"] == "pending"
    problem = await ada.move(move_id="move-2", status=409)
    assert (problem["code"], problem["peer_code"]) == ("move_refused", "move_pending")
    assert (await ada.token())["status"] == "usable"
    assert len((await ada.buy(ada.first, make_cart()))["redemptions"]) == 1
    net.heal()
    await net.settle()
    ended = await ada.move()
    assert (ended["state"], ended["reason"]) == ("refused", "token_used")
    assert (await ada.token())["status"] == "redeemed"
    ada.quiet()


async def test_the_move_waits_for_the_first_merchant(net, make_cart):
    ada = await Shopper.begin(net)
    await ada.first.stop()
    await ada.move()
    await net.settle()
    assert (await ada.move())["state"] == "pending"
    await ada.first.start()
    net.heal()
    await net.settle()
    moved = await ada.move()
    assert moved["state"] == "moved"
    new = await ada.token(moved["successor_id"])
    assert len((await ada.buy(ada.other, make_cart(), new))["redemptions"]) == 1
    await net.settle()
    ada.quiet()


async def test_a_reserved_use_keeps_the_token_where_it_is(net, make_cart):
    ada = await Shopper.begin(net)
    order = await ada.buy(ada.first, make_cart(), path="/v1/reservations")
    await ada.move()
    await net.settle()
    assert (await ada.move())["reason"] == "token_reserved"
    await ada.first.post(f"/v1/reservations/{order['order_id']}/release")
    await ada.move(move_id="move-2")
    await net.settle()
    assert (await ada.move(move_id="move-2"))["state"] == "moved"
    ada.quiet()


async def test_there_and_back_again(net, make_cart):
    """A successor is a token like any other; one use is one use, however far it has come."""
    ada = await Shopper.begin(net)
    await ada.move()
    await net.settle()
    there = (await ada.move())["successor_id"]
    await ada.move(ada.first, token_id=there, move_id="back")
    await net.settle()
    back = (await ada.move(ada.first, token_id=there, move_id="back"))["successor_id"]
    assert (await ada.clip("clip-1"))["token_id"] == ada.token_id
    token = await ada.token(back)
    assert token["merchant"] == ada.first.url
    assert len((await ada.buy(ada.first, make_cart(), token))["redemptions"]) == 1
    answer = await ada.wallet.call("DELETE", f"/v1/tokens/{ada.token_id}")
    assert answer.status_code == 204
    await net.settle()
    assert net.hub.count() == 1
    ada.quiet()


async def test_giving_up_a_moved_token_revokes_it_where_it_is(net, make_cart):
    ada = await Shopper.begin(net)
    await ada.move()
    await net.settle()
    moved = (await ada.move())["successor_id"]
    proof = await ada.proof_of("late", moved)
    answer = await ada.wallet.call("DELETE", f"/v1/tokens/{moved}")
    assert answer.status_code == 204, answer.text
    await net.settle()
    document = {"order_id": "late", "cart": make_cart(), "presented": proof}
    assert (await ada.other.post("/v1/redemptions", document, 400))["code"] == "token_revoked"


async def test_a_merchant_that_forgot_its_release_does_not_take_the_token_again(net, make_cart):
    """Restored as a new incarnation, it is told before it has anything to spend."""
    ada = await Shopper.begin(net)
    proof = await ada.proof_of("late")
    await ada.first.stop()
    backup = ada.first.backup()
    await ada.first.start()
    await ada.move()
    await net.settle()
    assert (await ada.move())["state"] == "moved"
    await ada.first.stop()
    ada.first.put_back(backup)
    renew_merchant(ada.first.folder)
    await ada.first.start()
    net.heal()
    await net.settle()
    document = {"order_id": "late", "cart": make_cart(), "presented": proof}
    assert (await ada.first.post("/v1/redemptions", document, 400))["code"] == "token_moved"
    new = await ada.token((await ada.move())["successor_id"])
    assert len((await ada.buy(ada.other, make_cart(), new))["redemptions"]) == 1
    ada.quiet()


@pytest.mark.parametrize("remembers", [False, True])
async def test_a_restored_hub_comes_to_the_same_successor(net, make_cart, remembers):
    """It has forgotten the release, or that it asked: the merchant says it again, with proof."""
    ada = await Shopper.begin(net)
    hub = net.hub
    if remembers:
        net.away.add(ada.first.url)
        await ada.move()
        await net.settle()
    await hub.stop()
    backup = hub.backup()
    await hub.start()
    if remembers:
        net.heal()
    else:
        await ada.move()
    await net.settle()
    moved = await ada.move()
    assert moved["state"] == "moved"
    await hub.stop()
    hub.put_back(backup)
    renew_hub(hub.folder)
    await hub.start()
    net.heal()
    await net.settle()
    for site in (ada.first, ada.other):
        site.server.base.deliverer.wake(hub.url)
    await net.settle()
    new = await ada.token(moved["successor_id"])
    assert len((await ada.buy(ada.other, make_cart(), new))["redemptions"]) == 1
    await net.settle()
    assert (hub.count(), hub.count("disputed")) == (1, 0)
    ada.quiet()
