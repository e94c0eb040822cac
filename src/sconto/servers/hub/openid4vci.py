"""Issuing a token to a wallet: OpenID for Verifiable Credential Issuance 1.0, pre-authorized code.

    offer -> POST token (code) -> POST nonce -> POST credential (key proof) -> POST notification

Section numbers below are of that specification. Errors have its form, `{"error": …}`, so that other
people's wallets understand them. What is issued is decided in `issuing.py`.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from sconto.base.documents import Document
from sconto.base.errors import InvalidInputError, ScontoError
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.hub import codes
from sconto.servers.hub.clips import CONFIGURATION_ID, GRANT, is_open
from sconto.servers.hub.issuing import issue
from sconto.servers.hub.oauth import OAuthError, oauth_answer
from sconto.servers.hub.status import token_ended
from sconto.store import tokens
from sconto.store.writer import Tx
from sconto.tokens import TOKEN_TYP, is_nonce, make_nonce, verify_key_proof

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

_FORM = "application/x-www-form-urlencoded"
_NONCE = "openid4vci"


class TokenRequest(Struct, kw_only=True):
    """RFC 6749 section 4.5 and OpenID4VCI section 6.1; unknown parameters are passed over."""

    grant_type: str
    pre_authorized_code: str = msgspec.field(name="pre-authorized_code")


class AccessToken(Document):
    """OpenID4VCI section 6.2."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"
    #: Seconds.
    expires_in: int = codes.ACCESS_LIFE_MS // 1000


class Proofs(Struct, kw_only=True):
    """Key proofs; this hub takes the kind `jwt`."""

    jwt: Annotated[tuple[str, ...], Meta(max_length=100)] = ()


class CredentialRequest(Struct, kw_only=True):
    """OpenID4VCI section 8.2: unknown members are passed over, as it says."""

    credential_configuration_id: str | None = None
    credential_identifier: str | None = None
    proofs: Proofs | None = None


class Credential(Document):
    """One issued token."""

    credential: str


class CredentialAnswer(Document):
    """OpenID4VCI section 8.3."""

    credentials: tuple[Credential, ...]
    notification_id: str


class Notification(Struct, kw_only=True):
    """OpenID4VCI section 11.1."""

    notification_id: str
    event: Literal["credential_accepted", "credential_failure", "credential_deleted"]
    event_description: str | None = None


def _read_form(body: bytes) -> TokenRequest:
    """A form whose parameters stand once each (RFC 6749 section 3.2)."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50
        )
    except ValueError:
        raise OAuthError("the form cannot be read", code="invalid_request") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("a parameter stands twice", code="invalid_request")
    if form.get("grant_type", GRANT) != GRANT:
        raise OAuthError("only pre-authorized codes are taken", code="unsupported_grant_type")
    for name in ("grant_type", "pre-authorized_code"):
        if not form.get(name):
            raise OAuthError("a parameter is missing", code="invalid_request", field=name)
    return msgspec.convert(form, TokenRequest)


@endpoint(
    "GET",
    "/.well-known/openid-credential-issuer",
    scope="",
    summary="Credential issuer metadata (OpenID4VCI 1.0, section 12.2)",
    returns=dict[str, Any],
)
async def issuer_metadata(hub: "Hub", call: Call) -> dict[str, Any]:
    url = hub.base.home.url
    return {
        "credential_issuer": url,
        "credential_endpoint": f"{url}/openid4vci/credential",
        "nonce_endpoint": f"{url}/openid4vci/nonce",
        "notification_endpoint": f"{url}/openid4vci/notification",
        "display": [{"name": hub.base.home.name}],
        "credential_configurations_supported": {
            CONFIGURATION_ID: {
                "format": TOKEN_TYP,
                "cryptographic_binding_methods_supported": ["jwk"],
                "credential_signing_alg_values_supported": ["Ed25519"],
                "proof_types_supported": {
                    "jwt": {"proof_signing_alg_values_supported": ["Ed25519"]}
                },
                "credential_metadata": {"display": [{"name": "Promotion token"}]},
            }
        },
    }


@endpoint(
    "GET",
    "/.well-known/oauth-authorization-server",
    scope="",
    summary="Authorization server metadata (RFC 8414)",
    returns=dict[str, Any],
)
async def authorization_metadata(hub: "Hub", call: Call) -> dict[str, Any]:
    url = hub.base.home.url
    return {
        "issuer": url,
        "token_endpoint": f"{url}/openid4vci/token",
        "token_endpoint_auth_methods_supported": ["none"],
        "response_types_supported": [],
        "grant_types_supported": [GRANT],
        "pre-authorized_grant_anonymous_access_supported": True,
    }


@endpoint(
    "POST",
    "/openid4vci/token",
    scope="",
    summary="Exchange the pre-authorized code of an offer for an access token",
    accepts=TokenRequest,
    accepts_type=_FORM,
    read=_read_form,
    returns=AccessToken,
    max_bytes=8192,
    write_error=oauth_answer,
)
async def exchange_code(hub: "Hub", call: Call) -> AccessToken:
    """A code works once. When the answer was lost, the wallet clips again and gets another code."""
    media_type = (call.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != _FORM:
        raise OAuthError(f"the body must be {_FORM}", code="invalid_request", field="Content-Type")
    code: str = call.document.pre_authorized_code

    def command(tx: Tx) -> str:
        token_id = codes.token_id_in(code)
        token = None if token_id is None else tokens.get(tx.connection, token_id)
        if (
            token is None
            or token.offer_code_hash is None
            or not codes.is_same(codes.code_hash(code).hex(), token.offer_code_hash.hex())
            or not is_open(hub, token)
        ):
            hub.offer_guesses.failed(call.source, hub.base.wall_clock())
            raise OAuthError("the code is unknown, used, or over", code="invalid_grant")
        tokens.use_code(tx, token)
        return token.token_id

    token_id = await hub.base.store.write(command)
    end_ms = hub.base.wall_clock() + codes.ACCESS_LIFE_MS
    return AccessToken(access_token=codes.access_token(hub.base.home.secret, token_id, end_ms))


@endpoint(
    "POST",
    "/openid4vci/nonce",
    scope="",
    summary="A nonce for the key proof",
    returns=dict[str, str],
    write_error=oauth_answer,
)
async def give_nonce(hub: "Hub", call: Call) -> dict[str, str]:
    nonce = make_nonce(hub.base.home.secret, _NONCE, hub.base.wall_clock(), hub.random(8))
    return {"c_nonce": nonce}


@endpoint(
    "POST",
    "/openid4vci/credential",
    scope="",
    summary="Issue the token of an offer to the holder of a key",
    accepts=CredentialRequest,
    returns=CredentialAnswer,
    max_bytes=65_536,
    write_error=oauth_answer,
)
async def give_credential(hub: "Hub", call: Call) -> CredentialAnswer:
    """Send the access token as bearer.

    A registered wallet server signs the request as well: it is told of redemptions then, and
    promotions with a limit for each shopper are for such wallets only, since they vouch that one
    shopper has one key.
    """
    token_id = _authorised(hub, call)
    asked: CredentialRequest = call.document
    if asked.credential_identifier is not None:
        raise OAuthError("no identifiers are given out", code="unknown_credential_identifier")
    if asked.credential_configuration_id is None:
        raise OAuthError(
            "credential_configuration_id is missing", code="invalid_credential_request"
        )
    if asked.credential_configuration_id != CONFIGURATION_ID:
        raise OAuthError(
            f"only {CONFIGURATION_ID} is issued", code="unknown_credential_configuration"
        )
    holder_jkt = _proven_key(hub, asked)
    wallet = await _signing_wallet(hub, call)

    def command(tx: Tx) -> str:
        return issue(hub, tx, token_id, holder_jkt, wallet)

    jws = await hub.base.store.write(command)
    return CredentialAnswer(
        credentials=(Credential(credential=jws),),
        notification_id=codes.notification_id(hub.base.home.secret, token_id),
    )


@endpoint(
    "POST",
    "/openid4vci/notification",
    scope="",
    summary="What became of an issued token in the wallet",
    accepts=Notification,
    status=204,
    write_error=oauth_answer,
)
async def take_notification(hub: "Hub", call: Call) -> None:
    """A token that its holder deleted is revoked: nobody can use it any more."""
    token_id = _authorised(hub, call)
    said: Notification = call.document
    expected = codes.notification_id(hub.base.home.secret, token_id)
    if not codes.is_same(said.notification_id, expected):
        raise OAuthError("this notification_id is not known", code="invalid_notification_id")
    if said.event == "credential_deleted":

        def command(tx: Tx) -> None:
            token = tokens.get(tx.connection, token_id)
            if token is not None and token.status == "issued":
                token_ended(hub, tx, token, "deleted", "deleted by its holder")

        await hub.base.store.write(command)


ENDPOINTS = (
    issuer_metadata,
    authorization_metadata,
    exchange_code,
    give_nonce,
    give_credential,
    take_notification,
)


def _authorised(hub: "Hub", call: Call) -> str:
    """The token id that the caller's access token is for."""
    scheme, _, text = (call.header(b"authorization") or "").partition(" ")
    secret, now_ms = hub.base.home.secret, hub.base.wall_clock()
    token_id = codes.read_access_token(secret, text.strip(), now_ms)
    if scheme.lower() != "bearer" or token_id is None:
        raise OAuthError("the access token is missing, unknown or over", code="invalid_token")
    return token_id


def _proven_key(hub: "Hub", asked: CredentialRequest) -> str:
    """Thumbprint of the key that the wallet has proven to hold."""
    proofs = () if asked.proofs is None else asked.proofs.jwt
    if len(proofs) != 1:
        raise OAuthError("proofs.jwt must have one proof", code="invalid_proof")
    now_ms = hub.base.wall_clock()
    try:
        key = verify_key_proof(
            proofs[0],
            audience=hub.base.home.url,
            nonce=lambda nonce: is_nonce(hub.base.home.secret, _NONCE, nonce, now_ms),
            now_ms=now_ms,
        )
    except InvalidInputError as error:
        code = "invalid_nonce" if error.code == "invalid_nonce" else "invalid_proof"
        raise OAuthError(error.message, code=code, field=error.field) from None
    return key.kid


async def _signing_wallet(hub: "Hub", call: Call) -> str | None:
    """The registered wallet server that signed the request; None: it is not signed."""
    if call.header(b"signature") is None:
        return None
    try:
        principal = await hub.base.authenticate_peer(call)
    except ScontoError as error:
        raise OAuthError(error.message, code="invalid_client", field=error.field) from None
    if principal.tenant_kind != "wallet":
        raise OAuthError("the signer is not a wallet", code="invalid_client")
    return principal.peer_url
