"""Types of single fields that several documents share, with their bounds.

They only bound the form. That a digest names the right bytes, or that a server is known, is the
business of the room that reads the document.
"""

from typing import Annotated

from msgspec import Meta

# `$(?!\n)`: Python's `$` would let one newline pass at the end; JSON Schema reads it as `$`.
_SHA256 = "{42}[AEIMQUYcgkosw048]"

#: Public base URL of a server, which is also its id: no trailing slash, query or fragment.
ServerUrl = Annotated[
    str,
    Meta(
        pattern=r"^https?://[a-z0-9._\[\]:-]+(/[A-Za-z0-9._~-]+)*$(?!\n)",
        max_length=200,
        description="public base URL of a server, lower-case host, without trailing slash",
    ),
]

#: SHA-256 in the notation of RFC 9530.
Digest = Annotated[
    str, Meta(pattern=rf"^sha-256=:[A-Za-z0-9+/]{_SHA256}=:$(?!\n)", description="RFC 9530 digest")
]

#: SHA-256 as an RFC 6920 name.
NAMED_DIGEST = rf"^ni:///sha-256;[A-Za-z0-9_-]{_SHA256}$(?!\n)"
NamedDigest = Annotated[str, Meta(pattern=NAMED_DIGEST, description="RFC 6920 name")]

#: RFC 7638 thumbprint of a public key.
Thumbprint = Annotated[
    str, Meta(pattern=rf"^[A-Za-z0-9_-]{_SHA256}$(?!\n)", description="RFC 7638 thumbprint")
]

#: Id of a promotion, token, order, …: visible ASCII, so that it survives headers, URLs and logs.
Identifier = Annotated[str, Meta(pattern=r"^[!-~]{1,200}$(?!\n)", description="visible ASCII")]

#: Seconds since 1970 UTC (RFC 7519 NumericDate without a fraction), until the year 9999.
Seconds = Annotated[int, Meta(ge=0, le=253_402_300_799, description="seconds since 1970 UTC")]
