"""Whatever is sent to whatever address: a 4xx problem, nothing stored, never a 5xx.

Every endpoint that the hub declares is tried with the same bad bodies, paths and queries, by
everybody who could send them. A new endpoint is tried without being named here.
"""

import random
import re

import pytest

from sconto.frames import encode_bundle, frame_key
from sconto.servers.app import COMMON

pytestmark = pytest.mark.anyio

BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'"text"',
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"a": 1e400}',
    b'{"a": 1' + b"0" * 5000 + b"}",
    b'{"a": "\\ud800"}',
    b'{"a": "\\u0000"}',
    b'{"clip_id": "x", "clip_id": "y"}',
    b"[" * 50_000,
    b'{"unknown_field": {"deep": [[[[[[[[[[[]]]]]]]]]]]}}',
    b"grant_type=x&grant_type=y",
)
VALUES = ("x", "%00", "%ff", "..", "%2e%2e%2f", "a" * 3000, "-1", "9" * 40, "%F0%9F%92%A9", "'--")
QUERIES = (
    "", "?limit=-1", "?limit=%00", "?before=1.%00", "?after=%00", "?promotion_id=%00",
    "?a=%ff", "?" + "x" * 9000, "?by=%27", "?merchant=%F0%9F%92%A9", "?limit=1&limit=2",
)  # fmt: skip


async def test_no_endpoint_can_be_brought_down(world, till):
    """Anonymous, brand, operator, merchant and wallet send every bad thing everywhere."""
    await till.token_id()
    callers = (
        {},
        {"key": world.brand_key},
        {"key": world.admin_key},
        {"peer": world.shop},
        {"peer": world.wallet},
        {"headers": {"Authorization": "Bearer sconto_x_y"}},
        {"headers": {"Cookie": "sconto_session=x.y", "Authorization": "Basic x"}},
    )
    chance = random.Random(7)
    tried = 0
    for endpoint in [*COMMON, *world.hub.endpoints]:
        for body in BODIES if endpoint.method != "GET" else (b"",):
            for caller in callers:
                value = chance.choice(VALUES)
                path = re.sub(r"\{\w+:\w+\}", value, endpoint.path) + chance.choice(QUERIES)
                answer = await world.call(endpoint.method, path, body=body, **caller)
                assert answer.status_code < 500, (endpoint.method, path, body[:40], answer.text)
                tried += 1
    assert tried > 1500


async def test_a_mutated_request_never_gets_through_or_brings_down(world):
    """Three hundred bundles with bytes changed, moved or cut: each is refused by name."""
    frame = world.frame(await world.promise())
    body = encode_bundle(frame)
    path = f"/v1/frames/{frame_key(frame.frame_id)}"
    chance = random.Random(11)
    with world.unchanged():
        for _ in range(300):
            mutated = bytearray(body)
            for _ in range(chance.choice((1, 1, 1, 2, 8))):
                place = chance.randrange(len(mutated)) if mutated else 0
                act = chance.randrange(4)
                if act == 0 and mutated:
                    mutated[place] = chance.randrange(256)
                elif act == 1:
                    del mutated[place : place + chance.randrange(1, 40)]
                elif act == 2:
                    mutated[place:place] = mutated[: chance.randrange(1, 40)]
                else:
                    mutated = mutated[: place + 1]
            if bytes(mutated) == body:
                continue
            answer = await world.call("PUT", path, peer=world.shop, body=bytes(mutated))
            assert 400 <= answer.status_code < 500, (bytes(mutated), answer.text)
            assert answer.json()["code"] and answer.json()["detail"]


async def test_the_api_document_is_whole(world):
    """OpenAPI 3.1: every endpoint that is not a page is in it, with what it answers."""
    document = (await world.call("GET", "/schema/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for endpoint in world.hub.endpoints:
        if not endpoint.is_page:
            path = re.sub(r"\{(\w+):\w+\}", r"{\1}", endpoint.path)
            operation = document["paths"][path][endpoint.method.lower()]
            assert operation["responses"], path
            if endpoint.accepts is not None:
                assert operation["requestBody"]["content"], path
