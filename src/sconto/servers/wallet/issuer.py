"""What a wallet asks of a hub: to be shown a frame, to clip, and the token by OpenID4VCI 1.0.

Every request is signed by this server. Whatever a hub answers is bounded and checked for form here;
whether the token is the promised one is decided in `sconto.wallet`.
"""

import secrets
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Meta

from sconto.base.clock import rfc3339
from sconto.base.errors import PeerError
from sconto.base.keys import JWS_BYTES_MAX, SigningKey
from sconto.frames import frame_key
from sconto.tokens import make_key_proof

if TYPE_CHECKING:
    from sconto.servers.app import Base

T = TypeVar("T")

CODE_GRANT = "urn:ietf:params:oauth:grant-type:pre-authorized_code"
CONFIGURATION_ID = "promo-token"
#: How long a nonce of a hub serves; shorter than the five minutes of our own hub.
NONCE_LIFE_MS = 120_000
FORM = "application/x-www-form-urlencoded"
_Secret = Annotated[str, Meta(min_length=1, max_length=4096)]


# Unknown members are passed over: these documents are of OpenID4VCI and grow with it.


class _Code(msgspec.Struct):
    code: _Secret = msgspec.field(name="pre-authorized_code")


class _Grants(msgspec.Struct):
    pre_authorized: _Code = msgspec.field(name=CODE_GRANT)


class CredentialOffer(msgspec.Struct):
    """An offer of the hub to hand out a token."""

    credential_issuer: str
    grants: _Grants


class _Clipped(msgspec.Struct):
    credential_offer: CredentialOffer


class _Access(msgspec.Struct):
    access_token: Annotated[str, Meta(pattern=r"^[!-~]{1,4096}$(?!\n)")]


class _Nonce(msgspec.Struct):
    c_nonce: _Secret


class _Credential(msgspec.Struct):
    credential: Annotated[str, Meta(max_length=JWS_BYTES_MAX)]


class _Issued(msgspec.Struct):
    credentials: Annotated[list[_Credential], Meta(min_length=1, max_length=1)]
    notification_id: Annotated[str, Meta(max_length=500)] | None = None


class _Frame(msgspec.Struct):
    manifest: dict[str, Any]


class FetchedTerms(msgspec.Struct):
    """Terms as a hub publishes them, with its signature over their canonical bytes."""

    terms: dict[str, Any]
    signature: Annotated[str, Meta(max_length=1000)]


class MoveAnswer(msgspec.Struct):
    """How far a move of a token has come; `token` is the one that took its place."""

    state: Literal["pending", "moved", "refused"]
    reason: Annotated[str, Meta(max_length=64)] | None = None
    token: Annotated[str, Meta(max_length=JWS_BYTES_MAX)] | None = None


class Issued(NamedTuple):
    """A token as it came from the hub, unverified."""

    token: str
    notification_id: str | None


class Issuer:
    """One hub, as this wallet server talks to it. All methods raise WireError or PeerError."""

    def __init__(self, base: "Base", hub: str) -> None:
        self._base = base
        self.hub = hub
        self._nonce = ""
        self._nonce_until_ms = 0

    async def frame(self, frame_id: str) -> dict[str, Any]:
        """The manifest of a frame."""
        answer = await self._get(f"/v1/frames/{frame_key(frame_id)}")
        return self._read(answer, _Frame).manifest

    async def terms(self, terms_digest: str) -> FetchedTerms:
        """The terms that a digest names."""
        path = f"/v1/terms/{quote(terms_digest, safe='/:=+')}"
        return self._read(await self._get(path), FetchedTerms)

    async def show(
        self, frame_id: str, promotion_id: str, said_at_ms: int | None, *, key: str
    ) -> None:
        """Tell the hub that an offer was shown; with the same `key` it counts once."""
        document = {"frame_id": frame_id, "promotion_ids": [promotion_id]}
        await self._post("/v1/impressions", _with_at(document, said_at_ms), key=key)

    async def clip(
        self, clip_id: str, frame_id: str, promotion_id: str, said_at_ms: int | None
    ) -> CredentialOffer:
        """Take an offer; the same clip again gives the same token, by a code that works anew."""
        document = {"clip_id": clip_id, "frame_id": frame_id, "promotion_id": promotion_id}
        answer = await self._post("/v1/clips", _with_at(document, said_at_ms))
        return self._offer(self._read(answer, _Clipped).credential_offer)

    async def offer_at(self, path: str) -> CredentialOffer:
        """The offer behind an address of the hub."""
        return self._offer(self._read(await self._get(path), CredentialOffer))

    async def authorize(self, offer: CredentialOffer) -> str:
        """An access token for the code of an offer."""
        form = {"grant_type": CODE_GRANT, "pre-authorized_code": offer.grants.pre_authorized.code}
        answer = await self._base.client.call(
            "POST",
            self.hub,
            "/openid4vci/token",
            body=urlencode(form).encode(),
            media_type=FORM,
        )
        return self._read(answer, _Access).access_token

    async def credential(self, access_token: str, holder_key: SigningKey) -> Issued:
        """The token, for a key that is proven to be ours with the hub's nonce.

        A nonce makes proofs fresh, not single-use, so it serves for a while; a hub that sees it
        otherwise says `invalid_nonce` and gets a proof with a new one.
        """
        if self._nonce_until_ms > self._base.wall_clock():
            try:
                return await self._credential(access_token, holder_key)
            except PeerError as error:
                if error.figures.get("peer_code") != "invalid_nonce":
                    raise
        nonce = self._read(await self._post("/openid4vci/nonce", None), _Nonce).c_nonce
        self._nonce, self._nonce_until_ms = nonce, self._base.wall_clock() + NONCE_LIFE_MS
        return await self._credential(access_token, holder_key)

    async def _credential(self, access_token: str, holder_key: SigningKey) -> Issued:
        proof = make_key_proof(
            holder_key,
            audience=self.hub,
            nonce=self._nonce,
            issued_at_ms=self._base.wall_clock(),
        )
        answer = await self._post(
            "/openid4vci/credential",
            {"credential_configuration_id": CONFIGURATION_ID, "proofs": {"jwt": [proof]}},
            access_token=access_token,
        )
        issued = self._read(answer, _Issued)
        return Issued(issued.credentials[0].credential, issued.notification_id)

    async def notify(self, access_token: str, notification_id: str, event: str) -> None:
        """Say what became of the token: credential_failure or credential_deleted."""
        document = {"notification_id": notification_id, "event": event}
        await self._post("/openid4vci/notification", document, access_token=access_token)

    async def move(self, token_id: str, document: dict[str, str]) -> MoveAnswer:
        """Ask for a token to be moved to another merchant, or how far that has come."""
        return self._read(await self._post(f"/v1/tokens/{token_id}/moves", document), MoveAnswer)

    async def _get(self, path: str) -> Any:
        return await self._base.client.call("GET", self.hub, path)

    async def _post(
        self, path: str, document: Any, *, key: str | None = None, access_token: str | None = None
    ) -> Any:
        headers = None if access_token is None else {"Authorization": f"Bearer {access_token}"}
        return await self._base.client.call(
            "POST",
            self.hub,
            path,
            document,
            idempotency_key=key or secrets.token_urlsafe(16),
            headers=headers,
        )

    def _offer(self, offer: CredentialOffer) -> CredentialOffer:
        if offer.credential_issuer != self.hub:
            raise PeerError(f"{self.hub} sent an offer of another issuer", url=self.hub)
        return offer

    def _read(self, answer: Any, kind: type[T]) -> T:
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise PeerError(
                f"{self.hub} did not answer as the protocol says: {error}", url=self.hub
            ) from None


def _with_at(document: dict[str, Any], said_at_ms: int | None) -> dict[str, Any]:
    return document if said_at_ms is None else document | {"at": rfc3339(said_at_ms)}
