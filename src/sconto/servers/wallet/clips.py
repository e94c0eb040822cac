"""Clipping: an offer in a frame becomes a token in the wallet, exactly once.

A clip is written down before the hub is asked for anything, and after each step that must not
happen twice. Cut off anywhere, by a lost reply or the end of the process, the same request again
goes on from there:

    begun       -> the hub is told that the offer was shown (counted once, by its idempotency key);
                   that is written down with the next step, or where this one is as far as it comes
    shown       -> the hub takes the clip (once, by its clip id) and gives an access token
    authorized  -> the hub issues the token: for this key always the same bytes
    issued      -> the wallet has it

An offer that the hub's own pages made (`POST /v1/credential-offers`) takes the same course without
the first step: there the hub has shown it.
"""

import hashlib
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qsl

from msgspec import Meta

from sconto.base.canonical import b64url
from sconto.base.documents import Document
from sconto.base.errors import ConflictError, InvalidInputError, InvariantError
from sconto.base.fields import Identifier, NamedDigest, ServerUrl
from sconto.servers.admin import TenantIdText
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.wallet import tokens as documents
from sconto.servers.wallet.accounts import acting
from sconto.servers.wallet.course import Course
from sconto.servers.wallet.problems import asking
from sconto.servers.wallet.tokens import TokenDocument
from sconto.store import tokens as token_store
from sconto.store import wallet as store
from sconto.store.wallet import Account, Clip
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.wallet import Wallet

ClipId = Annotated[Identifier, Meta(max_length=100)]
PromotionIdText = Annotated[Identifier, Meta(max_length=100)]
_OFFER_SCHEME = "openid-credential-offer"
_OFFER_PARAMETER = "credential_offer_uri"
_OFFER_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/%?-]{1,1000}")


class NewClip(Document):
    """An offer to take, from a frame that a hub shows."""

    #: Made by the caller and kept until the answer came; the same id gives the same token.
    clip_id: ClipId
    hub: ServerUrl
    frame_id: NamedDigest
    promotion_id: PromotionIdText
    account_id: TenantIdText | None = None
    #: When it happens; needs the scope `replay`, here and at the hub.
    at: datetime | None = None


class AcceptOffer(Document):
    """An offer that a hub has made to whoever has its address."""

    #: `https://hub…` or `openid-credential-offer://?credential_offer_uri=https://hub…`
    credential_offer_uri: Annotated[str, Meta(min_length=1, max_length=2000)]
    account_id: TenantIdText | None = None


_EXAMPLE_CLIP = {
    "clip_id": "clip-1",
    "hub": "https://hub.example",
    "frame_id": "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
    "promotion_id": "oaty-10",
}


@endpoint(
    "POST",
    "/v1/clips",
    scope="any",
    summary="Clip an offer: the hub issues its token to this account",
    accepts=NewClip,
    accepts_example=_EXAMPLE_CLIP,
    returns=TokenDocument,
    status=201,
)
async def clip(wallet: "Wallet", call: Call) -> TokenDocument:
    """Repeated after a failure it goes on where it was; repeated after success it answers again."""
    new: NewClip = call.document
    account = acting(wallet, call, new.account_id)
    said_at_ms = None if new.at is None else call.at_ms(new.at)
    _check_hub(wallet, new.hub, "hub")
    begun = Clip(
        account_id=account.account_id,
        clip_id=new.clip_id,
        hub=new.hub,
        frame_id=new.frame_id,
        promotion_id=new.promotion_id,
        said_at_ms=said_at_ms,
        at_ms=call.now_ms if said_at_ms is None else said_at_ms,
        step="begun",
        access_sealed=None,
        token_id=None,
    )
    return await _run(wallet, call, account, begun, None)


@endpoint(
    "POST",
    "/v1/credential-offers",
    scope="any",
    summary="Accept an offer that a hub has made (OpenID4VCI), by its address",
    accepts=AcceptOffer,
    accepts_example={"credential_offer_uri": "https://hub.example/v1/credential-offers/x7Jk"},
    returns=TokenDocument,
    status=201,
)
async def accept_offer(wallet: "Wallet", call: Call) -> TokenDocument:
    """Only of hubs that this wallet knows. The same address again gives the same token."""
    account = acting(wallet, call, call.document.account_id)
    uri = _offer_uri(call.document.credential_offer_uri)
    hub, path = _split_offer_uri(wallet, uri)
    begun = Clip(
        account_id=account.account_id,
        clip_id="offer:" + b64url(hashlib.sha256(uri.encode()).digest()),
        hub=hub,
        frame_id=None,
        promotion_id=None,
        said_at_ms=None,
        at_ms=call.now_ms,
        step="shown",
        access_sealed=None,
        token_id=None,
    )
    return await _run(wallet, call, account, begun, path)


ENDPOINTS = (clip, accept_offer)


async def _run(
    wallet: "Wallet", call: Call, account: Account, begun: Clip, offer_path: str | None
) -> TokenDocument:
    """Begin or go on with a clip; the token in the end."""

    def begin(tx: Tx) -> Clip:
        known = store.clip(tx.connection, begun.account_id, begun.clip_id)
        if known is not None:
            _check_same(known, begun)
            return known
        store.begin_clip(tx, begun)
        return begun

    async with wallet.turns.turn(begun):
        found: Clip = await wallet.base.store.write(begin)
        token_id = found.token_id
        if found.step != "issued":
            async with asking(found.hub):
                token_id = await Course(wallet, account, found).finish(offer_path)
    with wallet.base.store.read() as connection:
        token = token_store.get(connection, token_id or "")
        if token is None:
            raise InvariantError("an issued clip has its token")
        return documents.document(wallet, connection, token, call.now_ms, with_jws=True)


def _check_same(known: Clip, asked: Clip) -> None:
    """The same id with other content is a conflict that names the field."""
    for field, was, is_now in (
        ("hub", known.hub, asked.hub),
        ("frame_id", known.frame_id, asked.frame_id),
        ("promotion_id", known.promotion_id, asked.promotion_id),
        ("at", known.said_at_ms, asked.said_at_ms),
    ):
        if was != is_now:
            raise ConflictError(
                f"the clip {asked.clip_id} was begun with another {field}",
                code=f"exists_with_different_{field}",
                field=field,
                remedy="make a new clip_id for another clip",
            )


def _check_hub(wallet: "Wallet", hub: str, field: str) -> None:
    peer = wallet.base.directory.get(hub)
    if peer is None or peer.kind != "hub":
        raise InvalidInputError(
            f"{hub[:300]} is not a hub that this wallet knows",
            code="hub_unknown",
            field=field,
            remedy="ask the wallet's operator to register it",
        )


def _offer_uri(text: str) -> str:
    """The address inside either form of an offer."""
    if not text.startswith(f"{_OFFER_SCHEME}:"):
        return text
    given = [value for name, value in parse_qsl(text.partition("?")[2]) if name == _OFFER_PARAMETER]
    if len(given) != 1:
        raise InvalidInputError(
            "the link has no credential_offer_uri",
            field="credential_offer_uri",
            remedy="use offers by reference",
        )
    return given[0]


def hub_of_offer(wallet: "Wallet", text: str) -> str:
    """The hub that made an offer; InvalidInputError where no known hub did."""
    return _split_offer_uri(wallet, _offer_uri(text))[0]


def _split_offer_uri(wallet: "Wallet", uri: str) -> tuple[str, str]:
    """Hub and path of an offer's address; nothing but a known hub is ever asked."""
    for peer in wallet.base.directory.of_kind("hub"):
        path = uri.removeprefix(peer.url)
        if path != uri and path.startswith("/"):
            if not _OFFER_PATH.fullmatch(path):
                raise InvalidInputError("this is not an address", field="credential_offer_uri")
            return peer.url, path
    raise InvalidInputError(
        "the offer is not of a hub that this wallet knows",
        code="hub_unknown",
        field="credential_offer_uri",
        remedy="ask the wallet's operator to register the hub",
    )
