"""What a wallet keeps encrypted at rest: its holders' keys, and hubs' access tokens under way.

AES-256-GCM under a key that is derived (HKDF, RFC 5869) from the home's secret, which lies in
key.json and never in the datastore: a stolen backup of the datastore spends no token. Each value is
bound to its purpose, so that none can be put in another's place.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sconto.base.errors import InvalidInputError
from sconto.base.keys import SigningKey

NONCE_BYTES = 12


class Vault:
    """Seals and opens under one server's secret."""

    def __init__(self, secret: bytes) -> None:
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"sconto wallet vault 1")
        self._cipher = AESGCM(derived.derive(secret))

    def seal(self, data: bytes, purpose: str, nonce: bytes) -> bytes:
        """Encrypt; `nonce` is 12 fresh random bytes."""
        return nonce + self._cipher.encrypt(nonce, data, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """What was sealed for this purpose.

        Raises InvalidInputError (`wrong_secret`): the datastore belongs to another key.json.
        """
        nonce, data = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, data, purpose.encode())
        except (InvalidTag, ValueError):
            raise InvalidInputError(
                "key.json is not the one that this datastore was made with",
                code="wrong_secret",
                field="home",
                remedy="restore key.json and the datastore together",
            ) from None

    def seal_seed(self, account_id: str, seed: bytes, nonce: bytes) -> bytes:
        """A holder's private key as the datastore has it."""
        return self.seal(seed, f"holder:{account_id}", nonce)

    def holder_key(self, account_id: str, sealed: bytes) -> SigningKey:
        """The key that an account holds its tokens with."""
        return SigningKey.from_seed(self.open(sealed, f"holder:{account_id}"))
