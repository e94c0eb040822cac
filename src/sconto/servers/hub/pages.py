"""The hub's pages: the gallery of merchants' frames, the clip button, and a brand's statistics.

A frame is embedded sandboxed from the frames' own origin, after every byte of it was compared with
what its merchant signed. The clip button is the hub's: it stands outside the frame, and what that
asks for only opens the hub's own dialog. A clip leads on to the shopper's wallet with a credential
offer (OpenID4VCI 1.0, same device); the hub learns nothing about the shopper here.
"""

import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from sconto.base.clock import rfc3339
from sconto.base.documents import from_builtins
from sconto.base.errors import InvalidInputError
from sconto.frames import frame_id_of_key, frame_key
from sconto.ledger import Entry
from sconto.servers import promotions
from sconto.servers.endpoint import Answer, Call, endpoint
from sconto.servers.hub import clips, gallery
from sconto.servers.hub.catalogue import day_in
from sconto.servers.hub.gallery import FrameDocument
from sconto.servers.hub.impressions import SHOWN
from sconto.store import frames as store
from sconto.store.writer import Tx

if TYPE_CHECKING:
    from sconto.servers.hub import Hub

OFFERS_A_PAGE = 24
FRAMES_A_PAGE = 24


@endpoint("GET", "/", scope="", summary="Start", is_page=True)
async def home(hub: "Hub", call: Call) -> Answer:
    return hub.base.pages.answer(
        "home.html",
        signed_in=hub.base.pages.has_session(call),
        about="Offers of many shops in one place. Clip one, and it comes off at the checkout.",
        doors=(
            ("/gallery", "Offers", "For shoppers: the shops' frames, to clip from"),
            ("/promotions", "Promotions", "For brands: what they promise, and what became of it"),
            ("/schema", "API", "For engineers"),
        ),
    )


@endpoint("GET", "/gallery", scope="", summary="The shops' frames", is_page=True)
async def gallery_page(hub: "Hub", call: Call) -> Answer:
    limit = FRAMES_A_PAGE
    with hub.base.store.read() as connection:
        found = store.live(
            connection,
            call.now_ms,
            audience=hub.base.home.url,
            before=gallery.cursor(call.query.get("before")),
            limit=limit,
        )
        shown = gallery.frame_documents(hub, connection, found)
    return hub.base.pages.answer(
        "gallery.html",
        signed_in=hub.base.pages.has_session(call),
        frames=[_card(one) for one in shown],
        next=gallery.next_cursor(found, limit),
    )


@endpoint("GET", "/gallery/{key:str}", scope="", summary="One frame and its offers", is_page=True)
async def frame_page(hub: "Hub", call: Call) -> Answer:
    """Each offer on the page counts as shown once; nobody can verify that, so it counts apart."""
    frame_id = frame_id_of_key(call.params["key"])
    page = _page_number(call)
    with hub.base.store.read() as connection:
        frame = gallery.live_frame(connection, frame_id, call.now_ms)
        gallery.check_intact(connection, frame)
        (document,) = gallery.frame_documents(hub, connection, [frame])
    first = (page - 1) * OFFERS_A_PAGE
    listed = document.offers[first : first + OFFERS_A_PAGE]
    offers = [
        {
            "promotion_id": one.promotion_id,
            "title": one.title,
            "sentence": one.sentence,
            "clip_id": secrets.token_urlsafe(16),
        }
        for one in listed
    ]
    wallets = [peer.url for peer in hub.base.directory.of_kind("wallet")]
    if call.method == "GET" and listed:
        await _count_shown(hub, document, [one.promotion_id for one in listed], call.now_ms)
    frames_url = hub.base.home.frames_url
    return hub.base.pages.answer(
        "frame.html",
        signed_in=hub.base.pages.has_session(call),
        embeds=() if frames_url is None else (frames_url,),
        form_targets=tuple(wallets),
        key=call.params["key"],
        frame=document,
        offers=offers,
        wallets=wallets,
        page=page,
        pages=max(1, -(-len(document.offers) // OFFERS_A_PAGE)),
    )


@endpoint("POST", "/gallery/clips", scope="", summary="Clip an offer", is_page=True, max_bytes=8192)
async def clip_from_page(hub: "Hub", call: Call) -> Answer:
    """The same form again (a double click, a reload) is the same clip."""
    hub.base.pages.check_origin(call)
    form = call.form()
    wallets = [peer.url for peer in hub.base.directory.of_kind("wallet")]
    wallet = form.get("wallet")
    if wallet not in wallets:
        raise InvalidInputError(
            "this wallet is not registered here", field="wallet", remedy="choose one of the list"
        )
    new = from_builtins(
        {
            "clip_id": f"page:{form.get('clip_id', '')}",
            "frame_id": frame_id_of_key(form.get("frame", "")),
            "promotion_id": form.get("promotion_id", ""),
        },
        clips.NewClip,
        what="form",
    )
    offer: clips.ClipOffer = await hub.base.store.write(
        lambda tx: clips.clip(hub, tx, None, new, tx.now_ms)
    )
    query = urlencode({"credential_offer_uri": offer.credential_offer_uri}, quote_via=quote)
    return hub.base.pages.redirect(f"{wallet}/offers?{query}")


@endpoint(
    "GET", "/promotions", scope="promotions:read", summary="A brand's promotions", is_page=True
)
async def promotions_page(hub: "Hub", call: Call) -> Answer:
    listed = await promotions.list_promotions.run(hub, call)
    return hub.base.pages.answer("promotions.html", signed_in=True, **listed)


@endpoint(
    "GET",
    "/promotions/{promotion_id:str}",
    scope="promotions:read",
    summary="A promotion and its statistics",
    is_page=True,
)
async def promotion_page(hub: "Hub", call: Call) -> Answer:
    promotion = await promotions.show_promotion.run(hub, call)
    call.query = {"promotion_id": promotion.promotion_id, "by": "merchant,day"}
    statistics = await promotions.show_statistics.run(hub, call)
    with hub.base.store.read() as connection:
        terms = hub.catalogue.promised(connection, promotion.terms_digest)
        said = hub.catalogue.sentence(connection, promotion.terms_digest)
    return hub.base.pages.answer(
        "promotion.html",
        signed_in=True,
        promotion=promotion,
        sentence=said,
        currency=terms.currency,
        statistics=statistics,
    )


ENDPOINTS = (home, gallery_page, frame_page, clip_from_page, promotions_page, promotion_page)


async def _count_shown(
    hub: "Hub", frame: FrameDocument, promotion_ids: list[str], at_ms: int
) -> None:
    digests = {one.promotion_id: one.terms_digest for one in frame.offers}

    def command(tx: Tx) -> None:
        entries = [
            Entry(
                kind="shown",
                promotion_id=one,
                merchant=frame.merchant,
                at_ms=at_ms,
                day=day_in(hub.catalogue.promised(tx.connection, digests[one]), at_ms),
                terms_digest=digests[one],
                frame_id=frame.frame_id,
            )
            for one in promotion_ids
        ]
        for entry in entries:
            tx.record(entry)
            data = {
                "frame_id": frame.frame_id,
                "promotion_id": entry.promotion_id,
                "at": rfc3339(at_ms),
            }
            tx.send(frame.merchant, SHOWN, frame.frame_id, data)

    await hub.base.store.write(command)


def _card(frame: FrameDocument) -> dict[str, Any]:
    return {
        "key": frame_key(frame.frame_id),
        "merchant": frame.merchant,
        "count": len(frame.offers),
        "titles": [one.title for one in frame.offers[:3]],
    }


def _page_number(call: Call) -> int:
    text = call.query.get("page", "1")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 1000:
        raise InvalidInputError("page must be a number from 1", field="page")
    return int(text)
