"""What hubs have promised: the manifests of frames, and the terms that their offers name.

Both are named by their digests, so what was read once never changes. Terms are kept in the
datastore for as long as there are tokens of them: a shopper can read them while the hub is away.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from sconto.base.errors import InvalidInputError, InvariantError
from sconto.base.keys import KeySet, verify_detached
from sconto.frames import Manifest
from sconto.servers.promotions import TERMS_TYPE
from sconto.servers.wallet.issuer import Issuer
from sconto.store import promotions
from sconto.store.writer import Tx
from sconto.terms import Terms, decode_terms, encode_terms, terms_digest, terms_from
from sconto.wallet import read_frame

if TYPE_CHECKING:
    from sconto.servers.app import Base

T = TypeVar("T")

_MANIFESTS_MAX = 200
_TERMS_MAX = 5000


class Promises:
    """Frames and terms in memory, read from the datastore or the hub when they are asked for."""

    def __init__(self, base: "Base") -> None:
        self._base = base
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._terms: dict[str, Terms] = {}

    async def manifest(self, issuer: Issuer, frame_id: str) -> Manifest:
        """The manifest of a frame that a hub shows.

        Raises WireError or PeerError of the request, InvalidInputError when it is another frame.
        """
        known = self._manifests.get((issuer.hub, frame_id))
        if known is None:
            document = await issuer.frame(frame_id)
            known = read_frame(document, frame_id, hub=issuer.hub)
            if len(self._manifests) >= _MANIFESTS_MAX:
                self._manifests.clear()
            self._manifests[issuer.hub, frame_id] = known
        return known

    async def terms(self, issuer: Issuer, digest: str, promotion_id: str) -> Terms:
        """The terms of a promotion that a digest names, kept from now on.

        Raises WireError or PeerError of the request, InvalidInputError when they are not those,
        ConflictError when another hub's promotion has the same id.
        """
        with self._base.store.read() as connection:
            known = self.kept(connection, digest)
        if known is None:
            known = await self._fetch(issuer, digest)
        if known.promotion_id != promotion_id:
            raise InvalidInputError("these are terms of another promotion", field="terms_digest")
        return known

    def kept(self, connection: sa.Connection, digest: str) -> Terms | None:
        """The terms that a digest names, where this wallet has them. Any thread."""
        known = self._terms.get(digest)
        if known is None:
            version = promotions.version(connection, digest)
            if version is not None:
                known = self._remember(digest, decode_terms(version.document))
        return known

    def of_token(self, connection: sa.Connection, digest: str) -> Terms:
        """The terms of a token that this wallet holds, which were kept before it was."""
        terms = self.kept(connection, digest)
        if terms is None:
            raise InvariantError("terms are kept before a token of them is")
        return terms

    async def _fetch(self, issuer: Issuer, digest: str) -> Terms:
        fetched = await issuer.terms(digest)
        terms = terms_from(fetched.terms)
        if terms_digest(terms) != digest:
            raise InvalidInputError(
                "these are other terms than the frame names",
                code="digest_mismatch",
                field="terms_digest",
            )
        document = encode_terms(terms)
        hub = self._base.directory.trusted(issuer.hub)
        await with_current_keys(
            self._base,
            hub.url,
            lambda keys: verify_detached(keys, TERMS_TYPE, fetched.signature, document, "terms"),
        )
        version = promotions.Version(
            terms.promotion_id, terms.version, digest, document, fetched.signature
        )

        def command(tx: Tx) -> None:
            promotions.save(
                tx,
                version,
                tenant_id=hub.tenant_id,
                hub=hub.url,
                status="active",
                is_accepted=True,
            )

        await self._base.store.write(command)
        return self._remember(digest, terms)

    def _remember(self, digest: str, terms: Terms) -> Terms:
        if len(self._terms) >= _TERMS_MAX:
            self._terms.clear()
        self._terms[digest] = terms
        return terms


async def with_current_keys(base: "Base", hub: str, verify: Callable[[KeySet], T]) -> T:
    """Verify with a hub's keys; where it signed with a new one, ask for its keys and try again."""
    try:
        return verify(base.directory.known_keys(hub))
    except InvalidInputError as error:
        if error.code != "key_not_found":
            raise
    await base.directory.refresh(hub)
    return verify(base.directory.known_keys(hub))
