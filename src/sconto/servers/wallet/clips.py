"""Clipping: an offer in a frame becomes a token in the wallet, exactly once.

A clip is written down before the hub is asked for anything, and after each step that must not
happen twice. Cut off anywhere, by a lost reply or the end of the process, the same request again
goes on from there:

    begun       -> the hub is told that the offer was shown (counted once, by its idempotency key)
    shown       -> the hub takes the clip (once, by its clip id) and gives an access token
    authorized  -> the hub issues the token: for this key always the same bytes
    issued      -> the wallet has it

An offer that the hub's own pages made (`POST /v1/credential-offers`) takes the same course without
the first step: there the hub has shown it.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs, urlsplit

from msgspec import Meta

from sconto.base.canonical import b64url
from sconto.base.clock import MS_PER_SECOND, day_of
from sconto.base.documents import Document
from sconto.base.errors import ConflictError, InvalidInputError, InvariantError, PeerError
from sconto.base.fields import Identifier, NamedDigest, ServerUrl
from sconto.base.ids import handle_of
from sconto.base.keys import SigningKey
from sconto.ledger import Entry
from sconto.servers.admin import TenantIdText
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.peers import gather_quietly
from sconto.servers.wallet import tokens as documents
from sconto.servers.wallet.accounts import acting
from sconto.servers.wallet.issuer import Issued, Issuer
from sconto.servers.wallet.problems import asking
from sconto.servers.wallet.promises import with_current_keys
from sconto.servers.wallet.tokens import TokenDocument
from sconto.servers.wallet.vault import NONCE_BYTES
from sconto.store import tokens as token_store
from sconto.store import wallet as store
from sconto.store.wallet import Account, Clip
from sconto.store.writer import Tx
from sconto.terms import Terms
from sconto.tokens import TokenClaims
from sconto.wallet import Promise, claims_of, keep, promise_of

if TYPE_CHECKING:
    from sconto.servers.wallet import Wallet

log = logging.getLogger("sconto.wallet")

ClipId = Annotated[Identifier, Meta(max_length=100)]
PromotionIdText = Annotated[Identifier, Meta(max_length=100)]
#: Bounds of the columns that a token's own claims go into.
_TOKEN_ID_MAX, _SUBJECT_MAX, _PROMOTION_ID_MAX = 26, 64, 100
_OFFER_SCHEME = "openid-credential-offer"
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


class Turns:
    """One course at a time for each clip, and what is told to hubs besides."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._waiting: dict[tuple[str, str], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def turn(self, clip: Clip) -> AsyncIterator[None]:
        """Wait until no other request is busy with this clip."""
        key = (clip.account_id, clip.clip_id)
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._locks[key]

    def tell(self, issuer: Issuer, access_token: str, notification_id: str, event: str) -> None:
        """Tell a hub what became of its token; nobody waits, and nothing depends on it."""

        async def notify() -> None:
            try:
                await issuer.notify(access_token, notification_id, event)
            except PeerError as error:
                log.info("a notification was lost", extra={"peer": issuer.hub, "why": str(error)})

        task = asyncio.create_task(notify(), name="notify issuer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        await gather_quietly(list(self._tasks))


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
                token_id = await _Course(wallet, account, found).finish(offer_path)
    with wallet.base.store.read() as connection:
        token = token_store.get(connection, token_id or "")
        if token is None:
            raise InvariantError("an issued clip has its token")
        return documents.document(wallet, connection, token, call.now_ms, with_jws=True)


class _Course:
    """The rest of one clip."""

    def __init__(self, wallet: "Wallet", account: Account, clip: Clip) -> None:
        self._wallet = wallet
        self._account = account
        self._clip = clip
        self._issuer = Issuer(wallet.base, clip.hub)
        self._purpose = f"access:{clip.account_id}:{clip.clip_id}"

    async def finish(self, offer_path: str | None) -> str:
        """The id of the token, once it is kept."""
        clip = self._clip
        if clip.step == "begun":
            await self._show()
        key = self._wallet.vault.holder_key(self._account.account_id, self._account.holder_seed)
        access = ""
        issued = None
        if clip.access_sealed is not None:
            access = self._wallet.vault.open(clip.access_sealed, self._purpose).decode()
            issued = await self._ask_again(access, key)
        if issued is None:
            access = await self._authorize(offer_path)
            issued = await self._issuer.credential(access, key)
        try:
            claims, terms = await self._verify(issued, key.kid)
        except InvalidInputError:
            self._tell(issued, access, "credential_failure")
            raise
        await self._keep(issued.token, claims, terms)
        self._tell(issued, access, "credential_accepted")
        return claims.jti

    async def _show(self) -> None:
        """The offer is in the frame; hub and wallet count that it was shown."""
        clip = self._clip
        promise, terms = await self._promised(clip.frame_id or "", clip.promotion_id or "")
        await self._issuer.show(
            promise.frame_id, promise.promotion_id, clip.said_at_ms, key=f"shown-{self._hub_id()}"
        )
        entry = Entry(
            kind="shown",
            promotion_id=promise.promotion_id,
            merchant=promise.merchant,
            at_ms=clip.at_ms,
            day=day_of(clip.at_ms, terms.schedule.time_zone).isoformat(),
            terms_digest=promise.terms_digest,
            frame_id=promise.frame_id,
        )

        def command(tx: Tx) -> None:
            known = store.clip(tx.connection, clip.account_id, clip.clip_id)
            if known is not None and known.step == "begun":
                store.move_clip(tx, clip, "shown")
                tx.record(entry)

        await self._wallet.base.store.write(command)

    async def _ask_again(self, access_token: str, key: SigningKey) -> Issued | None:
        """With the access token of before; None when the hub does not take it any more."""
        try:
            return await self._issuer.credential(access_token, key)
        except PeerError as error:
            if error.figures.get("status") not in (400, 401):
                raise
            return None

    async def _authorize(self, offer_path: str | None) -> str:
        """An access token, written down before it is used."""
        clip = self._clip
        if offer_path is None:
            offer = await self._issuer.clip(
                self._hub_id(), clip.frame_id or "", clip.promotion_id or "", clip.said_at_ms
            )
        else:
            offer = await self._issuer.offer_at(offer_path)
        access = await self._issuer.authorize(offer)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._wallet.vault.seal(access.encode(), self._purpose, nonce)
        await self._wallet.base.store.write(
            lambda tx: store.move_clip(tx, clip, "authorized", access=sealed)
        )
        return access

    async def _verify(self, issued: Issued, holder_jkt: str) -> tuple[TokenClaims, Terms]:
        """The claims of the token, which are what was promised, and the terms that they name."""
        clip = self._clip
        frame_id, promotion_id = clip.frame_id, clip.promotion_id
        if frame_id is None or promotion_id is None:
            said = claims_of(issued.token)
            frame_id, promotion_id = said.frame, said.promotion_id
        promise, terms = await self._promised(frame_id, promotion_id)
        claims = await with_current_keys(
            self._wallet.base,
            clip.hub,
            lambda keys: keep(
                issued.token, promise, holder_jkt, {clip.hub: keys}, at_ms=clip.at_ms
            ),
        )
        for name, text, most in (
            ("jti", claims.jti, _TOKEN_ID_MAX),
            ("sub", claims.sub or "", _SUBJECT_MAX),
            ("promotion_id", claims.promotion_id, _PROMOTION_ID_MAX),
        ):
            if len(text) > most:
                raise InvalidInputError(f"{name} is too long", field=f"token.{name}")
        return claims, terms

    async def _promised(self, frame_id: str, promotion_id: str) -> tuple[Promise, Terms]:
        promises = self._wallet.promises
        manifest = await promises.manifest(self._issuer, frame_id)
        promise = promise_of(manifest, frame_id, promotion_id)
        terms = await promises.terms(self._issuer, promise.terms_digest, promotion_id)
        return promise, terms

    async def _keep(self, jws: str, claims: TokenClaims, terms: Terms) -> None:
        clip = self._clip
        clipped_at_ms = claims.iat * MS_PER_SECOND
        token = token_store.Token(
            token_id=claims.jti,
            clip_id=clip.clip_id,
            promotion_id=claims.promotion_id,
            terms_digest=claims.terms_digest,
            frame_id=claims.frame,
            hub=claims.iss,
            merchant=claims.aud,
            wallet=None,
            account_id=clip.account_id,
            subject=claims.sub,
            holder_jkt=claims.cnf.jkt,
            handle=handle_of(claims.jti),
            status="issued",
            status_index=None,
            jws=jws,
            offer_code_hash=None,
            offer_expires_at_ms=None,
            clipped_at_ms=clipped_at_ms,
            not_before_ms=claims.nbf * MS_PER_SECOND,
            expires_at_ms=claims.exp * MS_PER_SECOND,
        )
        entry = Entry(
            kind="clipped",
            promotion_id=claims.promotion_id,
            merchant=claims.aud,
            at_ms=clipped_at_ms,
            day=day_of(clipped_at_ms, terms.schedule.time_zone).isoformat(),
            terms_digest=claims.terms_digest,
            frame_id=claims.frame,
            token_id=claims.jti,
        )

        def command(tx: Tx) -> None:
            known = token_store.get(tx.connection, claims.jti)
            if known is not None and known.jws != jws:
                raise PeerError(f"{clip.hub} has issued this token before", url=clip.hub)
            store.move_clip(tx, clip, "issued", token_id=claims.jti)
            if known is None:
                token_store.add(tx, token)
                tx.record(entry)

        await self._wallet.base.store.write(command)

    def _tell(self, issued: Issued, access: str, event: str) -> None:
        if issued.notification_id is not None:
            self._wallet.turns.tell(self._issuer, access, issued.notification_id, event)

    def _hub_id(self) -> str:
        """What the hub knows the clip by: one of a kind, the same for ever, and telling it nothing.

        It is derived, so that a wallet restored from an old backup gets its tokens back by it.
        """
        name = f"clip\0{self._clip.account_id}\0{self._clip.clip_id}".encode()
        return b64url(hmac.digest(self._wallet.base.home.secret, name, "sha256"))


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
    given = parse_qs(urlsplit(text).query).get("credential_offer_uri", [])
    if len(given) != 1:
        raise InvalidInputError(
            "the link has no credential_offer_uri",
            field="credential_offer_uri",
            remedy="use offers by reference",
        )
    return given[0]


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
