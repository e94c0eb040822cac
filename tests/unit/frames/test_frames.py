"""Frames: built the same by everybody, and any difference is refused with its own code."""

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconto import frames
from sconto.base.canonical import canonical, digest
from sconto.base.errors import InvalidInputError
from sconto.base.keys import KeySet, SigningKey, sign_detached
from sconto.frames import Bundle, Frame, FrameOffer, Withdrawal, model

SHOP, HUB = "https://shop.example", "https://hub.example"
KEY, OTHER = SigningKey.from_seed(b"\x01" * 32), SigningKey.from_seed(b"\x02" * 32)
KEYS = KeySet([KEY.public])
FROM_S, UNTIL_S = 1_795_000_000, 1_797_600_000
AT_MS = FROM_S * 1000
OFFER = FrameOffer(id="o1", promotion_id="promo_88", terms_digest=digest(b"terms"), title="Milk")
FILES = {
    "index.html": b"<!doctype html><h1>Milk</h1><script src=js/a.js></script>",
    "js/a.js": b"1",
    "f.css": b"h1{color:red}",
    "img/m.svg": b"<svg/>",
}


def build(**changed: Any) -> Frame:
    arguments: dict[str, Any] = {
        "merchant": SHOP, "hub": HUB, "not_before_s": FROM_S, "expires_s": UNTIL_S,
        "sequence": 7, "offers": [OFFER], "files": FILES, "redeem": f"{SHOP}/ucp",
    }  # fmt: skip
    return frames.build_frame(KEY, **{**arguments, **changed})


def verify(bundle: Bundle, **changed: Any) -> Frame:
    arguments: dict[str, Any] = {
        "issuer": SHOP, "audience": HUB, "at_ms": AT_MS, "last_sequence": 7,
    }  # fmt: skip
    return frames.verify_frame(bundle, changed.pop("keys", KEYS), **{**arguments, **changed})


def refused(act: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        act()
    return caught.value


FRAME = build()
BODY = frames.encode_bundle(FRAME)


def signed(change: Callable[[dict[str, Any]], object], key: SigningKey = KEY) -> Bundle:
    """A bundle whose manifest was changed before it was signed: its form is at fault."""
    bundle = frames.decode_bundle(BODY)
    change(bundle.manifest)
    signature = sign_detached(key, frames.FRAME_TYP, canonical(bundle.manifest))
    return Bundle(bundle.manifest, signature, bundle.resources)


def test_what_is_built_is_verified() -> None:
    frame = verify(frames.decode_bundle(BODY), expected_id=FRAME.frame_id)
    assert frame == FRAME
    assert [*frame.resources] == ["/f.css", "/img/m.svg", "/index.html", "/js/a.js"]
    assert frame.resources["/index.html"] == FILES["index.html"]
    assert frame.offer("promo_88") == OFFER
    assert frame.offer("promo_89") is None


def test_the_same_frame_has_one_id_one_signature_and_one_bundle() -> None:
    again = build(files=dict(reversed(FILES.items())))
    assert again == FRAME
    assert frames.encode_bundle(again) == BODY
    assert build(sequence=8).frame_id != FRAME.frame_id


def test_the_id_and_its_part_in_urls() -> None:
    key = frames.frame_key(FRAME.frame_id)
    assert FRAME.frame_id == frames.frame_id(FRAME.manifest_bytes) == f"ni:///sha-256;{key}"
    assert frames.frame_id_of_key(key) == FRAME.frame_id
    for wrong in ("", key[:-1], key + "A", key + "\n", "../" + key[3:], key[:-1] + "B"):
        assert refused(lambda wrong=wrong: frames.frame_id_of_key(wrong)).field == "frame_id"


def test_key_order_and_spacing_of_the_bundle_do_not_matter() -> None:
    value = json.loads(BODY)
    value["manifest"] = dict(reversed(value["manifest"].items()))
    assert verify(frames.decode_bundle(json.dumps(value, indent=2).encode())) == FRAME


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_every_changed_byte_is_refused(mask: int) -> None:
    """A bundle with one byte changed is refused, by nothing but InvalidInputError."""
    for place in range(len(BODY)):
        changed = BODY[:place] + bytes([BODY[place] ^ mask]) + BODY[place + 1 :]
        refused(lambda changed=changed: verify(frames.decode_bundle(changed)))


def test_every_truncation_is_refused() -> None:
    for length in range(len(BODY)):
        refused(lambda length=length: frames.decode_bundle(BODY[:length]))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        frames.decode_bundle(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*json.loads(BODY)["manifest"], "path"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(st.sampled_from([*json.loads(BODY)["manifest"], "x"]), json_values)
@settings(max_examples=300)
def test_any_signed_manifest_raises_nothing_else(name: str, value: Any) -> None:
    """The merchant itself, with its good key, sends nonsense in one field."""
    bundle = signed(lambda manifest: manifest.update({name: value}))
    with contextlib.suppress(InvalidInputError):
        assert verify(bundle, last_sequence=None).manifest_bytes == canonical(bundle.manifest)


def resources(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["resources"][2]
    assert found["path"] == "/index.html"
    return found


def swap(manifest: dict[str, Any], **changed: Any) -> None:
    resources(manifest).update(changed)


@pytest.mark.parametrize(
    ("bundle", "changed", "code", "field"),
    [
        (signed(lambda m: None, OTHER), {}, "key_not_found", "frame.header.kid"),
        (signed(lambda m: None), {"keys": KeySet([])}, "key_not_found", "frame.header.kid"),
        (
            signed(lambda m: None),
            {"issuer": "https://a.example"},
            "issuer_mismatch",
            "manifest.iss",
        ),
        (
            signed(lambda m: None),
            {"audience": "https://hub2.example"},
            "audience_mismatch",
            "manifest.aud",
        ),
        (signed(lambda m: None), {"at_ms": UNTIL_S * 1000}, "frame_expired", "manifest.exp"),
        (signed(lambda m: None), {"at_ms": AT_MS - 1}, "frame_not_yet_valid", "manifest.nbf"),
        (signed(lambda m: None), {"last_sequence": 8}, "sequence_too_low", "manifest.seq"),
        (
            signed(lambda m: None),
            {"expected_id": build(sequence=9).frame_id},
            "frame_id_mismatch",
            "frame_id",
        ),
        (signed(lambda m: m.update(exp=m["nbf"])), {}, "invalid_input", "manifest.exp"),
        (signed(lambda m: m.update(v=2)), {}, "invalid_input", "manifest.v"),
        (signed(lambda m: m.update(extra=1)), {}, "invalid_input", "manifest.extra"),
        (signed(lambda m: m.pop("aud")), {}, "invalid_input", "manifest.aud"),
        (signed(lambda m: m.update(seq=-1)), {}, "invalid_input", "manifest.seq"),
        (signed(lambda m: m.update(seq=True)), {}, "invalid_input", "manifest.seq"),
        (signed(lambda m: m.update(offers=[])), {}, "invalid_input", "manifest.offers"),
        (signed(lambda m: m.update(csp="a\r\nb")), {}, "invalid_input", "manifest.csp"),
        (signed(lambda m: m.update(redeem="javascript:1")), {}, "invalid_input", "manifest.redeem"),
        (
            signed(lambda m: m["offers"].append({**m["offers"][0], "id": "o2"})),
            {},
            "duplicate",
            "manifest.offers",
        ),
        (
            signed(lambda m: m["offers"].append({**m["offers"][0], "promotion_id": "p"})),
            {},
            "duplicate",
            "manifest.offers",
        ),
        (
            signed(lambda m: m["offers"][0].update(terms_digest="x")),
            {},
            "invalid_input",
            "manifest.offers[0].terms_digest",
        ),
        (signed(lambda m: swap(m, size=1)), {}, "size_mismatch", "resources./index.html"),
        (
            signed(lambda m: swap(m, digest=digest(b"x"))),
            {},
            "digest_mismatch",
            "resources./index.html",
        ),
        (
            signed(lambda m: swap(m, type="text/plain")),
            {},
            "resource_type_unsupported",
            "manifest.resources[2].type",
        ),
        (
            signed(lambda m: swap(m, path="/index.php", type="text/html")),
            {},
            "resource_type_unsupported",
            "/index.php",
        ),
        (
            signed(lambda m: swap(m, path="/other.html")),
            {},
            "resource_missing",
            "manifest.resources",
        ),
        (
            signed(lambda m: m["resources"].pop(0)),
            {},
            "resource_unlisted",
            "resources./f.css",
        ),
        (
            signed(lambda m: m["resources"].append({**m["resources"][0], "path": "/g.css"})),
            {},
            "resource_missing",
            "resources./g.css",
        ),
        (
            signed(lambda m: m["resources"].append(m["resources"][0])),
            {},
            "duplicate",
            "manifest.resources[4].path",
        ),
        (
            signed(lambda m: m["resources"].append({**m["resources"][0], "path": "/F.css"})),
            {},
            "duplicate",
            "manifest.resources[4].path",
        ),
        (
            signed(lambda m: m["resources"].append({**m["resources"][0], "path": "/f.css/x.css"})),
            {},
            "resource_path_unsafe",
            "manifest.resources[4].path",
        ),
    ],
)
def test_each_wrong_thing_has_its_code(
    bundle: Bundle, changed: dict[str, Any], code: str, field: str
) -> None:
    """Every bundle here is signed by the merchant's own key, if not said otherwise."""
    error = refused(lambda: verify(bundle, **changed))
    assert (error.code, error.field) == (code, field)


UNSAFE_PATHS = [
    "", "/", "index.html", "//index.html", "/../index.html", "/a/../index.html", "/./index.html",
    "/a/./b.html", "/..\\index.html", "\\index.html", "/a\\b.html", "C:/index.html", "/c:/a.html",
    "/%2e%2e/a.html", "/a%2fb.html", "/.hidden.html", "/.git/a.html", "/a/.html", "/a//b.html",
    "/a.html/", "/a b.html", "/a\tb.html", "/a\n.html", "/a.html\n", "/a\0.html", "/ä.html",
    "/\u202ea.html", "/a?b.html", "/a#b.html", "/a;b.html", "/a:b.html", "/a*b.html", "/~a.html",
    "/" + "a" * 200 + ".html", "/../../etc/passwd", "file:///a.html", "http://evil.example/a.html",
]  # fmt: skip


@pytest.mark.parametrize("path", UNSAFE_PATHS)
def test_an_unsafe_path_is_refused(path: str) -> None:
    listed = {"path": path, "type": "text/html", "size": 0, "digest": digest(b"")}
    bundle = signed(lambda manifest: manifest["resources"].append(listed))
    bundle.resources[path] = b""
    error = refused(lambda: verify(bundle))
    assert error.code in {"resource_path_unsafe", "invalid_input", "resource_type_unsupported"}


@pytest.mark.parametrize("path", [path[1:] for path in UNSAFE_PATHS if path[:1] == "/"])
def test_an_unsafe_path_is_not_built_either(path: str) -> None:
    refused(lambda: build(files={**FILES, path: b""}))


def test_building_refuses_what_a_hub_refuses() -> None:
    assert refused(lambda: build(files={"a.css": b""})).code == "resource_missing"
    assert refused(lambda: build(files={})).field == "manifest.resources"
    for name in ("x.exe", "x.php", "x.htm", "x.HTML", "x", "x.html.", "x.gif", "x.json", "x.wasm"):
        error = refused(lambda name=name: build(files={**FILES, name: b""}))
        assert error.code in {"resource_type_unsupported", "resource_path_unsafe"}
    at_most = model.RESOURCE_BYTES_MAX
    assert build(files={**FILES, "a.png": bytes(at_most)})
    error = refused(lambda: build(files={**FILES, "a.png": bytes(at_most + 1)}))
    assert (error.code, error.field) == ("too_large", "/a.png")
    large = {f"{i}.png": bytes(at_most) for i in range(4)}
    assert refused(lambda: build(files={**FILES, **large})).code == "too_large"
    many = {f"{i}.css": b"" for i in range(model.RESOURCES_MAX)}
    assert refused(lambda: build(files={**FILES, **many})).field == "manifest.resources"
    assert refused(lambda: build(offers=[])).field == "manifest.offers"
    assert refused(lambda: build(offers=[OFFER, OFFER])).code == "duplicate"
    assert refused(lambda: build(merchant="https://shop.example/")).field == "manifest.iss"
    assert refused(lambda: build(expires_s=FROM_S)).field == "manifest.exp"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"[]", "bundle"),
        (b"{}", "manifest"),
        (b'{"manifest":{},"resources":{}}', "signature"),
        (b'{"manifest":{},"signature":"","resources":[]}', "resources"),
        (b'{"manifest":{},"signature":"","resources":{},"x":1}', "x"),
        (b'{"manifest":{},"signature":"","resources":{"/a":1}}', "resources./a"),
        (b'{"manifest":{},"signature":"","resources":{"/a":"AB=="}}', "resources./a"),
        (b'{"manifest":{},"signature":"","resources":{"/a":"AA="}}', "resources./a"),
        (b'{"manifest":{},"signature":"","resources":{"/a":"AA==\\n"}}', "resources./a"),
        (b'{"manifest":{},"signature":"","resources":{"/a":"\xc3\xa4"}}', "resources./a"),
        (b'{"manifest":{},"signature":"","resources":{"/a":"","/a":""}}', "/a"),
    ],
)
def test_a_bundle_of_another_shape_is_refused(body: bytes, field: str) -> None:
    assert refused(lambda: frames.decode_bundle(body)).field == field


def test_sizes_are_bounded() -> None:
    assert (
        refused(lambda: frames.decode_bundle(bytes(model.BUNDLE_BYTES_MAX + 1))).code == "too_large"
    )
    many = {f"/{i}": "" for i in range(model.RESOURCES_MAX + 1)}
    value = {"manifest": {}, "signature": "", "resources": many}
    assert refused(lambda: frames.decode_bundle(json.dumps(value).encode())).code == "too_large"
    value = {"manifest": {}, "signature": "", "resources": {"/" * 10_000: ""}}
    error = refused(lambda: frames.decode_bundle(json.dumps(value).encode()))
    assert len(str(error.field)) < 300
    bundle = signed(lambda m: m.update(x="x" * model.MANIFEST_BYTES_MAX))
    assert refused(lambda: verify(bundle)).code == "too_large"


def test_the_limits_themselves_pass() -> None:
    longest = "/" + "a" * (model.PATH_MAX - 6) + ".html"
    many = {f"/{i}": "" for i in range(model.RESOURCES_MAX - 1)} | {longest: ""}
    value = {"manifest": {}, "signature": "", "resources": many}
    assert len(frames.decode_bundle(json.dumps(value).encode()).resources) == model.RESOURCES_MAX
    assert build(files={**FILES, longest[1:]: b""}).resources[longest] == b""
    refused(lambda: build(files={**FILES, "a" + longest[1:]: b""}))


def test_a_signature_of_another_kind_is_no_frame_signature() -> None:
    """The same key over the same bytes, for another purpose (`typ`)."""
    signature = sign_detached(KEY, "other+jws", FRAME.manifest_bytes)
    bundle = Bundle(json.loads(FRAME.manifest_bytes), signature, FRAME.resources)
    assert refused(lambda: verify(bundle)).field == "frame.header.typ"


def test_another_frame_s_signature_does_not_fit() -> None:
    bundle = frames.decode_bundle(BODY)
    foreign = Bundle(bundle.manifest, build(sequence=8).signature, bundle.resources)
    assert refused(lambda: verify(foreign)).code == "signature_invalid"


def test_the_signature_is_checked_before_anything_is_interpreted() -> None:
    bundle = frames.decode_bundle(BODY)
    bundle.manifest["resources"] = "nonsense"
    assert refused(lambda: verify(bundle)).code == "signature_invalid"


def test_a_swapped_resource_is_refused() -> None:
    value = json.loads(BODY)
    value["resources"]["/js/a.js"] = base64.b64encode(b"2").decode()
    error = refused(lambda: verify(frames.decode_bundle(json.dumps(value).encode())))
    assert (error.code, error.field) == ("digest_mismatch", "resources./js/a.js")


WITHDRAWAL = Withdrawal(v=1, iss=SHOP, aud=HUB, seq=8, withdraws=FRAME.frame_id)


def withdraw(jws: str, **changed: Any) -> Withdrawal:
    arguments: dict[str, Any] = {"issuer": SHOP, "audience": HUB, "last_sequence": 7}
    return frames.verify_withdrawal(jws, KEYS, **{**arguments, **changed})


def test_a_withdrawal_is_above_what_it_withdraws() -> None:
    jws = frames.sign_withdrawal(KEY, WITHDRAWAL)
    assert withdraw(jws) == WITHDRAWAL
    assert withdraw(jws, last_sequence=None) == WITHDRAWAL
    assert refused(lambda: withdraw(jws, last_sequence=8)).code == "sequence_too_low"
    assert refused(lambda: withdraw(jws, issuer=HUB)).code == "issuer_mismatch"
    assert refused(lambda: withdraw(jws, audience=SHOP)).code == "audience_mismatch"
    assert refused(lambda: withdraw(frames.sign_withdrawal(OTHER, WITHDRAWAL))).code == (
        "key_not_found"
    )


def test_every_changed_symbol_of_a_withdrawal_is_refused() -> None:
    jws = frames.sign_withdrawal(KEY, WITHDRAWAL)
    for place in range(len(jws)):
        symbol = "A" if jws[place] != "A" else "B"
        refused(lambda jws=jws[:place] + symbol + jws[place + 1 :]: withdraw(jws))


def test_the_policy_is_made_from_the_manifest() -> None:
    at = f"https://frames.hub.example/frames/{frames.frame_key(FRAME.frame_id)}/"
    policy = frames.frame_csp(FRAME.manifest, served_at=at, frame_ancestors=HUB)
    script = digest(b"1").removeprefix("sha-256=:").removesuffix(":")
    assert dict(part.split(" ", 1) for part in policy.split("; ")) == {
        "sandbox": "allow-scripts",
        "default-src": "'none'",
        "script-src": f"{at} 'sha256-{script}'",
        "style-src": f"'unsafe-inline' {at}",
        "img-src": f"{at} data:",
        "font-src": at,
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": HUB,
    }


def test_a_frame_without_scripts_may_run_none() -> None:
    frame = build(files={"index.html": b""})
    policy = frames.frame_csp(frame.manifest, served_at="https://f.example/", frame_ancestors=HUB)
    assert "; script-src 'none'; " in policy


def test_the_merchant_s_policy_can_only_restrict() -> None:
    """It stands behind a comma: a second policy, which a browser enforces besides the first."""
    frame = build(csp="default-src *; script-src *")
    policy = frames.frame_csp(frame.manifest, served_at="https://f.example/", frame_ancestors=HUB)
    assert policy.endswith(f"frame-ancestors {HUB}, default-src *; script-src *")


def test_text_is_served_as_utf_8() -> None:
    types = {r.path: frames.content_type(r) for r in FRAME.manifest.resources}
    assert types == {
        "/f.css": "text/css; charset=utf-8",
        "/img/m.svg": "image/svg+xml; charset=utf-8",
        "/index.html": "text/html; charset=utf-8",
        "/js/a.js": "text/javascript; charset=utf-8",
    }
    image = build(files={**FILES, "a.webp": b""}).manifest.resources[0]
    assert frames.content_type(image) == "image/webp"
