"""Tenants: every route of every server, asked by everybody who has nothing to do with the owner.

Goal: nobody reads or changes what is another's, and what is another's looks like what is not there.
Method: an owner fills each server with things that have a canary in them. Then each endpoint that a
server declares is called with the owner's ids by callers without a key, with wrong ones, without
scopes, and of foreign tenants. A new endpoint is tried without being named here.
"""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from sconto.base.ids import handle_of
from sconto.servers.app import COMMON
from sconto.servers.endpoint import Endpoint
from sconto.servers.limits import Guesses
from sconto.servers.principal import make_api_key
from sconto.store import access, schema
from sconto.terms import terms_digest, terms_from

pytestmark = pytest.mark.anyio

HUB = "https://hub.example"
CANARY = "CANARY"
NOTHING = "01NOTHING00000000000000000"
#: Scopes that are for the server as a whole by what they say (sconto.servers.scopes).
SERVER_WIDE = {"admin", "evaluate", "checkout", "reverse", "frames:write", "accounts:write"}
#: What a foreign tenant may have at most.
FOREIGN = ("promotions:read", "promotions:write", "wallet", "replay")


@dataclass
class Owned:
    """Ids that the owner's things have at a server, and texts that only the owner may see."""

    ids: dict[str, str]
    canaries: set[str] = field(default_factory=set)


def draft(title: str, promotion_id: str) -> dict[str, Any]:
    return {
        "promotion_id": promotion_id,
        "title": f"{CANARY} {title}",
        "currency": "USD",
        "benefits": [{"type": "percent_off", "basis_points": 1000}],
    }


def add_key(served: Any, tenant_id: str, kind: str, *scopes: str, label: str = "test") -> str:
    def command(tx: Any) -> str:
        access.add_tenant(tx, tenant_id, kind, tenant_id)
        return make_api_key(tx, tenant_id, frozenset(scopes), label, secrets.token_bytes)

    return str(served.store.write_now(command))


@pytest.fixture
async def owned(world: Any, make_cart: Any) -> dict[str, Owned]:
    """An owner at each server: a brand of a draft, a shop of an order, an account of a token."""
    terms = await world.promise()
    frame_id = await world.publish(terms)
    ada = await world.account("ada")
    clipped = await world.clip(ada, frame_id=frame_id)
    assert clipped.status == 201, clipped
    await world.settle()
    token_id, jws = clipped["token_id"], clipped["jws"]
    order = await world.shop.post(
        "/v1/redemptions",
        {"order_id": "o-1", "cart": make_cart(), "client": "card-1"}
        | {"cart": make_cart() | {"codes": [clipped["handle"]]}},
    )
    assert order.status == 201 and order["receipt"], order
    await world.settle()
    made: dict[str, Owned] = {}
    for name, served in (("hub", world.hub), ("shop", world.shop), ("wallet", world.wallet)):
        owner = "ada" if name == "wallet" else "oaty"
        kind = "account" if name == "wallet" else "brand"
        key = add_key(served, owner, kind, "promotions:read", label=f"{CANARY} label")
        ids = {
            "tenant_id": owner,
            "account_id": "ada",
            "key_id": key.split("_")[1],
            "promotion_id": "oaty-10",
            "order_id": "o-1",
            "token_id": token_id,
            "client": "card-1",
            "frame_id": frame_id,
            "key": frame_id.rpartition(";")[2],
            "handle": clipped["handle"],
            "digest": terms_digest(terms_from(terms)),
            "hub": HUB,
            "act": "pause",
            "shard": "0",
            "name": "sconto.css",
            "path": "index.html",
            "offer_id": f"{token_id}.{'A' * 43}",
            "clip_id": "clip-1",
            "top_up_id": "t-1",
            "reversal_id": "r-1",
            "job_id": "j-1",
        }
        canaries = {CANARY, jws, key}
        if name != "wallet":
            document = draft(name, "secret-draft")
            written = await served.post("/v1/promotions", {"terms": document, "tenant_id": "oaty"})
            assert written.status == 201, written
            ids |= {"promotion_id": "secret-draft", "digest": written["terms_digest"]}
        if name == "shop":
            canaries |= {order["receipt"], handle_of(token_id)}
        if name == "wallet":
            canaries |= {handle_of(token_id), order["receipt"]}
        made[name] = Owned(ids, canaries)
    return made


def endpoints_of(served: Any) -> list[Endpoint]:
    return [*COMMON, *served.server.endpoints]


def filled(value: Any, ids: dict[str, str]) -> Any:
    """A document with the owner's ids in it."""
    if isinstance(value, dict):
        return {k: ids.get(k, filled(v, ids)) if k != "client" else v for k, v in value.items()}
    if isinstance(value, list):
        return [filled(one, ids) for one in value]
    return value


def requests_of(endpoint: Endpoint, ids: dict[str, str]) -> Iterator[tuple[str, bytes | None]]:
    """Path and body, with the owner's ids in the path, the query and the body."""
    path = re.sub(r"\{(\w+):\w+\}", lambda found: ids[found[1]], endpoint.path)
    document = body = None
    if endpoint.method != "GET":
        document = filled(msgspec.to_builtins(endpoint.accepts_example or {}), ids)
        body = msgspec.json.encode(document)
    yield path, body
    if endpoint.query:
        for name in endpoint.query:
            if name in ids:
                yield f"{path}?{name}={ids[name]}", body
    if isinstance(document, dict) and endpoint.accepts is not None:
        for name in ("account_id", "tenant_id"):
            yield path, msgspec.json.encode(document | {name: ids[name]})


def state_of(served: Any) -> dict[str, Any]:
    """What may not change by a stranger's hand; a new row of the stranger's own is no change."""
    with served.store.read() as connection:
        return {
            table.name: {tuple(row) for row in connection.execute(table.select())}
            for table in schema.metadata.sorted_tables
            if table.name in ("tokens", "promotions", "orders", "redemptions", "clients", "clips",
                              "accounts", "frames", "api_keys", "coupon_information", "budgets")
        }  # fmt: skip


def servers(world: Any) -> dict[str, Any]:
    made = {"hub": world.hub, "shop": world.shop, "wallet": world.wallet}
    for served in made.values():  # not what is tested here
        served.server.base.key_guesses = Guesses(
            "keys", burst=10**6, every_ms=1, burst_all=10**6, every_all_ms=1
        )
    return made


async def call(served: Any, method: str, path: str, body: bytes | None, key: str | None) -> Any:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    if body is not None:
        is_csv = path.partition("?")[0].endswith("/codes/import")
        headers["Content-Type"] = "text/csv" if is_csv else "application/json"
    return await served.http.request(method, path, content=body, headers=headers)


async def test_nobody_without_a_right_key_gets_anywhere(
    world: Any, owned: dict[str, Owned]
) -> None:
    """No key, garbage, an unknown one, a right id with a wrong secret: 401, or the sign-in page."""
    tried = 0
    for name, served in servers(world).items():
        before = served.rows()
        ids, canaries = owned[name].ids, owned[name].canaries
        wrong = (None, "x", f"sconto_{NOTHING}_{'A' * 43}", f"sconto_{ids['key_id']}_{'A' * 43}")
        for endpoint in endpoints_of(served):
            if not endpoint.scope:
                continue
            for path, body in requests_of(endpoint, ids):
                for key in wrong:
                    answer = await call(served, endpoint.method, path, body, key)
                    where = (name, endpoint.method, path, key, answer.text[:300])
                    if endpoint.is_page and endpoint.method == "GET":
                        assert answer.status_code == 303, where
                        assert answer.headers["location"].startswith("/login?next=%2F"), where
                    else:
                        assert answer.status_code == 401, where
                    assert not any(one in answer.text for one in canaries), where
                    tried += 1
        assert served.rows() == before
    assert tried > 400


async def test_the_crawl_finds_canaries_where_they_may_be_seen(
    world: Any, owned: dict[str, Owned]
) -> None:
    """Control: with the operator's key the same requests do show what the others must not see."""
    for name, served in servers(world).items():
        seen: set[str] = set()
        for endpoint in endpoints_of(served):
            if endpoint.method == "GET":
                for path, body in requests_of(endpoint, owned[name].ids):
                    answer = await call(served, "GET", path, body, served.key)
                    seen |= {one for one in owned[name].canaries if one in answer.text}
        assert CANARY in seen, name
        assert name == "hub" or len(seen) >= 3, (name, seen)


async def test_a_key_without_scopes_is_for_nothing(world: Any, owned: dict[str, Owned]) -> None:
    for name, served in servers(world).items():
        kind = "account" if name == "wallet" else "brand"
        key = add_key(served, "naked", kind)
        before = served.rows()
        for endpoint in endpoints_of(served):
            if not endpoint.scope:
                continue
            for path, body in requests_of(endpoint, owned[name].ids):
                answer = await call(served, endpoint.method, path, body, key)
                where = (name, endpoint.method, path, answer.status_code, answer.text[:300])
                if endpoint.scope == "any":
                    assert answer.status_code < 500, where
                else:
                    assert answer.status_code in (401, 403), where
                assert not any(one in answer.text for one in owned[name].canaries), where
        assert served.rows() == before, name


async def test_a_foreign_tenant_sees_and_changes_nothing(
    world: Any, owned: dict[str, Owned]
) -> None:
    """403 or 404, or an answer about its own; and the owner's things are as they were."""
    tried = 0
    for name, served in servers(world).items():
        ids, canaries = owned[name].ids, owned[name].canaries
        if name == "wallet":
            made = await served.post("/v1/accounts", {"account_id": "bob"})
            assert made.status == 201
            key = add_key(served, "bob", "account", *FOREIGN)
        else:
            key = add_key(served, "crisp", "brand", *FOREIGN)
        before = state_of(served)
        for endpoint in endpoints_of(served):
            if not endpoint.scope:
                continue
            for path, body in requests_of(endpoint, ids):
                answer = await call(served, endpoint.method, path, body, key)
                where = (name, endpoint.method, path, body, answer.status_code, answer.text[:300])
                assert answer.status_code < 500, where
                if endpoint.scope in SERVER_WIDE | {"peer"}:
                    assert answer.status_code in (401, 403), where
                assert not any(one in answer.text for one in canaries), where
                tried += 1
        after = state_of(served)
        for table, rows in before.items():
            assert rows <= after[table], (name, table, rows - after[table])
    assert tried > 100


async def test_what_is_anothers_looks_like_what_is_not_there(
    world: Any, owned: dict[str, Owned]
) -> None:
    """The same answer, word for word, but for the id that was asked for."""
    compared = 0
    for name, served in servers(world).items():
        ids = owned[name].ids
        if name == "wallet":
            await served.post("/v1/accounts", {"account_id": "bob"})
            key = add_key(served, "bob", "account", *FOREIGN)
            named = ("token_id", "account_id", "tenant_id")
        else:
            key = add_key(served, "crisp", "brand", *FOREIGN)
            named = ("promotion_id", "token_id", "tenant_id", "digest")
        nothing = {one: NOTHING.lower() for one in named}
        for endpoint in endpoints_of(served):
            parts = set(re.findall(r"\{(\w+):", endpoint.path))
            if endpoint.scope in SERVER_WIDE | {"", "peer"} or not parts & set(named):
                continue
            texts = []
            for chosen in (ids, ids | nothing):
                path, body = next(requests_of(endpoint, chosen))
                answer = await call(served, endpoint.method, path, body, key)
                text = answer.text
                for one in named:
                    text = text.replace(chosen[one], "?")
                texts.append((answer.status_code, text))
            if endpoint.path.startswith("/v1/tenants") and endpoint.method == "POST":
                assert texts[0][0] in (403, 404)
            else:
                assert texts[0][0] == 404, (name, endpoint.path, texts)
            assert texts[0] == texts[1], (name, endpoint.path)
            compared += 1
    assert compared >= 12


async def test_statistics_of_another_are_not_counted_in(world: Any, owned: Any) -> None:
    """Something was redeemed for oaty; crisp's own statistics are all zero, in every form."""
    for served in (world.hub, world.shop):
        crisp = served.make_key("crisp", *FOREIGN)
        operator = await served.get("/v1/statistics")
        assert operator["totals"]["redeemed"] == 1
        for query in ("", "?by=merchant", "?by=day", "?by=promotion,merchant,day", "?by="):
            found = await served.get(f"/v1/statistics{query}", key=crisp)
            assert not any(found["totals"].values()), found
            assert found["refused"] == {}
            assert not any(v for row in found["rows"] for v in row.values() if isinstance(v, int))
        other = await served.get("/v1/statistics?promotion_id=oaty-10", key=crisp)
        assert other.problem == (404, "not_found", "promotion_id")


async def test_a_brands_key_does_not_speak_for_the_merchant(world: Any, owned: Any) -> None:
    """Regression: any `promotions:write` key of a shop took part in a hub's promotions for it."""
    await world.promise("crisp-5")
    asked = {"hub": HUB, "promotion_ids": ["crisp-5"], "accept": False}
    brand = world.shop.make_key("crisp", *FOREIGN)
    refused = await world.shop.post("/v1/acceptances", asked, key=brand)
    assert refused.problem == (403, "forbidden", "Authorization")
    own = world.shop.make_key("tills", "promotions:write", kind="merchant")
    assert (await world.shop.post("/v1/acceptances", asked, key=own)).status == 200


async def test_a_draft_that_ends_was_never_there_for_others(world: Any) -> None:
    """Regression: the end of a draft told its terms to every merchant."""
    made = await world.hub.post("/v1/promotions", {"terms": draft("x", "never")}, key=world.brand)
    ended = await world.hub.post("/v1/promotions/never/end", key=world.brand)
    assert (made["status"], ended["status"]) == ("draft", "ended")
    await world.settle()
    assert (await world.shop.get("/v1/promotions/never")).status == 404
    again = await world.hub.post("/v1/promotions/never/launch", key=world.brand)
    assert again.problem[:2] == (409, "status_conflict")


async def test_a_key_makes_no_key_that_may_more(world: Any, owned: Any) -> None:
    """A tenant makes keys for itself, with scopes that it has; not for others, not with more."""
    for served in (world.hub, world.shop):
        key = served.make_key("crisp", *FOREIGN)
        own = "/v1/tenants/crisp/keys"
        made = await served.post(own, {"scopes": ["promotions:read"]}, key=key)
        assert made.status == 201
        for scope in sorted(SERVER_WIDE):
            refused = await served.post(own, {"scopes": ["promotions:read", scope]}, key=key)
            assert refused.problem == (403, "forbidden", "Authorization"), scope
        for tenant_id in ("oaty", "operator", "nobody"):
            refused = await served.post(
                f"/v1/tenants/{tenant_id}/keys", {"scopes": ["promotions:read"]}, key=key
            )
            assert refused.problem == (404, "not_found", "tenant_id")
        revoked = await served.call("DELETE", f"{own}/{made['key_id']}", key=key)
        assert revoked.status == 204
        gone = await served.get("/v1/promotions", key=made["api_key"])
        assert gone.problem[0] == 401
