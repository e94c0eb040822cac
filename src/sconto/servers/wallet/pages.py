"""The wallet's pages: what a shopper holds, and taking an offer that a hub has made."""

import secrets
from typing import TYPE_CHECKING

from sconto.base.documents import from_builtins
from sconto.base.errors import InvalidInputError
from sconto.servers.endpoint import Answer, Call, endpoint
from sconto.servers.wallet import clips, moves, savings, tokens

if TYPE_CHECKING:
    from sconto.servers.wallet import Wallet


@endpoint("GET", "/", scope="", summary="Start", is_page=True)
async def home(wallet: "Wallet", call: Call) -> Answer:
    return wallet.base.pages.answer(
        "home.html",
        signed_in=wallet.base.pages.has_session(call),
        about="Coupons that you clipped, ready for the checkout.",
        doors=(
            ("/tokens", "My coupons", "What you hold, until when, and what you saved"),
            ("/schema", "API", "For engineers"),
        ),
    )


@endpoint("GET", "/tokens", scope="wallet", summary="What a shopper holds", is_page=True)
async def tokens_page(wallet: "Wallet", call: Call) -> Answer:
    listed = await tokens.list_tokens.run(wallet, call)
    saved = await savings.show_savings.run(wallet, call)
    return wallet.base.pages.answer(
        "tokens.html",
        signed_in=True,
        tokens=listed.tokens,
        next=listed.next,
        savings=saved,
        shops=sorted(peer.url for peer in wallet.base.directory.of_kind("merchant")),
        move_id=secrets.token_hex(16),
    )


@endpoint(
    "POST",
    "/moves",
    scope="wallet",
    summary="Move a token to another shop",
    is_page=True,
    max_bytes=8192,
)
async def move_page(wallet: "Wallet", call: Call) -> Answer:
    """The form brings the id of the move, so that sending it twice moves once."""
    form = call.form()
    asked = {name: form[name] for name in ("move_id", "merchant") if name in form}
    call.document = from_builtins(asked, moves.NewMove, what="form")
    call.params = {"token_id": form.get("token_id", "")}
    await moves.move_token.run(wallet, call)
    return wallet.base.pages.redirect(f"/tokens#{form['token_id']}")


@endpoint("GET", "/offers", scope="wallet", summary="Take an offer?", is_page=True)
async def offer_page(wallet: "Wallet", call: Call) -> Answer:
    """Looking at the page takes nothing: another site may have sent the shopper here."""
    uri = call.query.get("credential_offer_uri", "")
    hub = clips.hub_of_offer(wallet, uri)
    return wallet.base.pages.answer("offer.html", signed_in=True, uri=uri, hub=hub)


@endpoint("POST", "/offers", scope="wallet", summary="Take an offer", is_page=True, max_bytes=8192)
async def take_offer(wallet: "Wallet", call: Call) -> Answer:
    form = call.form()
    if "credential_offer_uri" not in form:
        raise InvalidInputError("the form has no offer", field="credential_offer_uri")
    call.document = from_builtins(
        {"credential_offer_uri": form["credential_offer_uri"]}, clips.AcceptOffer, what="form"
    )
    taken = await clips.accept_offer.run(wallet, call)
    return wallet.base.pages.redirect(f"/tokens#{taken.token_id}")


ENDPOINTS = (home, tokens_page, move_page, offer_page, take_offer)
