"""Writes the test vectors beside it from fixed seeds; always the same bytes.

Run it after a change of a format (`python spec/vectors/make.py`) and read the difference: every
changed line is something that other implementations must follow.
"""

import base64
import json
from pathlib import Path
from typing import Any

from sconto import federation, frames, tokens
from sconto.base.canonical import b64url, canonical, digest, ni
from sconto.base.documents import to_builtins
from sconto.base.ids import handle_of, new_id
from sconto.base.keys import SigningKey, sign_compact, sign_detached, sign_self
from sconto.tokens.status_list import STATUS_LIST_TYP

SHOP, HUB = "https://shop.example", "https://hub.example"
SEEDS = {name: bytes([i + 1]) * 32 for i, name in enumerate(["shop", "hub", "holder", "stranger"])}
KEY = {name: SigningKey.from_seed(seed) for name, seed in SEEDS.items()}
FROM_S, UNTIL_S = 1_795_000_000, 1_797_600_000
AT_MS = FROM_S * 1000
TERMS_DIGEST = digest(b'{"promotion_id":"promo_88","version":1}')

Case = dict[str, Any]


def vectors() -> dict[str, Case]:
    """File name to content."""
    return {
        "canonical.json": _canonical(),
        "keys.json": _keys(),
        "handles.json": _handles(),
        "frames.json": _frames(),
        "withdrawals.json": _withdrawals(),
        "tokens.json": _tokens(),
        "proofs.json": _proofs(),
        "key-proofs.json": _key_proofs(),
        "status-lists.json": _status_lists(),
        "signatures.json": _signatures(),
        "events.json": _events(),
    }


def encoded(content: Case) -> str:
    return json.dumps(content, indent=1, ensure_ascii=True) + "\n"


def _file(about: str, context: Case, cases: list[Case]) -> Case:
    return {"about": about, "context": context, "cases": cases}


def _jwks(*names: str) -> list[dict[str, str]]:
    return [KEY[name].public.jwk for name in names]


def _canonical() -> Case:
    good = {
        "empty object": "{}",
        "keys are ordered, space goes": '{ "b" : [1, true ,null], "a":"x" }',
        "keys are ordered by UTF-16": '{"\\u20ac":1,"\\r":2,"\\ufb33":3,"1":4,"\\ud83d\\ude00":5}',
        "escapes have one spelling": '["\\u0041\\/\\u000a\\u001f\\"\\\\\\u00e9\\u2028"]',
        "largest integers": "[9007199254740991,-9007199254740991,0,-0]",
    }
    bad = {
        "duplicate key": b'{"a":1,"a":1}',
        "fraction": b'{"a":1.5}',
        "exponent": b'{"a":1e2}',
        "NaN": b"[NaN]",
        "integer beyond 2^53 - 1": b"[9007199254740992]",
        "lone surrogate": b'["\\ud800"]',
        "nested deeper than 32": b"[" * 33 + b"]" * 33,
        "not UTF-8": b'["\xff"]',
        "byte order mark": b"\xef\xbb\xbf[]",
        "truncated": b'{"a":',
        "trailing": b"{} {}",
        "control character": b'["\n"]',
    }
    cases: list[Case] = []
    for name, text in good.items():
        data = canonical(json.loads(text))
        cases.append(
            {
                "name": name,
                "json_base64": base64.b64encode(text.encode()).decode(),
                "canonical": data.decode(),
                "digest": digest(data),
                "ni": ni(data),
            }
        )
    for name, body in bad.items():
        encoded_body = base64.b64encode(body).decode()
        cases.append({"name": name, "json_base64": encoded_body, "refused": "invalid_json"})
    about = "RFC 8785 canonical JSON restricted to integers; strict parsing"
    return _file(about, {}, cases)


def _keys() -> Case:
    cases: list[Case] = [
        {"name": name, "seed_hex": SEEDS[name].hex(), "jwk": key.public.jwk, "kid": key.kid}
        for name, key in KEY.items()
    ]
    public = KEY["shop"].public.jwk
    identity = b64url(b"\1" + bytes(31))
    bad: dict[str, Any] = {
        "private key": {**public, "d": b64url(SEEDS["shop"])},
        "another curve": {**public, "crv": "X25519"},
        "another kind": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        "padded": {**public, "x": public["x"] + "="},
        "too short": {**public, "x": public["x"][:-2]},
        "point of small order": {**public, "x": identity},
        "second spelling of a point": {**public, "x": b64url(b"\xee" + b"\xff" * 30 + b"\x7f")},
    }
    cases += [{"name": n, "jwk": jwk, "refused": "invalid_input"} for n, jwk in bad.items()]
    return _file("Ed25519 keys (RFC 8037) and their thumbprints (RFC 7638)", {}, cases)


def _handles() -> Case:
    ids = ["01HZX", new_id(AT_MS, bytes(range(10))), ""]
    cases: list[Case] = [
        {"name": f"of {token_id!r}", "token_id": token_id, "handle": handle_of(token_id)}
        for token_id in ids
    ]
    handle = handle_of("01HZX")
    typed = {
        "lower case and spaces": handle.lower().replace("-", " "),
        "no groups": handle.replace("-", ""),
        "O for 0, I and L for 1": handle.replace("0", "o").replace("1", "l"),
    }
    cases += [{"name": n, "typed": t, "handle": handle} for n, t in typed.items()]
    wrong = {"wrong symbol": "S" + handle[1:], "swapped": handle[1] + handle[0] + handle[2:]}
    wrong |= {"too short": handle[:-1], "a U inside": "U" + handle[1:]}
    cases += [{"name": n, "typed": t, "refused": "invalid_input"} for n, t in wrong.items()]
    return _file("Handle of a token: 15 symbols of Crockford base32 and a check symbol", {}, cases)


def _frame(**changed: Any) -> frames.Frame:
    arguments: dict[str, Any] = {
        "merchant": SHOP,
        "hub": HUB,
        "not_before_s": FROM_S,
        "expires_s": UNTIL_S,
        "sequence": 7,
        "offers": [
            frames.FrameOffer(
                id="o1", promotion_id="promo_88", terms_digest=TERMS_DIGEST, title="Milk −20 %"
            )
        ],
        "files": {
            "index.html": b'<!doctype html><title>Milk</title><script src="a.js"></script>\n',
            "a.js": b"document.title += '!'\n",
            "img/milk.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>\n',
        },
        "redeem": f"{SHOP}/v1",
        **changed,
    }
    return frames.build_frame(KEY["shop"], **arguments)


def _frames() -> Case:
    frame = _frame()
    bundle = json.loads(frames.encode_bundle(frame))

    def text(manifest: Case | None = None, signer: str | None = "shop", **changed: Any) -> str:
        """The bundle with another manifest, signed again if there is a signer."""
        new = {**bundle, **changed}
        if manifest is not None:
            new["manifest"] = {**bundle["manifest"], **manifest}
        if signer is not None and "signature" not in changed:
            data = canonical(new["manifest"])
            new["signature"] = sign_detached(KEY[signer], frames.FRAME_TYP, data)
        return json.dumps(new, ensure_ascii=False, separators=(",", ":"))

    listed = bundle["manifest"]["resources"]
    files = bundle["resources"]

    def with_path(path: str) -> str:
        extra = {"path": path, "type": "text/html", "size": 0, "digest": digest(b"")}
        return text({"resources": [*listed, extra]}, resources={**files, path: ""})

    ok = {"frame_id": frame.frame_id}
    other_typ = sign_detached(KEY["shop"], "promo-token+jwt", frame.manifest_bytes)
    cases: list[Case] = [
        {"name": "good", "bundle": frames.encode_bundle(frame).decode(), **ok},
        {"name": "good, other key order and spacing", "bundle": json.dumps(bundle, indent=1), **ok},
    ]
    refused = {
        "changed manifest": (text({"seq": 8}, None), "signature_invalid"),
        "changed resource": (text(resources={**files, "/a.js": "AA=="}), "size_mismatch"),
        "changed resource of the same size": (
            text(
                resources={
                    **files,
                    "/a.js": base64.b64encode(b"document.title += '?'\n").decode(),
                }
            ),
            "digest_mismatch",
        ),
        "missing resource": (
            text(resources={k: v for k, v in files.items() if k != "/a.js"}),
            "resource_missing",
        ),
        "unlisted resource": (text(resources={**files, "/b.js": ""}), "resource_unlisted"),
        "signed by a stranger": (text(signer="stranger"), "key_not_found"),
        "signature of another type": (text(signature=other_typ), "signature_invalid"),
        "signature of another frame": (
            text(signature=_frame(sequence=8).signature),
            "signature_invalid",
        ),
        "no signature": (text(signature=""), "malformed"),
        "of another merchant": (text({"iss": "https://a.example"}), "issuer_mismatch"),
        "for another hub": (text({"aud": "https://a.example"}), "audience_mismatch"),
        "over": (text({"nbf": FROM_S - 9, "exp": FROM_S}), "frame_expired"),
        "not begun": (text({"nbf": FROM_S + 1}), "frame_not_yet_valid"),
        "sequence too low": (text({"seq": 6}), "sequence_too_low"),
        "unknown version": (text({"v": 2}), "invalid_input"),
        "unknown field": (text({"x": 1}), "invalid_input"),
        "no offer": (text({"offers": []}), "invalid_input"),
        "ends before it begins": (text({"exp": FROM_S}), "invalid_input"),
        "no index.html": (
            text({"resources": listed[:1]}, resources={"/a.js": files["/a.js"]}),
            "resource_missing",
        ),
        "base64 with spare bits": (text(resources={**files, "/a.js": "AB=="}), "malformed"),
        "executable": (
            text({"resources": [*listed, {**listed[0], "path": "/a.exe"}]}),
            "resource_type_unsupported",
        ),
        "wrong type": (
            text({"resources": [{**listed[0], "type": "text/html"}, *listed[1:]]}),
            "resource_type_unsupported",
        ),
        "listed twice": (text({"resources": [*listed, listed[0]]}), "duplicate"),
        "listed twice in other case": (
            text({"resources": [*listed, {**listed[0], "path": "/A.js"}]}),
            "duplicate",
        ),
        "path goes up": (with_path("/../x.html"), "resource_path_unsafe"),
        "path goes up inside": (with_path("/a/../x.html"), "resource_path_unsafe"),
        "path is relative": (with_path("x.html"), "resource_path_unsafe"),
        "path has a backslash": (with_path("/a\\x.html"), "resource_path_unsafe"),
        "path is escaped": (with_path("/%2e%2e/x.html"), "resource_path_unsafe"),
        "path has an empty part": (with_path("//x.html"), "resource_path_unsafe"),
        "path is hidden": (with_path("/.x.html"), "resource_path_unsafe"),
        "path is not ASCII": (with_path("/ä.html"), "resource_path_unsafe"),
        "path below a file": (with_path("/a.js/x.html"), "resource_path_unsafe"),
        "not JSON": ("{", "invalid_json"),
        "a list": ("[]", "malformed"),
        "unknown part": (text(x=1), "malformed"),
    }
    cases += [{"name": n, "bundle": t, "refused": code} for n, (t, code) in refused.items()]
    context = {
        "merchant_keys": _jwks("shop"),
        "issuer": SHOP,
        "audience": HUB,
        "at_ms": AT_MS,
        "last_sequence": 7,
        "manifest_canonical": frame.manifest_bytes.decode(),
    }
    return _file("Website frames: bundle to frame id", context, cases)


def _withdrawals() -> Case:
    claims = {"v": 1, "iss": SHOP, "aud": HUB, "seq": 8, "withdraws": _frame().frame_id}

    def jws(signer: str = "shop", typ: str = frames.WITHDRAWAL_TYP, **changed: Any) -> str:
        return sign_compact(KEY[signer], typ, {**claims, **changed})

    refused = {
        "by a stranger": (jws("stranger"), "key_not_found"),
        "another type": (jws(typ="promo-frame+jws"), "signature_invalid"),
        "for another hub": (jws(aud="https://a.example"), "audience_mismatch"),
        "of another merchant": (jws(iss="https://a.example"), "issuer_mismatch"),
        "sequence not above the last": (jws(seq=7), "sequence_too_low"),
        "no frame id": (jws(withdraws="x"), "invalid_input"),
    }
    cases: list[Case] = [{"name": "good", "withdrawal": jws(), "claims": claims}]
    cases += [{"name": n, "withdrawal": t, "refused": code} for n, (t, code) in refused.items()]
    context = {
        "merchant_keys": _jwks("shop"), "issuer": SHOP, "audience": HUB, "last_sequence": 7,
    }  # fmt: skip
    return _file("Withdrawals of frames", context, cases)


def _claims() -> tokens.TokenClaims:
    return tokens.TokenClaims(
        iss=HUB,
        aud=SHOP,
        jti=new_id(AT_MS, bytes(range(10))),
        iat=FROM_S,
        nbf=FROM_S,
        exp=UNTIL_S,
        promotion_id="promo_88",
        terms_digest=TERMS_DIGEST,
        frame=_frame().frame_id,
        cnf=tokens.Confirmation(jkt=KEY["holder"].kid),
        sub=tokens.pairwise_subject(SEEDS["hub"], KEY["holder"].kid, SHOP),
        status=tokens.Status(
            status_list=tokens.StatusReference(idx=5, uri=f"{HUB}/v1/status-lists/1")
        ),
    )


def _tokens() -> Case:
    claims = to_builtins(_claims())
    token = tokens.issue_token(KEY["hub"], _claims())
    header, payload, signature = token.split(".")

    def jws(signer: str = "hub", typ: str = tokens.TOKEN_TYP, **changed: Any) -> str:
        said = {k: v for k, v in {**claims, **changed}.items() if v is not None}
        return sign_compact(KEY[signer], typ, said)

    def headed(**changed: Any) -> str:
        """Correctly signed over another header."""
        values = {"alg": "Ed25519", "kid": KEY["hub"].kid, "typ": tokens.TOKEN_TYP, **changed}
        text = f"{b64url(canonical(values))}.{payload}"
        return f"{text}.{b64url(KEY['hub'].sign(text.encode()))}"

    refused = {
        "changed claim": (f"{header}.{jws(uses=2).split('.')[1]}.{signature}", "signature_invalid"),
        "no signature": (f"{header}.{payload}.", "signature_invalid"),
        "cut off": (token[:-1], "malformed"),
        "spare bits set": (token[:-1] + "B", "malformed"),
        "padded": (token + "==", "malformed"),
        "two parts": (f"{header}.{payload}", "malformed"),
        "alg none": (headed(alg="none"), "algorithm_unsupported"),
        "alg HS256": (headed(alg="HS256"), "algorithm_unsupported"),
        "alg EdDSA": (headed(alg="EdDSA"), "algorithm_unsupported"),
        "jku": (headed(jku="https://evil.example/keys"), "signature_invalid"),
        "jwk": (headed(jwk=KEY["hub"].public.jwk), "signature_invalid"),
        "x5u": (headed(x5u="https://evil.example/cert"), "signature_invalid"),
        "crit": (headed(crit=["exp"]), "signature_invalid"),
        "b64": (headed(b64=False), "signature_invalid"),
        "kid is a path": (headed(kid="../../../dev/null"), "key_not_found"),
        "another type": (headed(typ="JWT"), "signature_invalid"),
        "by a stranger": (jws("stranger"), "key_not_found"),
        "of a hub that nobody knows": (jws(iss="https://a.example"), "issuer_unknown"),
        "for another merchant": (jws(aud="https://a.example"), "audience_mismatch"),
        "for several merchants": (jws(aud=[SHOP]), "invalid_input"),
        "expired": (jws(nbf=FROM_S - 9, exp=FROM_S), "token_expired"),
        "not yet valid": (jws(nbf=FROM_S + 61), "token_not_yet_valid"),
        "no holder": (jws(cnf=None), "invalid_input"),
        "no frame": (jws(frame=None), "invalid_input"),
        "no use": (jws(uses=0), "invalid_input"),
        "unknown claim": (jws(x=1), "invalid_input"),
    }
    cases: list[Case] = [
        {"name": "good", "token": token, "claims": claims, "ath": tokens.token_digest(token)},
        {"name": "a minute early", "token": jws(nbf=FROM_S + 60), "claims": {
            **claims, "nbf": FROM_S + 60,
        }},
    ]  # fmt: skip
    cases += [{"name": n, "token": t, "refused": code} for n, (t, code) in refused.items()]
    context = {
        "issuers": {HUB: _jwks("hub")}, "audience": SHOP, "at_ms": AT_MS, "leeway_s": 60,
    }  # fmt: skip
    return _file("Tokens, as a merchant verifies them offline", context, cases)


def _proofs() -> Case:
    token = tokens.issue_token(KEY["hub"], _claims())
    request = {"method": "POST", "url": f"{SHOP}/v1/checkouts", "order": "order-1", "nonce": "n-1"}
    said = {
        "jti": "p-1",
        "htm": request["method"],
        "htu": request["url"],
        "iat": FROM_S,
        "ath": tokens.token_digest(token),
        "order": request["order"],
        "nonce": request["nonce"],
    }

    def jws(signer: str = "holder", typ: str = tokens.PROOF_TYP, **changed: Any) -> str:
        claims = {k: v for k, v in {**said, **changed}.items() if v is not None}
        return sign_self(KEY[signer], typ, claims)

    refused = {
        "another key": (jws("stranger"), "holder_mismatch"),
        "another method": (jws(htm="GET"), "proof_mismatch"),
        "another URL": (jws(htu=f"{SHOP}/v1/orders"), "proof_mismatch"),
        "another token": (jws(ath=tokens.token_digest("x")), "proof_mismatch"),
        "another order": (jws(order="order-2"), "proof_mismatch"),
        "another nonce": (jws(nonce="n-2"), "proof_mismatch"),
        "no nonce": (jws(nonce=None), "proof_mismatch"),
        "no id": (jws(jti=None), "malformed"),
        "too old": (jws(iat=FROM_S - 301), "proof_expired"),
        "from the future": (jws(iat=FROM_S + 61), "proof_not_yet_valid"),
        "another type": (jws(typ="JWT"), "signature_invalid"),
    }
    cases: list[Case] = [{"name": "good", "proof": jws(), "proof_id": "p-1"}]
    cases += [{"name": n, "proof": t, "refused": code} for n, (t, code) in refused.items()]
    context = {"token": token, "holder": KEY["holder"].kid, "now_ms": AT_MS, "max_age_s": 300}
    return _file("Proofs of a holder (RFC 9449 and an order)", {**context, **request}, cases)


def _key_proofs() -> Case:
    said = {"aud": HUB, "iat": FROM_S, "nonce": "n-1"}

    def jws(typ: str = tokens.KEY_PROOF_TYP, **changed: Any) -> str:
        claims = {k: v for k, v in {**said, **changed}.items() if v is not None}
        return sign_self(KEY["holder"], typ, claims)

    refused = {
        "for another hub": (jws(aud="https://a.example"), "audience_mismatch"),
        "another nonce": (jws(nonce="n-2"), "invalid_nonce"),
        "no nonce": (jws(nonce=None), "invalid_nonce"),
        "too old": (jws(iat=FROM_S - 301), "proof_expired"),
        "another type": (jws(typ="dpop+jwt"), "signature_invalid"),
    }
    kid = KEY["holder"].kid
    cases: list[Case] = [
        {"name": "good", "proof": jws(), "kid": kid},
        {"name": "with claims of another wallet", "proof": jws(iss="wallet", x=1), "kid": kid},
    ]
    cases += [{"name": n, "proof": t, "refused": code} for n, (t, code) in refused.items()]
    context = {"audience": HUB, "nonce": "n-1", "now_ms": AT_MS, "max_age_s": 300}
    return _file("Key proofs of a wallet (OpenID4VCI 1.0)", context, cases)


def _status_lists() -> Case:
    uri = f"{HUB}/v1/status-lists/1"
    # The list of the draft's own example: what zlib writes may differ by version.
    said = {
        "sub": uri,
        "iat": FROM_S,
        "exp": FROM_S + 60,
        "ttl": 30,
        "status_list": {"bits": 1, "lst": "eNrbuRgAAhcBXQ"},
    }

    def jws(signer: str = "hub", typ: str = STATUS_LIST_TYP, **changed: Any) -> str:
        return sign_compact(KEY[signer], typ, {**said, **changed})

    refused = {
        "by a stranger": (jws("stranger"), "key_not_found"),
        "another list": (jws(sub=f"{uri}1"), "audience_mismatch"),
        "expired": (jws(iat=FROM_S - 60, exp=FROM_S), "status_list_expired"),
        "two bits": (jws(status_list={"bits": 2, "lst": "eNo76fITAAPfAgc"}), "invalid_input"),
        "not compressed": (jws(status_list={"bits": 1, "lst": "uaM"}), "malformed"),
        "cut off": (jws(status_list={"bits": 1, "lst": "eNrbuRgAAhcB"}), "malformed"),
        "another type": (jws(typ="JWT"), "signature_invalid"),
    }
    cases: list[Case] = [
        {"name": "good", "jws": jws(), "size": 16, "revoked": [0, 3, 4, 5, 7, 8, 9, 13, 15]}
    ]
    cases += [{"name": n, "jws": t, "refused": code} for n, (t, code) in refused.items()]
    context = {"issuer_keys": _jwks("hub"), "uri": uri, "at_ms": AT_MS}
    return _file("Token status lists", context, cases)


def _signatures() -> Case:
    body = '[{"a":1}]'
    profile_url = SHOP + federation.PROFILE_PATH
    good = {"method": "POST", "target": "/v1/events?from=7", "body": body, "now_s": FROM_S}

    def sign(method: str, url: str, sent: str, key: str = "shop") -> list[list[str]]:
        headers = federation.sign_request(
            KEY[key],
            method,
            url,
            {"Content-Type": "application/json"} if sent else {},
            sent.encode(),
            profile_url=profile_url,
            created_s=FROM_S,
            idempotency_key="k-1" if method != "GET" else None,
        )
        return [[name, value] for name, value in headers.items()]

    headers = sign("POST", f"{HUB}/v1/events?from=7", body)

    def other(name: str, *values: str) -> list[list[str]]:
        kept = [pair for pair in headers if pair[0] != name]
        return kept + [[name, value] for value in values]

    given = dict(headers)
    relabelled = [
        [name, value.replace("sig1=", "x=") if name.startswith("Signature") else value]
        for name, value in headers
    ]
    ok = {"profile_url": profile_url, "kid": KEY["shop"].kid}
    get = sign("GET", f"{HUB}/v1/frames", "")
    cases: list[Case] = [
        {"name": "good", **good, "headers": headers, **ok},
        {"name": "GET", "method": "GET", "target": "/v1/frames", "body": "", "now_s": FROM_S,
         "headers": get, **ok},
        {"name": "another label", **good, "headers": relabelled, **ok},
        {"name": "a poisoned Host", **good, "headers": [*headers, ["Host", "evil.example"]], **ok},
        {"name": "five minutes old", **good, "headers": headers, "now_s": FROM_S + 300, **ok},
    ]  # fmt: skip
    alg = given["Signature-Input"] + ';alg="ed25519"'
    uncovered = given["Signature-Input"].replace(' "@query"', "")
    for_evil = sign("POST", "https://evil.example/v1/events?from=7", body)
    by_stranger = sign("POST", f"{HUB}/v1/events?from=7", body, "stranger")
    refused: dict[str, tuple[Case, str]] = {
        "no signature": ({"headers": other("Signature")}, "signature_missing"),
        "no UCP-Agent": ({"headers": other("UCP-Agent")}, "signature_missing"),
        "no idempotency key": ({"headers": other("Idempotency-Key")}, "signature_invalid"),
        "another idempotency key": (
            {"headers": other("Idempotency-Key", "k-2")},
            "signature_invalid",
        ),
        "a header twice": (
            {"headers": other("Content-Type", "application/json", "text/html")},
            "signature_invalid",
        ),
        "another content type": (
            {"headers": other("Content-Type", "text/html")},
            "signature_invalid",
        ),
        "another method": ({"method": "PUT"}, "signature_invalid"),
        "another path": ({"target": "/v1/tokens?from=7"}, "signature_invalid"),
        "another query": ({"target": "/v1/events?from=8"}, "signature_invalid"),
        "no query": ({"target": "/v1/events"}, "signature_invalid"),
        "path spelt otherwise": ({"target": "/v1/%65vents?from=7"}, "signature_invalid"),
        "another body": ({"body": body + " "}, "digest_mismatch"),
        "another digest": ({"headers": other("Content-Digest", digest(b""))}, "signature_invalid"),
        "for another host": ({"headers": for_evil}, "signature_invalid"),
        "for another host, with its Host": (
            {"headers": [*for_evil, ["Host", "evil.example"]]},
            "signature_invalid",
        ),
        "by a stranger": ({"headers": by_stranger}, "key_not_found"),
        "names an algorithm": ({"headers": other("Signature-Input", alg)}, "algorithm_unsupported"),
        "does not cover the query": (
            {"headers": other("Signature-Input", uncovered)},
            "signature_invalid",
        ),
        "too old": ({"now_s": FROM_S + 301}, "signature_expired"),
        "from the future": ({"now_s": FROM_S - 61}, "signature_expired"),
    }  # fmt: skip
    for name, (changed, code) in refused.items():
        cases.append({"name": name, **good, "headers": headers, **changed, "refused": code})
    context = {"public_base_url": HUB, "profiles": {profile_url: _jwks("shop")}, "max_age_s": 300}
    return _file("HTTP message signatures (RFC 9421 as UCP profiles it)", context, cases)


def _events() -> Case:
    event = {
        "id": "01HZX",
        "source": HUB,
        "type": "sconto.token.issued.v1",
        "subject": "promo_88",
        "time_ms": AT_MS + 7,
        "sequence": 1,
        "data": {"token_id": "t", "uses": 1},
        "stream": "",
    }

    def batch(*some: Case) -> str:
        return federation.encode_batch([federation.Event(**one) for one in some]).decode()

    second = {**event, "id": "01HZY", "sequence": 2, "time_ms": AT_MS}
    good = batch(event, second)
    refused = {
        "gap": (batch(event, {**second, "sequence": 3}), "sequence_gap"),
        "twice": (batch(event, event), "sequence_gap"),
        "two sources": (batch(event, {**second, "source": SHOP}), "malformed"),
        "no offset in time": (good.replace("40.007Z", "40.007"), "invalid_input"),
        "sequence is a number": (
            batch(event).replace('"00000000000000000001"', "1"),
            "invalid_input",
        ),
        "another version": (good.replace('"1.0"', '"0.3"'), "invalid_input"),
        "not a list": ("{}", "malformed"),
    }
    cases: list[Case] = [
        {"name": "good", "batch": good, "events": [event, second]},
        {"name": "empty", "batch": "[]", "events": []},
        {
            "name": "unknown extension",
            "batch": batch(event).replace('"id"', '"traceparent":"00-1-2-01","id"'),
            "events": [event],
        },
    ]
    cases += [{"name": n, "batch": t, "refused": code} for n, (t, code) in refused.items()]
    return _file("Event batches (CloudEvents 1.0)", {}, cases)


def main() -> None:
    for name, content in vectors().items():
        (Path(__file__).parent / name).write_text(encoded(content))


if __name__ == "__main__":
    main()
