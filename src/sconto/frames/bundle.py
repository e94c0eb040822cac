"""A frame on the wire: one JSON object of manifest, signature and resources in base64."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import msgspec

from sconto.base.canonical import parse_json
from sconto.frames.model import (
    BUNDLE_BYTES_MAX,
    PATH_MAX,
    RESOURCES_MAX,
    Frame,
    wrong,
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A frame as it came over the wire: well-formed, believed in nothing."""

    manifest: dict[str, Any]
    signature: str
    resources: dict[str, bytes]


def encode_bundle(frame: Frame) -> bytes:
    """The frame on the wire: one JSON object; the same frame gives the same bytes."""
    resources = {path: base64.b64encode(data).decode() for path, data in frame.resources.items()}
    return msgspec.json.encode(
        {
            "manifest": msgspec.Raw(frame.manifest_bytes),
            "signature": frame.signature,
            "resources": resources,
        }
    )


def decode_bundle(body: bytes) -> Bundle:
    """Read a bundle of at most 8 MiB; believes nothing yet (that is `verify_frame`'s part)."""
    value = parse_json(body, max_bytes=BUNDLE_BYTES_MAX, what="bundle")
    if not isinstance(value, dict):
        raise wrong("a bundle is a JSON object", "bundle", "malformed")
    for name, kind in {"manifest": dict, "signature": str, "resources": dict}.items():
        if not isinstance(value.get(name), kind):
            raise wrong(f"the bundle needs {name!r}", name, "malformed")
    if unknown := sorted(set(value) - {"manifest", "signature", "resources"}):
        raise wrong(f"the bundle has the unknown field {unknown[0]!r}", unknown[0], "malformed")
    if len(value["resources"]) > RESOURCES_MAX:
        raise wrong(f"a bundle has at most {RESOURCES_MAX} resources", "resources", "too_large")
    resources = {path: _resource(path, text) for path, text in value["resources"].items()}
    return Bundle(value["manifest"], value["signature"], resources)


def _resource(path: str, text: Any) -> bytes:
    field = f"resources.{path[:PATH_MAX]}"
    if len(path) > PATH_MAX:
        raise wrong(f"a path has at most {PATH_MAX} symbols", field, "resource_path_unsafe")
    if not isinstance(text, str):
        raise wrong("a resource is base64 text", field, "malformed")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise wrong("the resource is not base64", field, "malformed") from None
    if base64.b64encode(data).decode() != text:
        raise wrong("the resource is not canonical base64", field, "malformed")
    return data
