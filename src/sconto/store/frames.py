"""Frames: at a merchant those that it made, at a hub those that it received."""

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from sconto.base.clock import MS_PER_SECOND
from sconto.frames import Frame
from sconto.store.prepared import Prepared
from sconto.store.schema import (
    frame_offers,
    frame_resources,
    frame_sequences,
    frames,
    promotions,
)
from sconto.store.writer import Tx


class StoredFrame(NamedTuple):
    """A frame without its resources; `manifest` are the bytes that were signed."""

    frame_id: str
    issuer: str
    audience: str
    sequence: int
    not_before_ms: int
    expires_at_ms: int
    manifest: bytes
    signature: str
    status: str
    received_at_ms: int

    def is_live(self, at_ms: int) -> bool:
        """Whether it may be shown at an instant: not withdrawn, and its time has come."""
        return self.status == "active" and self.not_before_ms <= at_ms < self.expires_at_ms


class StoredOffer(NamedTuple):
    """One promotion offered in a frame."""

    frame_id: str
    promotion_id: str
    offer_id: str
    terms_digest: str
    position: int


_FRAME = sa.select(*(frames.c[name] for name in StoredFrame._fields))
_OFFER = sa.select(*(frame_offers.c[name] for name in StoredOffer._fields))


def get(connection: sa.Connection, frame_id: str) -> StoredFrame | None:
    """One frame, withdrawn or not."""
    row = _GET.first(connection, frame_id=frame_id)
    return None if row is None else StoredFrame(*row)


_GET = Prepared(_FRAME.where(frames.c.frame_id == sa.bindparam("frame_id")))


def last_sequence(connection: sa.Connection, issuer: str, audience: str) -> int | None:
    """The highest sequence of a frame or withdrawal from a merchant to a hub; None: there is none.

    A new frame or withdrawal must be above it.
    """
    return connection.execute(
        sa.select(frame_sequences.c.sequence).where(
            frame_sequences.c.issuer == issuer, frame_sequences.c.audience == audience
        )
    ).scalar()


def save(tx: Tx, frame: Frame) -> StoredFrame:
    """Keep a new frame whose sequence was found to be the highest; it is active from now on."""
    manifest = frame.manifest
    stored = StoredFrame(
        frame_id=frame.frame_id,
        issuer=manifest.iss,
        audience=manifest.aud,
        sequence=manifest.seq,
        not_before_ms=manifest.nbf * MS_PER_SECOND,
        expires_at_ms=manifest.exp * MS_PER_SECOND,
        manifest=frame.manifest_bytes,
        signature=frame.signature,
        status="active",
        received_at_ms=tx.now_ms,
    )
    tx.write(sa.insert(frames).values(**stored._asdict()))
    tx.write(
        sa.insert(frame_offers),
        [
            StoredOffer(frame.frame_id, o.promotion_id, o.id, o.terms_digest, position)._asdict()
            for position, o in enumerate(manifest.offers)
        ],
    )
    tx.write(
        sa.insert(frame_resources),
        [
            {
                "frame_id": frame.frame_id,
                "path": resource.path,
                "media_type": resource.type,
                "content": frame.resources[resource.path],
            }
            for resource in manifest.resources
        ],
    )
    _raise_sequence(tx, manifest.iss, manifest.aud, manifest.seq)
    return stored


def withdraw(tx: Tx, frame: StoredFrame, sequence: int) -> None:
    """The merchant took a frame back with a sequence that was found to be the highest."""
    tx.write(
        sa.update(frames).where(frames.c.frame_id == frame.frame_id).values(status="withdrawn")
    )
    _raise_sequence(tx, frame.issuer, frame.audience, sequence)


def offers_of(connection: sa.Connection, frame_ids: Iterable[str]) -> dict[str, list[StoredOffer]]:
    """The offers of frames, in the frame's own order."""
    query = _OFFER.where(frame_offers.c.frame_id.in_(list(frame_ids)))
    result: dict[str, list[StoredOffer]] = {}
    for row in connection.execute(query.order_by(frame_offers.c.position)):
        result.setdefault(row.frame_id, []).append(StoredOffer(*row))
    return result


def offer(connection: sa.Connection, frame_id: str, promotion_id: str) -> StoredOffer | None:
    """The offer of a promotion in a frame."""
    row = _OFFERED.first(connection, frame_id=frame_id, promotion_id=promotion_id)
    return None if row is None else StoredOffer(*row)


_OFFERED = Prepared(
    _OFFER.where(
        frame_offers.c.frame_id == sa.bindparam("frame_id"),
        frame_offers.c.promotion_id == sa.bindparam("promotion_id"),
    )
)


def live(
    connection: sa.Connection,
    at_ms: int,
    *,
    audience: str,
    issuer: str | None = None,
    promotion_id: str | None = None,
    before: tuple[int, str] | None = None,
    limit: int = 50,
) -> list[StoredFrame]:
    """Frames that a hub may show at an instant and that offer an active promotion, newest first.

    `before` is (received_at_ms, frame_id) of the last frame of the page before.
    """
    offered = (
        sa.select(frame_offers.c.frame_id)
        .join(promotions, promotions.c.promotion_id == frame_offers.c.promotion_id)
        .where(frame_offers.c.frame_id == frames.c.frame_id, promotions.c.status == "active")
    )
    if promotion_id is not None:
        offered = offered.where(frame_offers.c.promotion_id == promotion_id)
    query = _FRAME.where(
        frames.c.audience == audience,
        frames.c.status == "active",
        frames.c.not_before_ms <= at_ms,
        frames.c.expires_at_ms > at_ms,
        offered.exists(),
    )
    if issuer is not None:
        query = query.where(frames.c.issuer == issuer)
    if before is not None:
        place = sa.tuple_(frames.c.received_at_ms, frames.c.frame_id)
        query = query.where(place < sa.tuple_(*map(sa.literal, before)))
    query = query.order_by(frames.c.received_at_ms.desc(), frames.c.frame_id.desc()).limit(limit)
    return [StoredFrame(*row) for row in connection.execute(query)]


def resource(connection: sa.Connection, frame_id: str, path: str) -> bytes | None:
    """The bytes of one file of a frame, as stored."""
    return connection.execute(
        sa.select(frame_resources.c.content).where(
            frame_resources.c.frame_id == frame_id, frame_resources.c.path == path
        )
    ).scalar()


def resources(connection: sa.Connection, frame_id: str) -> dict[str, bytes]:
    """All files of a frame by path, as stored."""
    query = sa.select(frame_resources.c.path, frame_resources.c.content).where(
        frame_resources.c.frame_id == frame_id
    )
    return {row.path: row.content for row in connection.execute(query)}


def _raise_sequence(tx: Tx, issuer: str, audience: str, sequence: int) -> None:
    insert = sqlite.insert if tx.connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(frame_sequences).values(issuer=issuer, audience=audience, sequence=sequence)
    tx.write(
        statement.on_conflict_do_update(
            index_elements=["issuer", "audience"],
            set_={"sequence": sequence},
            where=frame_sequences.c.sequence < sequence,
        )
    )
