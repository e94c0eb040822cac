"""The end of a token before its time: revocation, and the lists that tell of it.

Merchants hear of it by an event; whoever was away sees it in the status list (Token Status List),
which can be fetched by anybody and kept. A redemption that happened before a merchant could know is
honoured: a token was a promise.
"""

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from sconto.base.clock import MS_PER_SECOND
from sconto.base.documents import Document
from sconto.base.errors import ConflictError, NotFoundError
from sconto.servers.endpoint import Answer, Call, endpoint
from sconto.store import moves, offers, tokens
from sconto.store.moves import Move
from sconto.store.tokens import Token
from sconto.store.writer import Tx
from sconto.tokens import STATUS_LIST_SIZE, StatusList, sign_status_list

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

REVOKED = "sconto.token.revoked.v1"
MOVE_REFUSED = "sconto.token.move_refused.v1"
MEDIA_TYPE = "application/statuslist+jwt"
#: Seconds after which a merchant asks again, and until which a list holds.
TTL_S = 300
LIFE_S = 86_400
#: A place is drawn at random; when so many are taken, the list is well filled: the next begins.
_DRAWS = 8


class Revocation(Document):
    """Why a token ends."""

    reason: Annotated[str, Meta(min_length=1, max_length=200)]


class RevokedToken(Document):
    """A token that ended."""

    token_id: str
    status: str


@endpoint(
    "POST",
    "/v1/tokens/{token_id:str}/revoke",
    scope="promotions:write",
    summary="Revoke a token of one of the brand's promotions",
    accepts=Revocation,
    accepts_example={"reason": "issued by mistake"},
    returns=RevokedToken,
)
async def revoke_token(hub: "Hub", call: Call) -> RevokedToken:
    """Again: the same answer. A token that was used stays used."""

    def command(tx: Tx) -> RevokedToken:
        token = tokens.get(tx.connection, call.params["token_id"])
        promotion = (
            None
            if token is None
            else offers.standing(tx.connection, [token.promotion_id]).get(token.promotion_id)
        )
        is_own = promotion is not None and (
            promotion.tenant_id == call.principal.tenant_id or call.principal.is_operator
        )
        if token is None or not is_own:
            raise NotFoundError("there is no such token", field="token_id")
        if token.status == "redeemed":
            raise ConflictError(
                "the token was redeemed",
                code="token_redeemed",
                field="token_id",
                remedy="the merchant can reverse the redemption",
            )
        if token.status == "moved":
            moved = moves.in_state(tx.connection, token.token_id, "moved")
            raise ConflictError(
                "the token was moved to another merchant",
                code="token_moved",
                field="token_id",
                remedy="revoke the token that took its place",
                successor_id=None if moved is None else moved.successor_id,
            )
        if token.status in ("offered", "lapsed", "issued"):
            token_ended(hub, tx, token, "revoked", call.document.reason)
            token = token._replace(status="revoked")
        return RevokedToken(token_id=token.token_id, status=token.status)

    revoked: RevokedToken = await hub.base.store.write(call.once(command))
    return revoked


@endpoint(
    "GET",
    "/v1/status-lists/{shard:str}",
    scope="",
    summary="Which tokens were revoked (Token Status List)",
    media_type=MEDIA_TYPE,
)
async def show_status_list(hub: "Hub", call: Call) -> Answer:
    shard = _shard(call.params["shard"])
    now_s = hub.base.wall_clock() // MS_PER_SECOND
    known = hub.status_lists.get(shard)
    if known is None or known[0] + TTL_S // 2 <= now_s:
        with hub.base.store.read() as connection:
            if shard > tokens.last_shard(connection):
                raise NotFoundError("there is no such list", field="shard")
            places = tokens.revoked_places(connection, shard)
        jws = sign_status_list(
            hub.base.home.key,
            StatusList.of(places),
            uri=list_uri(hub, shard),
            issued_s=now_s,
            expires_s=now_s + LIFE_S,
            ttl_s=TTL_S,
        )
        known = (now_s, jws)
        hub.status_lists[shard] = known
    return Answer(
        known[1].encode(),
        media_type=MEDIA_TYPE,
        headers=(("cache-control", f"public, max-age={TTL_S // 2}"),),
    )


ENDPOINTS = (revoke_token, show_status_list)


def token_ended(hub: "Hub", tx: Tx, token: Token, status: str, reason: str) -> None:
    """Revoke or delete a token, and tell its merchant and, where we know it, its wallet."""
    tokens.set_status(tx, token.token_id, status)
    pending = moves.in_state(tx.connection, token.token_id, "pending")
    if pending is not None:
        refuse_move(tx, token, pending, f"token_{status}")
    if token.status_index is not None:
        shard = token.status_index // STATUS_LIST_SIZE
        tx.after_commit(lambda: hub.forget_status_list(shard))
    if token.status != "issued":
        return
    for peer in (token.merchant, token.wallet):
        if peer is not None:
            tx.send(peer, REVOKED, token.token_id, {"token_id": token.token_id, "reason": reason})


def refuse_move(tx: Tx, token: Token, move: Move, reason: str) -> None:
    """A pending move comes to nothing; the holder's wallet is told."""
    moves.finish(tx, move._replace(state="refused", reason=reason))
    if token.wallet is not None:
        data = {"token_id": token.token_id, "move_id": move.move_id, "reason": reason}
        tx.send(token.wallet, MOVE_REFUSED, token.token_id, data)


def list_uri(hub: "Hub", shard: int) -> str:
    """Address of a status list."""
    return f"{hub.base.home.url}/v1/status-lists/{shard}"


def free_place(hub: "Hub", tx: Tx) -> int:
    """A random free place in the newest list, counted through all lists.

    Random, so that a place tells nothing about when its token was issued.
    """
    start = tokens.last_shard(tx.connection) * STATUS_LIST_SIZE
    for _ in range(_DRAWS):
        place = start + _random_index(hub)
        if not tokens.is_place_taken(tx.connection, place):
            return place
    return start + STATUS_LIST_SIZE + _random_index(hub)


def _random_index(hub: "Hub") -> int:
    return int.from_bytes(hub.random(8), "big") % STATUS_LIST_SIZE


def _shard(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or str(int(text)) != text:
        raise NotFoundError("there is no such list", field="shard")
    return int(text)
