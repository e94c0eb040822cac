"""Runs the language-neutral vectors of spec/vectors, as any other implementation would.

Each file has one reader: from a case and the file's context to the result that stands in the case.
"""

import base64
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from sconto import federation, frames, tokens
from sconto.base.canonical import canonical, digest, ni, parse_json
from sconto.base.documents import to_builtins
from sconto.base.errors import InvalidInputError
from sconto.base.ids import handle_of, normalise_handle
from sconto.base.keys import KeySet, PublicKey, SigningKey

FOLDER = Path(__file__).parent.parent / "spec" / "vectors"
FILES = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
CASES = [(name, case) for name, file in FILES.items() for case in file["cases"]]

Case = dict[str, Any]


def read_canonical(case: Case, context: Case) -> Case:
    body = base64.b64decode(case["json_base64"])
    data = canonical(parse_json(body, max_bytes=10_000))
    return {"canonical": data.decode(), "digest": digest(data), "ni": ni(data)}


def read_key(case: Case, context: Case) -> Case:
    if "seed_hex" in case:
        key = SigningKey.from_seed(bytes.fromhex(case["seed_hex"]))
        return {"jwk": key.public.jwk, "kid": key.kid}
    return {"kid": PublicKey.from_jwk(case["jwk"]).kid}


def read_handle(case: Case, context: Case) -> Case:
    if "token_id" in case:
        return {"handle": handle_of(case["token_id"])}
    return {"handle": normalise_handle(case["typed"])}


def read_frame(case: Case, context: Case) -> Case:
    frame = frames.verify_frame(
        frames.decode_bundle(case["bundle"].encode()),
        KeySet.from_jwks(context["merchant_keys"]),
        issuer=context["issuer"],
        audience=context["audience"],
        at_ms=context["at_ms"],
        last_sequence=context["last_sequence"],
    )
    assert frame.manifest_bytes.decode() == context["manifest_canonical"]
    return {"frame_id": frame.frame_id}


def read_withdrawal(case: Case, context: Case) -> Case:
    withdrawal = frames.verify_withdrawal(
        case["withdrawal"],
        KeySet.from_jwks(context["merchant_keys"]),
        issuer=context["issuer"],
        audience=context["audience"],
        last_sequence=context["last_sequence"],
    )
    return {"claims": to_builtins(withdrawal)}


def read_token(case: Case, context: Case) -> Case:
    claims = tokens.verify_token(
        case["token"],
        {issuer: KeySet.from_jwks(jwks) for issuer, jwks in context["issuers"].items()},
        audience=context["audience"],
        at_ms=context["at_ms"],
        leeway_s=context["leeway_s"],
    )
    result = {"claims": to_builtins(claims)}
    return result | ({"ath": tokens.token_digest(case["token"])} if "ath" in case else {})


def read_proof(case: Case, context: Case) -> Case:
    claims = json.loads(base64.urlsafe_b64decode(context["token"].split(".")[1] + "=="))
    holder = claims["cnf"]["jkt"]
    assert holder == context["holder"]
    proof = tokens.verify_proof(
        case["proof"],
        context["token"],
        tokens.TokenClaims(**{**claims, "cnf": tokens.Confirmation(jkt=holder), "status": None}),
        method=context["method"],
        url=context["url"],
        order=context["order"],
        nonce=context["nonce"],
        now_ms=context["now_ms"],
        max_age_s=context["max_age_s"],
    )
    return {"proof_id": proof.proof_id}


def read_key_proof(case: Case, context: Case) -> Case:
    return {"kid": tokens.verify_key_proof(case["proof"], **context).kid}


def read_status_list(case: Case, context: Case) -> Case:
    keys = KeySet.from_jwks(context["issuer_keys"])
    published = tokens.verify_status_list(
        case["jws"], keys, uri=context["uri"], at_ms=context["at_ms"]
    )
    size = 8 * len(published.statuses.bits)
    revoked = [place for place in range(size) if published.statuses.is_revoked(place)]
    return {"size": size, "revoked": revoked}


def read_signature(case: Case, context: Case) -> Case:
    profiles = {url: KeySet.from_jwks(jwks) for url, jwks in context["profiles"].items()}
    signed = federation.verify_request(
        case["method"],
        context["public_base_url"],
        case["target"],
        [(name, value) for name, value in case["headers"]],
        case["body"].encode(),
        lambda profile_url, kid: profiles[profile_url].get(kid),
        now_s=case["now_s"],
        max_age_s=context["max_age_s"],
    )
    return {"profile_url": signed.profile_url, "kid": signed.kid}


def read_events(case: Case, context: Case) -> Case:
    events = federation.decode_batch(case["batch"].encode())
    return {"events": [msgspec.structs.asdict(event) for event in events]}


READERS: dict[str, Callable[[Case, Case], Case]] = {
    "canonical.json": read_canonical,
    "keys.json": read_key,
    "handles.json": read_handle,
    "frames.json": read_frame,
    "withdrawals.json": read_withdrawal,
    "tokens.json": read_token,
    "proofs.json": read_proof,
    "key-proofs.json": read_key_proof,
    "status-lists.json": read_status_list,
    "signatures.json": read_signature,
    "events.json": read_events,
}


@pytest.mark.parametrize(
    ("name", "case"), CASES, ids=[f"{name[:-5]}: {case['name']}" for name, case in CASES]
)
def test_vector(name: str, case: Case) -> None:
    def read() -> Case:
        return READERS[name](case, FILES[name]["context"])

    if "refused" in case:
        with pytest.raises(InvalidInputError) as caught:
            read()
        assert caught.value.code == case["refused"]
    else:
        result = read()
        assert result == {key: case[key] for key in result}


def test_every_file_has_a_reader_and_is_listed() -> None:
    assert FILES.keys() == READERS.keys()
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in FILES)


def test_every_file_has_good_and_bad_cases() -> None:
    for name, file in FILES.items():
        refused = {"refused" in case for case in file["cases"]}
        assert refused == {True, False}, name
        names = [case["name"] for case in file["cases"]]
        assert len(set(names)) == len(names), name


def test_the_vectors_are_what_make_py_writes() -> None:
    make = load(FOLDER / "make.py")
    for name, content in make.vectors().items():
        assert (FOLDER / name).read_text() == make.encoded(content), f"run {FOLDER / 'make.py'}"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("vectors_make", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
