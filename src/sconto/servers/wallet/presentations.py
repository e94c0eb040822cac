"""Presenting: which tokens a cart deserves, proofs for a checkout, and linking to a merchant.

A proof is made by the account's key for one request about one order at the token's own merchant
(RFC 9449). It is made here because the key never leaves the wallet.
"""

import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from sconto.base.canonical import b64url
from sconto.base.documents import Document
from sconto.base.fields import Identifier, ServerUrl
from sconto.cart import Cart, Refusal
from sconto.cart.model import CART_BYTES_MAX
from sconto.servers.admin import TenantIdText
from sconto.servers.endpoint import Call, endpoint
from sconto.servers.wallet.accounts import acting
from sconto.servers.wallet.problems import asking
from sconto.servers.wallet.tokens import usable_token
from sconto.store import wallet as store
from sconto.store.wallet import Account
from sconto.tokens import make_proof
from sconto.wallet import Held, choose

if TYPE_CHECKING:
    from sconto.servers.wallet import Wallet

#: Where a merchant takes tokens, when the caller names no other place.
CHECKOUT_PATH = "/v1/redemptions"
#: Tokens that are looked at for one cart, the oldest first.
_CHOOSE_FROM_MAX = 1000
OrderIdText = Annotated[Identifier, Meta(max_length=100)]
TokenIdText = Annotated[Identifier, Meta(max_length=26)]
#: Symbols that need no escaping in a URL, so that a proof's URL has one spelling.
ClientText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~@:+-]{1,100}$(?!\n)")]
Nonce = Annotated[str, Meta(pattern=r"^[!-~]{1,200}$(?!\n)")]
_Path = Annotated[str, Meta(pattern=r"^(/[A-Za-z0-9._~:@-]+){1,8}$(?!\n)", max_length=200)]


class NewPresentation(Document):
    """A token to present for one order."""

    token_id: TokenIdText
    #: The merchant's id of the order (or client) that the proof is for.
    order_id: OrderIdText
    account_id: TenantIdText | None = None
    #: What the merchant gave, if it did.
    nonce: Nonce | None = None
    #: Path at the merchant that the token will be sent to, by POST.
    path: _Path = CHECKOUT_PATH
    #: When the checkout happens; needs the scope `replay`.
    at: datetime | None = None


class Presentation(Document):
    """What to send to the merchant as one of `presented`, within five minutes."""

    token_id: str
    merchant: str
    token: str
    proof: str


class CartToChooseFor(Document):
    """A cart at a merchant."""

    merchant: ServerUrl
    cart: Cart
    account_id: TenantIdText | None = None
    at: datetime | None = None


class ChosenToken(Document):
    token_id: str
    promotion_id: str
    title: str
    amount_minor: int


class ChoiceDocument(Document):
    """Tokens to present, and what they take off as far as the wallet can tell."""

    tokens: tuple[ChosenToken, ...]
    discount_minor: int
    currency: str
    #: Why the others are not worth it.
    refused: tuple[Refusal, ...] = ()


class NewLink(Document):
    """A merchant's own reference of this shopper: a loyalty card, a customer number."""

    token_id: TokenIdText
    client: ClientText
    #: What the merchant gave the shopper who is signed in there (`…/link-codes`, ADR 0012).
    nonce: Nonce
    account_id: TenantIdText | None = None


class Link(Document):
    """From now on the merchant applies this shopper's tokens without being shown them."""

    client: str
    merchant: str
    linked: bool


@endpoint(
    "POST",
    "/v1/presentations",
    scope="any",
    summary="Make the proof with which a token is presented for an order",
    accepts=NewPresentation,
    accepts_example={"token_id": "01JDE3X1J1Z9T1S4W0B3H2M5QK", "order_id": "o-1002"},
    returns=Presentation,
    status=201,
)
async def present(wallet: "Wallet", call: Call) -> Presentation:
    """Nothing is stored: a proof is good for one order at one merchant, for five minutes."""
    new: NewPresentation = call.document
    account = acting(wallet, call, new.account_id)
    at_ms = call.at_ms(new.at)
    return _present(
        wallet,
        account,
        new.token_id,
        path=new.path,
        order=new.order_id,
        nonce=new.nonce,
        at_ms=at_ms,
    )


@endpoint(
    "POST",
    "/v1/choices",
    scope="any",
    summary="Choose the tokens that are worth presenting with a cart",
    accepts=CartToChooseFor,
    accepts_example={
        "merchant": "https://shop.example",
        "cart": {
            "currency": "USD",
            "lines": [{"id": "1", "sku": "oaty-1l", "quantity": 2, "price_minor": 525}],
        },
    },
    returns=ChoiceDocument,
    max_bytes=CART_BYTES_MAX + 4096,
)
async def choose_tokens(wallet: "Wallet", call: Call) -> ChoiceDocument:
    """The merchant knows promotions of its own and has the last word."""
    asked: CartToChooseFor = call.document
    account = acting(wallet, call, asked.account_id)
    at_ms = call.at_ms(asked.at)
    with wallet.base.store.read() as connection:
        found = store.held(
            connection,
            account.account_id,
            at_ms,
            use="usable",
            merchant=asked.merchant,
            limit=_CHOOSE_FROM_MAX,
        )
        held = [
            Held(
                token.token_id,
                token.merchant,
                token.terms_digest,
                wallet.promises.of_token(connection, token.terms_digest),
                token.clipped_at_ms,
            )
            for token in found
        ]
    choice = choose(asked.cart, held, merchant=asked.merchant, at_ms=at_ms)
    applied = [one for one in choice.evaluation.applied if one.token_id in choice.token_ids]
    return ChoiceDocument(
        tokens=tuple(
            ChosenToken(
                token_id=one.token_id or "",
                promotion_id=one.promotion_id,
                title=one.title,
                amount_minor=one.amount_minor,
            )
            for one in applied
        ),
        discount_minor=sum(one.amount_minor for one in applied),
        currency=asked.cart.currency,
        refused=choice.evaluation.refused,
    )


@endpoint(
    "POST",
    "/v1/links",
    scope="any",
    summary="Have a merchant recognise this shopper by its own customer number",
    accepts=NewLink,
    accepts_example={
        "token_id": "01JDE3X1J1Z9T1S4W0B3H2M5QK",
        "client": "card-1234",
        "nonce": "AAABnxYq",
    },
    returns=Link,
)
async def link(wallet: "Wallet", call: Call) -> Link:
    """One token of the merchant proves who holds all the others. Again: the same answer."""
    new: NewLink = call.document
    account = acting(wallet, call, new.account_id)
    path = f"/v1/clients/{new.client}/proofs"
    # A token proves its holder also when its time is over; only the merchant's rules count.
    shown = _present(
        wallet, account, new.token_id, path=path, order=new.client, nonce=new.nonce, at_ms=0
    )
    async with asking(shown.merchant, refused="link_refused"):
        document = {"token": shown.token, "proof": shown.proof, "nonce": new.nonce}
        await wallet.base.client.call("POST", shown.merchant, path, document)
    return Link(client=new.client, merchant=shown.merchant, linked=True)


ENDPOINTS = (present, choose_tokens, link)


def _present(
    wallet: "Wallet",
    account: Account,
    token_id: str,
    *,
    path: str,
    order: str,
    nonce: str | None,
    at_ms: int,
) -> Presentation:
    with wallet.base.store.read() as connection:
        token, jws, _ = usable_token(connection, account.account_id, token_id, at_ms)
    proof = make_proof(
        wallet.vault.holder_key(account.account_id, account.holder_seed),
        jws,
        method="POST",
        url=token.merchant + path,
        order=order,
        nonce=nonce,
        issued_at_ms=wallet.base.wall_clock(),
        proof_id=b64url(secrets.token_bytes(16)),
    )
    return Presentation(token_id=token_id, merchant=token.merchant, token=jws, proof=proof)
