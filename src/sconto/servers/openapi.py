"""The OpenAPI 3.1 document of a server, from the types that its endpoints decode and encode."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

import sconto
from sconto.servers import problems
from sconto.servers.config import Home
from sconto.servers.endpoint import JSON, Endpoint
from sconto.servers.scopes import SCOPES

_PARAMETER = re.compile(r"\{(\w+):(\w+)\}")


class Problem(msgspec.Struct, kw_only=True):
    """RFC 9457. Further members are figures of the problem at hand."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    remedy: str | None = None


def openapi_document(home: Home, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """OpenAPI 3.1 of the endpoints that are not pages."""
    listed = [e for e in endpoints if not e.is_page]
    types = [Problem] + [t for e in listed for t in (e.accepts, e.returns) if t is not None]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    schema_of = {id(t): schema for t, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for declared in listed:
        path = _PARAMETER.sub(r"{\1}", declared.path)
        paths.setdefault(path, {})[declared.method.lower()] = _operation(declared, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Sconto {home.kind}: {home.name}",
            "version": sconto.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": home.url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key. Scopes: "
                    + "; ".join(f"`{name}`: {meaning}" for name, meaning in SCOPES.items()),
                },
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Signature",
                    "description": "HTTP message signature (RFC 9421) of a registered server",
                },
            },
        },
    }


def _operation(declared: Endpoint, schema_of: dict[int, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": declared.run.__name__,
        "summary": declared.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name, _ in _PARAMETER.findall(declared.path)
        ]
        + [
            {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
            for name, meaning in declared.query.items()
        ],
        "responses": {
            str(declared.status): _answer(declared, schema_of),
            "default": {
                "description": "A problem (RFC 9457)",
                "content": {problems.MEDIA_TYPE: {"schema": schema_of[id(Problem)]}},
            },
        },
    }
    if declared.run.__doc__:
        operation["description"] = " ".join(declared.run.__doc__.split())
    if declared.scope:
        operation["security"] = (
            [{"signature": []}] if declared.scope == "peer" else [{"key": []}, {"signature": []}]
        )
    if declared.accepts is None and declared.accepts_type != JSON:
        text = {declared.accepts_type: {"schema": {"type": "string"}}}
        operation["requestBody"] = {"required": True, "content": text}
    if declared.accepts is not None:
        content: dict[str, Any] = {"schema": schema_of[id(declared.accepts)]}
        if declared.accepts_example is not None:
            content["example"] = declared.accepts_example
        operation["requestBody"] = {"required": True, "content": {declared.accepts_type: content}}
    return operation


def _answer(declared: Endpoint, schema_of: dict[int, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if declared.returns is not None:
        content["schema"] = schema_of[id(declared.returns)]
    if declared.example is not None:
        content["example"] = msgspec.to_builtins(declared.example)
    answer: dict[str, Any] = {"description": declared.summary}
    if declared.status != 204:
        answer["content"] = {declared.media_type: content}
    return answer
