"""Moves of tokens: at a hub and a wallet to another merchant, at a merchant those that it released.

A move is known by the token and an id of the holder's. At most one of a token is pending.
"""

from typing import NamedTuple

import sqlalchemy as sa

from sconto.base.errors import invariant
from sconto.store.prepared import Prepared
from sconto.store.schema import moves, tokens
from sconto.store.tokens import Token
from sconto.store.writer import Tx


class Move(NamedTuple):
    """One move of a token. `reason` says why it was refused."""

    token_id: str
    move_id: str
    #: Where to; None at the merchant that releases the token.
    merchant: str | None
    #: pending -> moved or refused
    state: str
    at_ms: int
    reason: str | None = None
    #: Uses that were moved.
    uses: int | None = None
    #: The token that took the place of this one; at the hub and the wallet.
    successor_id: str | None = None


_MOVE = sa.select(*(moves.c[name] for name in Move._fields))


def get(connection: sa.Connection, token_id: str, move_id: str) -> Move | None:
    """One move."""
    row = connection.execute(
        _MOVE.where(moves.c.token_id == token_id, moves.c.move_id == move_id)
    ).first()
    return None if row is None else Move(*row)


def in_state(connection: sa.Connection, token_id: str, state: str) -> Move | None:
    """The move of a token that is pending, or the one by which it was moved."""
    row = connection.execute(
        _MOVE.where(moves.c.token_id == token_id, moves.c.state == state)
    ).first()
    return None if row is None else Move(*row)


def latest(connection: sa.Connection, token_id: str) -> Move | None:
    """The newest move of a token."""
    row = _LATEST.first(connection, token_id=token_id)
    return None if row is None else Move(*row)


_LATEST = Prepared(
    _MOVE.where(moves.c.token_id == sa.bindparam("token_id"))
    .order_by(moves.c.at_ms.desc(), moves.c.move_id)
    .limit(1)
)


def unfinished(
    connection: sa.Connection, now_ms: int, merchant: str | None = None
) -> list[tuple[Move, Token]]:
    """Pending moves at a hub, of tokens that are not over; of those at one merchant where given."""
    return _of(connection, now_ms, "pending", merchant)


def away_from(connection: sa.Connection, now_ms: int, merchant: str) -> list[tuple[Move, Token]]:
    """Moves by which tokens that are not over have left a merchant."""
    return _of(connection, now_ms, "moved", merchant)


def _of(
    connection: sa.Connection, now_ms: int, state: str, merchant: str | None
) -> list[tuple[Move, Token]]:
    query = (
        sa.select(
            *(moves.c[name] for name in Move._fields), *(tokens.c[name] for name in Token._fields)
        )
        .join(tokens, tokens.c.token_id == moves.c.token_id)
        .where(moves.c.state == state, tokens.c.expires_at_ms > now_ms)
        .order_by(moves.c.at_ms, moves.c.token_id)
    )
    if merchant is not None:
        query = query.where(tokens.c.merchant == merchant)
    size = len(Move._fields)
    return [(Move(*row[:size]), Token(*row[size:])) for row in connection.execute(query)]


def add(tx: Tx, move: Move) -> None:
    """Keep a move that was not known."""
    tx.write(sa.insert(moves).values(**move._asdict()))


def finish(tx: Tx, finished: Move) -> None:
    """A pending move has ended."""
    result = tx.write(
        sa.update(moves)
        .where(
            moves.c.token_id == finished.token_id,
            moves.c.move_id == finished.move_id,
            moves.c.state == "pending",
        )
        .values(
            merchant=finished.merchant,
            state=finished.state,
            reason=finished.reason,
            uses=finished.uses,
            successor_id=finished.successor_id,
        )
    )
    invariant(result.rowcount == 1, "a move ends once")
