"""Bad input of any kind: a problem that names the field, nothing changed, never a 5xx."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

HUB = "https://hub.example"
FRAME = "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
CLIP = {"clip_id": "c", "hub": HUB, "frame_id": FRAME, "promotion_id": "p", "account_id": "ada"}
PRESENT = {"token_id": "0" * 26, "order_id": "o", "account_id": "ada"}
LINK = {"token_id": "0" * 26, "client": "c", "nonce": "n", "account_id": "ada"}
CHOICE = {
    "merchant": "https://shop.example",
    "account_id": "ada",
    "cart": {"currency": "USD", "lines": [{"id": "1", "sku": "a", "price_minor": 100}]},
}
POSTS = {
    "/v1/accounts": {"account_id": "bob"},
    "/v1/accounts/batch": {"account_ids": ["bob"]},
    "/v1/clips": CLIP,
    "/v1/credential-offers": {"credential_offer_uri": f"{HUB}/x", "account_id": "ada"},
    "/v1/presentations": PRESENT,
    "/v1/choices": CHOICE,
    "/v1/links": LINK,
}

#: Path, document, field.
WRONG: list[tuple[str, Any, str]] = [
    ("/v1/accounts", {"account_id": "Ada"}, "account_id"),
    ("/v1/accounts", {"account_id": "a" * 65}, "account_id"),
    ("/v1/accounts", {"account_id": "a\n"}, "account_id"),
    ("/v1/accounts", {"account_id": 7}, "account_id"),
    ("/v1/accounts", {}, "account_id"),
    ("/v1/accounts", {"account_id": "bob", "name": ""}, "name"),
    ("/v1/accounts/batch", {"account_ids": []}, "account_ids"),
    ("/v1/accounts/batch", {"account_ids": ["bob", "bob"]}, "account_ids[1]"),
    ("/v1/accounts/batch", {"account_ids": ["bob", ""]}, "account_ids[1]"),
    ("/v1/accounts/batch", {"account_ids": ["b"] * 5001}, "account_ids"),
    ("/v1/clips", CLIP | {"clip_id": ""}, "clip_id"),
    ("/v1/clips", CLIP | {"clip_id": "x" * 101}, "clip_id"),
    ("/v1/clips", CLIP | {"clip_id": "a b"}, "clip_id"),
    ("/v1/clips", CLIP | {"hub": "ftp://hub"}, "hub"),
    ("/v1/clips", CLIP | {"hub": f"{HUB}/"}, "hub"),
    ("/v1/clips", CLIP | {"hub": "https://unknown.example"}, "hub"),
    ("/v1/clips", CLIP | {"hub": "https://wallet.example"}, "hub"),
    ("/v1/clips", CLIP | {"frame_id": "ni:///sha-256;short"}, "frame_id"),
    ("/v1/clips", CLIP | {"frame_id": FRAME[:-1] + "V"}, "frame_id"),
    ("/v1/clips", CLIP | {"promotion_id": "x" * 101}, "promotion_id"),
    ("/v1/clips", CLIP | {"promotion_id": "ümlaut"}, "promotion_id"),
    ("/v1/clips", CLIP | {"account_id": "nobody"}, "account_id"),
    ("/v1/clips", CLIP | {"at": "2017-11-01"}, "at"),
    ("/v1/clips", CLIP | {"at": "2017-11-01T00:00:00"}, "at"),
    ("/v1/clips", CLIP | {"at": "9999-12-31T23:59:59Z"}, "at"),
    ("/v1/clips", CLIP | {"at": 0}, "at"),
    ("/v1/clips", CLIP | {"frame": FRAME}, "frame"),
    ("/v1/credential-offers", {"account_id": "ada"}, "credential_offer_uri"),
    (
        "/v1/credential-offers",
        {"credential_offer_uri": "x" * 2001, "account_id": "ada"},
        "credential_offer_uri",
    ),
    (
        "/v1/credential-offers",
        {"credential_offer_uri": "openid-credential-offer://[", "account_id": "ada"},
        "credential_offer_uri",
    ),
    ("/v1/presentations", PRESENT | {"token_id": "x" * 27}, "token_id"),
    ("/v1/presentations", PRESENT | {"order_id": "x" * 101}, "order_id"),
    ("/v1/presentations", PRESENT | {"nonce": ""}, "nonce"),
    ("/v1/presentations", PRESENT | {"path": "v1/redemptions"}, "path"),
    ("/v1/presentations", PRESENT | {"path": "/v1/../admin?x"}, "path"),
    ("/v1/presentations", PRESENT | {"path": "@evil.example/"}, "path"),
    ("/v1/choices", CHOICE | {"merchant": "shop"}, "merchant"),
    ("/v1/choices", CHOICE | {"cart": {"currency": "USD"}}, "cart.lines"),
    ("/v1/links", LINK | {"client": "a/b"}, "client"),
    ("/v1/links", LINK | {"client": "a%2Fb"}, "client"),
    ("/v1/links", LINK | {"client": ""}, "client"),
    ("/v1/links", LINK | {"nonce": "line\nbreak"}, "nonce"),
]
BROKEN = {
    "no JSON": b"{",
    "half a document": b'{"account_id": "bo',
    "a key twice": b'{"account_id": "bob", "account_id": "eve"}',
    "not a number": b'{"account_id": NaN}',
    "a huge integer": b'{"account_id": 1' + b"0" * 5000 + b"}",
    "a fraction": b'{"account_id": 1.5}',
    "not UTF-8": b'{"account_id": "\xff"}',
    "a lone surrogate": b'{"account_id": "\\ud800"}',
    "a NUL": b'{"account_id": "\\u0000"}',
    "too deep": b'{"account_id": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a list": b"[]",
    "a text": b'"x"',
    "null": b"null",
    "nothing": b"",
}


@pytest.fixture
async def ada(world: Any) -> str:
    made: str = await world.account()
    return made


async def test_every_field_that_is_wrong_is_named(world: Any, ada: str) -> None:
    """Method: each wrong document by the operator's key; the answer names the field."""
    before = world.wallet.rows()
    asked = len(world.wire.requests)
    for path, document, field in WRONG:
        answer = await world.wallet.post(path, document)
        status, _, named = answer.problem
        assert status in (400, 404), (path, document, answer)
        assert (named or "").startswith(field), (path, document, answer)
    assert world.wallet.rows() == before
    assert len(world.wire.requests) == asked


async def test_bodies_that_are_not_documents(world: Any, ada: str) -> None:
    """Method: every kind of broken body to every endpoint that takes one."""
    before = world.wallet.rows()
    for path in [*POSTS, "/v1/tenants", "/v1/peers"]:
        for what, content in BROKEN.items():
            answer = await world.wallet.call("POST", path, content=content)
            assert answer.problem[0] == 400, (path, what, answer)
        large = await world.wallet.call("POST", path, content=b'{"x": "' + b"x" * 10_000_000)
        assert large.problem[:2] == (413, "too_large"), path
    assert world.wallet.rows() == before


async def test_unknown_fields_are_refused_with_a_suggestion(world: Any, ada: str) -> None:
    for path, document in POSTS.items():
        answer = await world.wallet.post(path, document | {"acount_id": "ada"})
        assert answer.problem == (400, "invalid_input", "acount_id"), (path, answer)
        if "account_id" in document or path.endswith("accounts"):
            assert answer["remedy"] == "did you mean 'account_id'?"


async def test_wrong_keys_and_other_tenants_keys(world: Any, ada: str) -> None:
    """401 without a right key, 403 without the scope, whatever the body is."""
    before = world.wallet.rows()
    wrong = ["sconto_x_y", ada[:-1] + ("A" if ada[-1] != "A" else "B"), "nonsense"]
    reader = world.wallet.make_key("reader", "promotions:read")
    rows = world.wallet.rows()
    for path, document in POSTS.items():
        for key in (None, *wrong):
            answer = await world.wallet.post(path, document, key=key)
            assert answer.problem[0] == 401, (path, key)
        answer = await world.wallet.post(path, document, key=reader)
        assert answer.problem[0] == 403, path
    assert world.wallet.rows() == rows
    assert rows["clips"] == before["clips"] == 0


async def test_the_instant_needs_the_scope_replay(world: Any, ada: str) -> None:
    document = {k: v for k, v in CLIP.items() if k != "account_id"}
    answer = await world.wallet.post(
        "/v1/clips", document | {"at": "2017-11-01T00:00:00Z"}, key=ada
    )
    assert answer.problem[:2] == (403, "forbidden")
    assert answer["scope"] == "replay"
    assert world.wallet.rows()["clips"] == 0


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/tokens?account_id=ada&limit=0", "limit"),
        ("/v1/tokens?account_id=ada&limit=x", "limit"),
        ("/v1/tokens?account_id=ada&limit=9999999999999999999999", "limit"),
        ("/v1/tokens?account_id=ada&status=open", "status"),
        ("/v1/tokens?account_id=%FF", "query"),
        ("/v1/tokens?account_id=ada%00", None),
        ("/v1/tokens/none?account_id=ada", "token_id"),
        ("/v1/tokens/none", "token_id"),
        ("/v1/savings", "account_id"),
        ("/v1/savings?account_id=nobody", "account_id"),
        ("/v1/accounts/nobody", "account_id"),
        ("/v1/statistics?by=x", "by"),
        ("/v1/nothing", None),
    ],
)
async def test_questions_that_cannot_be_answered(
    world: Any, ada: str, path: str, field: str | None
) -> None:
    answer = await world.wallet.get(path)
    assert 400 <= answer.problem[0] < 500, answer
    if field is not None:
        assert answer.problem[2] == field


async def test_methods_and_documents_are_described(world: Any) -> None:
    """The API document lists every route; another method is 405."""
    schema = await world.wallet.get("/schema/openapi.json", key=None)
    assert set(POSTS) <= set(schema["paths"])
    wrong = await world.wallet.call("PATCH", "/v1/clips", {})
    assert wrong.problem[:2] == (405, "method_not_allowed")
