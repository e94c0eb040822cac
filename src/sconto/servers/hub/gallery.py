"""Frames go out: what is offered now, and the frames' own files, on an origin of their own.

A frame's files are a merchant's: they are served only where the request came in by the frames'
origin (`frames_url`), never on the hub's own, with a policy that keeps them in a sandbox. Each is
compared with its signed digest again before it leaves, so that a byte changed in the datastore is
never shown.
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa

from sconto.base.canonical import JSON_INTEGER_MAX, digest
from sconto.base.clock import rfc3339
from sconto.base.documents import Document
from sconto.base.errors import ConflictError, InvalidInputError, NotFoundError
from sconto.frames import (
    CONNECTION_ALLOWLIST,
    ENTRY_PATH,
    Manifest,
    Resource,
    content_type,
    frame_csp,
    frame_id_of_key,
    frame_key,
)
from sconto.servers.endpoint import Answer, Call, endpoint
from sconto.store import frames as store
from sconto.store import offers

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

#: A frame may use none of a browser's powers.
PERMISSIONS_POLICY = ", ".join(
    f"{power}=()"
    for power in (
        "accelerometer autoplay bluetooth camera clipboard-read clipboard-write display-capture "
        "encrypted-media fullscreen gamepad geolocation gyroscope hid idle-detection "
        "local-fonts magnetometer microphone midi payment picture-in-picture "
        "publickey-credentials-create publickey-credentials-get screen-wake-lock serial "
        "storage-access usb web-share window-management xr-spatial-tracking"
    ).split()
)


class ShownOffer(Document):
    """A promotion that can be clipped in the frame."""

    offer_id: str
    promotion_id: str
    terms_digest: str
    title: str
    #: The terms in one plain sentence.
    sentence: str


class FrameDocument(Document):
    """A frame with what is offered in it now."""

    frame_id: str
    merchant: str
    sequence: int
    #: active or withdrawn
    status: str
    not_before: str
    expires_at: str
    #: Where the frame's page is, on an origin of its own; None: this hub shows no frames.
    entry_url: str | None
    offers: tuple[ShownOffer, ...]
    manifest: Any = None
    signature: str | None = None


class FramePage(Document):
    """Frames, newest first; `next` is the `before` of the next page."""

    frames: tuple[FrameDocument, ...]
    next: str | None


@endpoint(
    "GET",
    "/v1/frames",
    scope="any",
    summary="The frames that are shown now, with what is offered in them, newest first",
    returns=FramePage,
    query={
        "merchant": "of this merchant only",
        "promotion_id": "that offer this promotion only",
        "before": "`next` of the page before",
        "limit": "at most so many, 1 to 200",
    },
)
async def list_frames(hub: "Hub", call: Call) -> FramePage:
    limit = call.limit(20, 200)
    with hub.base.store.read() as connection:
        found = store.live(
            connection,
            call.now_ms,
            audience=hub.base.home.url,
            issuer=call.query.get("merchant"),
            promotion_id=call.query.get("promotion_id"),
            before=cursor(call.query.get("before")),
            limit=limit,
        )
        shown = frame_documents(hub, connection, found)
    return FramePage(frames=tuple(shown), next=next_cursor(found, limit))


@endpoint(
    "GET",
    "/v1/frames/{key:str}",
    scope="any",
    summary="One frame, with the manifest and the signature that its merchant gave it",
    returns=FrameDocument,
)
async def show_frame(hub: "Hub", call: Call) -> FrameDocument:
    with hub.base.store.read() as connection:
        found = known_frame(connection, frame_id_of_key(call.params["key"]))
        document = frame_documents(hub, connection, [found])[0]
    return msgspec.structs.replace(
        document, manifest=msgspec.Raw(found.manifest), signature=found.signature
    )


@endpoint(
    "GET",
    "/frames/{key:str}/{path:path}",
    scope="",
    summary="A file of a frame, on the frames' own origin only",
    media_type="text/html",
)
async def serve_file(hub: "Hub", call: Call) -> Answer:
    home = hub.base.home
    if home.frames_url is None or call.header(b"host") != urlsplit(home.frames_url).netloc:
        raise NotFoundError("there is nothing at this address")
    with hub.base.store.read() as connection:
        frame = known_frame(connection, frame_id_of_key(call.params["key"]))
        check_not_withdrawn(frame)
        manifest = msgspec.json.decode(frame.manifest, type=Manifest)
        listed = {resource.path: resource for resource in manifest.resources}
        resource = listed.get(call.params["path"])
        if resource is None:
            raise NotFoundError("the frame has no such file", field="path")
        content = store.resource(connection, frame.frame_id, resource.path)
    policy = frame_csp(
        manifest,
        served_at=f"{home.frames_url}/frames/{frame_key(frame.frame_id)}/",
        frame_ancestors=home.url,
    )
    return Answer(
        intact(resource, content),
        media_type=content_type(resource),
        headers=(
            ("content-security-policy", policy),
            # What the policy leaves open: the frame navigating itself, and WebRTC.
            ("connection-allowlist", CONNECTION_ALLOWLIST),
            ("cache-control", "public, max-age=31536000, immutable"),
            ("cross-origin-resource-policy", "cross-origin"),
            # The sandboxed page has an opaque origin, for which its own fonts are cross-origin.
            ("access-control-allow-origin", "*"),
            ("permissions-policy", PERMISSIONS_POLICY),
        ),
    )


ENDPOINTS = (list_frames, show_frame, serve_file)


def intact(resource: Resource, content: bytes | None) -> bytes:
    """The bytes of a file as its merchant signed them.

    Raises ConflictError (`digest_mismatch`) where the datastore has other bytes, or none.
    """
    if content is None or digest(content) != resource.digest:
        raise ConflictError(
            f"{resource.path} is not what the merchant signed; the frame is not shown",
            code="digest_mismatch",
            field=resource.path,
            remedy="the merchant distributes the frame again; the operator looks for the cause",
        )
    return content


def check_intact(connection: sa.Connection, frame: store.StoredFrame) -> None:
    """Every file of a frame, before a page embeds it; raises like `intact`."""
    contents = store.resources(connection, frame.frame_id)
    for resource in msgspec.json.decode(frame.manifest, type=Manifest).resources:
        intact(resource, contents.get(resource.path))


def check_not_withdrawn(frame: store.StoredFrame) -> None:
    """Raises ConflictError (`gone`) for a frame that its merchant took back."""
    if frame.status == "withdrawn":
        raise ConflictError(
            "the merchant has withdrawn this frame",
            code="gone",
            field="frame_id",
            remedy="look for a newer frame of the merchant",
        )


def known_frame(connection: sa.Connection, frame_id: str) -> store.StoredFrame:
    """The frame with this id, withdrawn or not; NotFoundError where there is none."""
    found = store.get(connection, frame_id)
    if found is None:
        raise NotFoundError("there is no such frame", field="frame_id")
    return found


def live_frame(connection: sa.Connection, frame_id: str, at_ms: int) -> store.StoredFrame:
    """The frame, where it may be shown at an instant; else why not."""
    found = known_frame(connection, frame_id)
    check_not_withdrawn(found)
    if not found.is_live(at_ms):
        raise ConflictError(
            f"the frame may be shown from {rfc3339(found.not_before_ms)}"
            f" until {rfc3339(found.expires_at_ms)}",
            code="frame_not_live",
            field="frame_id",
        )
    return found


def frame_documents(
    hub: "Hub", connection: sa.Connection, found: list[store.StoredFrame]
) -> list[FrameDocument]:
    """Frames as documents, with those of their offers whose promotions are active."""
    offered = store.offers_of(connection, [frame.frame_id for frame in found])
    standing = offers.standing(
        connection, {o.promotion_id for listed in offered.values() for o in listed}
    )
    frames_url = hub.base.home.frames_url
    result = []
    for frame in found:
        shown = []
        for offer in offered[frame.frame_id]:
            if standing[offer.promotion_id].status == "active":
                terms = hub.catalogue.promised(connection, offer.terms_digest)
                shown.append(
                    ShownOffer(
                        offer_id=offer.offer_id,
                        promotion_id=offer.promotion_id,
                        terms_digest=offer.terms_digest,
                        title=terms.title,
                        sentence=hub.catalogue.sentence(connection, offer.terms_digest),
                    )
                )
        place = f"{frames_url}/frames/{frame_key(frame.frame_id)}{ENTRY_PATH}"
        result.append(
            FrameDocument(
                frame_id=frame.frame_id,
                merchant=frame.issuer,
                sequence=frame.sequence,
                status=frame.status,
                not_before=rfc3339(frame.not_before_ms),
                expires_at=rfc3339(frame.expires_at_ms),
                entry_url=None if frames_url is None else place,
                offers=tuple(shown),
            )
        )
    return result


def not_active(promotion: offers.Standing, field: str) -> ConflictError:
    """A promotion that is paused or ended gives nothing out."""
    return ConflictError(
        f"{promotion.promotion_id} is {promotion.status}",
        code="promotion_not_active",
        field=field,
        status_now=promotion.status,
    )


def next_cursor(found: list[store.StoredFrame], limit: int) -> str | None:
    """`before` of the page after these frames; None: there is none."""
    if len(found) < limit:
        return None
    return f"{found[-1].received_at_ms}.{frame_key(found[-1].frame_id)}"


def cursor(text: str | None) -> tuple[int, str] | None:
    """The place in the list that `before` names; InvalidInputError for anything else."""
    if text is None:
        return None
    number, _, key = text.partition(".")
    if not number.isascii() or not number.isdigit() or int(number[:17]) > JSON_INTEGER_MAX:
        raise InvalidInputError("before is not from a page of this list", field="before")
    try:
        return int(number[:17]), frame_id_of_key(key)
    except InvalidInputError:
        raise InvalidInputError("before is not from a page of this list", field="before") from None
