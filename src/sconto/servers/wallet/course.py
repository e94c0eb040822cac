"""The course of one clip, from wherever it is to a token that is kept (see `clips.py`)."""

import asyncio
import hmac
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sconto.base.canonical import b64url
from sconto.base.clock import MS_PER_SECOND, day_of
from sconto.base.errors import InvalidInputError, PeerError, ScontoError
from sconto.base.ids import handle_of
from sconto.base.keys import SigningKey
from sconto.ledger import Entry
from sconto.servers.peers import gather_quietly
from sconto.servers.wallet.issuer import Issued, Issuer
from sconto.servers.wallet.promises import with_current_keys
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

#: Bounds of the columns that a token's own claims go into.
_TOKEN_ID_MAX, _SUBJECT_MAX, _PROMOTION_ID_MAX = 26, 64, 100


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


class Course:
    """The rest of one clip."""

    def __init__(self, wallet: "Wallet", account: Account, clip: Clip) -> None:
        self._wallet = wallet
        self._account = account
        self._clip = clip
        self._issuer = wallet.issuer(clip.hub)
        self._purpose = f"access:{clip.account_id}:{clip.clip_id}"

    async def finish(self, offer_path: str | None) -> str:
        """The id of the token, once it is kept."""
        clip = self._clip
        shown = await self._show() if clip.step == "begun" else None
        key = self._wallet.vault.holder_key(self._account.account_id, self._account.holder_seed)
        access = ""
        issued = None
        if clip.access_sealed is not None:
            access = self._wallet.vault.open(clip.access_sealed, self._purpose).decode()
            issued = await self._ask_again(access, key)
        if issued is None:
            access = await self._authorize(offer_path, shown)
            issued = await self._issuer.credential(access, key)
        try:
            claims, terms = await self._verify(issued, key.kid)
        except InvalidInputError:
            if issued.notification_id is not None:
                turns = self._wallet.turns
                turns.tell(self._issuer, access, issued.notification_id, "credential_failure")
            raise
        await self._keep(issued.token, claims, terms)
        return claims.jti

    async def give_up(self) -> None:
        """Have the hub revoke the token of this clip, so that nobody applies it any more.

        The clip is taken again, which gives the same token and with it the right to speak of it.
        """
        key = self._wallet.vault.holder_key(self._account.account_id, self._account.holder_seed)
        access = await self._ask_access(None)
        issued = await self._issuer.credential(access, key)
        if issued.notification_id is not None:
            await self._issuer.notify(access, issued.notification_id, "credential_deleted")

    async def _show(self) -> Entry:
        """The offer is in the frame, and the hub counts that it was shown; what we write of it."""
        clip = self._clip
        promise, terms = await self._promised(clip.frame_id or "", clip.promotion_id or "")
        await self._issuer.show(
            promise.frame_id, promise.promotion_id, clip.said_at_ms, key=f"shown-{self._hub_id()}"
        )
        return Entry(
            kind="shown",
            promotion_id=promise.promotion_id,
            merchant=promise.merchant,
            at_ms=clip.at_ms,
            day=day_of(clip.at_ms, terms.schedule.time_zone).isoformat(),
            terms_digest=promise.terms_digest,
            frame_id=promise.frame_id,
        )

    async def _ask_again(self, access_token: str, key: SigningKey) -> Issued | None:
        """With the access token of before; None when the hub does not take it any more."""
        try:
            return await self._issuer.credential(access_token, key)
        except PeerError as error:
            if error.figures.get("status") not in (400, 401):
                raise
            return None

    async def _authorize(self, offer_path: str | None, shown: Entry | None) -> str:
        """An access token, written down before it is used, with what was shown before it."""
        try:
            access = await self._ask_access(offer_path)
        except ScontoError:
            if shown is not None:
                await self._come_to("shown", shown)
            raise
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._wallet.vault.seal(access.encode(), self._purpose, nonce)
        await self._come_to("authorized", shown, sealed)
        return access

    async def _come_to(self, step: str, shown: Entry | None, access: bytes | None = None) -> None:
        """Write down how far the clip is, and once that its offer was shown."""
        clip = self._clip

        def command(tx: Tx) -> None:
            known = store.clip(tx.connection, clip.account_id, clip.clip_id)
            store.move_clip(tx, clip, step, access=access)
            if shown is not None and known is not None and known.step == "begun":
                tx.record(shown)

        await self._wallet.base.store.write(command)

    async def _ask_access(self, offer_path: str | None) -> str:
        """The hub takes the clip, or has made the offer at a path already."""
        clip = self._clip
        if offer_path is None:
            offer = await self._issuer.clip(
                self._hub_id(), clip.frame_id or "", clip.promotion_id or "", clip.said_at_ms
            )
        else:
            offer = await self._issuer.offer_at(offer_path)
        return await self._issuer.authorize(offer)

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
        check_claims(claims)
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

    def _hub_id(self) -> str:
        """What the hub knows the clip by: one of a kind, the same for ever, and telling it nothing.

        It is derived, so that a wallet restored from an old backup gets its tokens back by it.
        """
        name = f"clip\0{self._clip.account_id}\0{self._clip.clip_id}".encode()
        return b64url(hmac.digest(self._wallet.base.home.secret, name, "sha256"))


def check_claims(claims: TokenClaims) -> None:
    """Raises InvalidInputError for a token that says more than there is room for."""
    for name, text, most in (
        ("jti", claims.jti, _TOKEN_ID_MAX),
        ("sub", claims.sub or "", _SUBJECT_MAX),
        ("promotion_id", claims.promotion_id, _PROMOTION_ID_MAX),
    ):
        if len(text) > most:
            raise InvalidInputError(f"{name} is too long", field=f"token.{name}")
