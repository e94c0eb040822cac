"""The API document: what it says is what the server does.

Its examples are decoded by the same types as requests, its schemas are valid and accept them, and a
fuzzer that reads the document finds no request that breaks a merchant that is really served.
"""

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest
import uvicorn

from sconto.base.documents import from_builtins
from sconto.servers.app import COMMON, build_app, wall_clock_ms
from sconto.servers.config import create_home
from sconto.servers.merchant import Merchant
from sconto.servers.openapi import openapi_document
from sconto.servers.principal import make_api_key
from sconto.servers.protocol import BoundedProtocol
from sconto.store import access

ENDPOINTS = [e for e in (*COMMON, *Merchant.endpoints) if not e.is_page]


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    home = create_home(
        tmp_path / "m",
        kind="merchant",
        name="Shop",
        url="https://shop.example",
        now_ms=0,
        random=secrets.token_bytes,
    )
    made: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(openapi_document(home, ENDPOINTS))
    )
    return made


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of the document that stands alone."""
    return {**schema, "components": document["components"]}


def test_every_request_example_is_a_request() -> None:
    """A reader can copy it: the server decodes it, and gives the same back."""
    missing = []
    for endpoint in ENDPOINTS:
        if endpoint.accepts is None:
            continue
        if endpoint.accepts_example is None:
            missing.append(endpoint.path)
            continue
        from_builtins(endpoint.accepts_example, endpoint.accepts)
    assert missing == []


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """An id of its own, a summary, every path parameter, every scope, every status."""
    ids = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            ids.append(operation["operationId"])
            assert operation["summary"], (method, path)
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == {part.strip("{}") for part in path.split("/") if part.startswith("{")}
            assert "default" in operation["responses"]
    assert len(set(ids)) == len(ids)
    assert document["openapi"].startswith("3.1")


def test_examples_are_valid_against_their_schemas(document: dict[str, Any]) -> None:
    """Both directions, by an independent validator of JSON Schema 2020-12."""
    checked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            contents = [operation.get("requestBody", {}).get("content", {})]
            contents += [answer.get("content", {}) for answer in operation["responses"].values()]
            for content in contents:
                for media in content.values():
                    if "schema" not in media:
                        continue
                    schema = resolved(document, media["schema"])
                    validator = jsonschema_rs.Draft202012Validator(schema)
                    if "example" in media:
                        errors = [str(e) for e in validator.iter_errors(media["example"])]
                        assert errors == [], (method, path)
                        checked += 1
    assert checked > 10


def test_problems_match_their_schema(document: dict[str, Any]) -> None:
    schema = resolved(document, {"$ref": "#/components/schemas/Problem"})
    problem = {
        "type": "https://sconto.example/problems/too_large",
        "title": "Too large",
        "status": 413,
        "detail": "the body is larger than 10 bytes",
        "code": "too_large",
        "limit_bytes": 10,
    }
    jsonschema_rs.Draft202012Validator(schema).validate(problem)


# --- a merchant that is really served -------------------------------------------------------------


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, str]]:
    """A merchant on a free port of this machine: its URL and its operator's key."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    home = create_home(
        folder,
        kind="merchant",
        name="Shop",
        url=url,
        now_ms=wall_clock_ms(),
        random=secrets.token_bytes,
    )
    merchant = Merchant(home)

    def operator(tx: Any) -> str:
        access.add_tenant(tx, "operator", "operator", "operator")
        scopes = frozenset({"admin", "replay"})
        return make_api_key(tx, "operator", scopes, "test", secrets.token_bytes)

    key = str(merchant.base.store.write_now(operator))
    config = uvicorn.Config(
        build_app(merchant), http=BoundedProtocol, ws="none", log_level="error", lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        for _ in range(200):
            if server.started:
                break
            time.sleep(0.05)
        yield url, key
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@pytest.mark.slow
def test_a_fuzzer_finds_no_request_that_breaks_it(tmp_path: Path) -> None:
    """Goal: no 5xx, no answer that is not JSON, whatever follows from the API document. Method:
    Schemathesis makes requests of each operation, right and wrong ones, repeatably."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, settings

    with serving(tmp_path / "shop") as (url, key):
        headers = {"Authorization": f"Bearer {key}"}
        schema = schemathesis.openapi.from_url(f"{url}/schema/openapi.json", headers=headers)
        seen: dict[int, int] = {}
        broken: list[str] = []

        def try_one(case: Any) -> None:
            answer = case.call(headers=headers, timeout=10)
            seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
            # A 502 or 503 is about a hub that is not there; a 500 is about us.
            if answer.status_code >= 500 and answer.status_code not in (502, 503):
                broken.append(f"{case.as_curl_command()} -> {answer.status_code}")
            if answer.status_code >= 400 and case.method != "HEAD":
                assert "code" in answer.json(), answer.text

        for operation in schema.get_all_operations():
            strategy = operation.ok().as_strategy()
            from hypothesis import given

            run = settings(
                max_examples=6,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )(given(strategy)(try_one))
            run()
        assert broken == []
        assert sum(seen.values()) > 100 and seen.get(200), seen


@pytest.mark.slow
def test_on_the_wire_too(tmp_path: Path) -> None:
    """What an ASGI client cannot send: a broken request line, a cut-off body, a body whose length
    is nonsense; the next caller is served as if nothing had been."""
    with serving(tmp_path / "shop") as (url, key):
        port = int(url.rpartition(":")[2])
        good = f"Authorization: Bearer {key}\r\nHost: x\r\n".encode()
        for raw in (
            b"\x00\x01\x02\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n" + good + b"\r\n",
            b"POST /v1/evaluations HTTP/1.1\r\n" + good + b"Content-Length: 50\r\n\r\n{",
            b"POST /v1/evaluations HTTP/1.1\r\n"
            + good
            + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{",
            b"POST /v1/evaluations HTTP/1.1\r\n" + good + b"Content-Length: -1\r\n\r\n{}",
            b"POST /v1/evaluations HTTP/1.1\r\n"
            + good
            + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(raw)
                connection.shutdown(socket.SHUT_WR)
                answer = b""
                with contextlib.suppress(OSError):
                    while part := connection.recv(65_536):
                        answer += part
                assert not answer.startswith(b"HTTP/1.1 5"), (raw[:60], answer[:300])
                assert not answer.startswith(b"HTTP/1.1 2"), (raw[:60], answer[:300])
        big = httpx.post(
            f"{url}/v1/evaluations",
            content=b" " * 20_000_000,
            headers={"Authorization": f"Bearer {key}"},
            timeout=20,
        )
        assert (big.status_code, big.json()["code"]) == (413, "too_large")
        assert httpx.get(f"{url}/healthz").json() == {"status": "alive"}
