"""Codes that people type: how they compare, how secret ones are made and kept.

Two codes are the same when their normal forms are: Unicode NFKC, without spaces, hyphens and
underscores, without case, and with the letters O, I and L read as the digits 0, 1 and 1. What a
shopper reads from a leaflet or hears on the telephone thus still works.
"""

import re
import unicodedata

_IGNORED = re.compile(r"[\s\-_‐-―]+")
_LOOKALIKES = str.maketrans("oil", "011")


def normalise_code(text: str) -> str:
    """The form in which codes are compared and hashed; not for display.

    >>> normalise_code(" Summer-2O26 "), normalise_code("ＳＵＭＭＥＲ 2026")
    ('summer2026', 'summer2026')
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", _IGNORED.sub("", text)).translate(_LOOKALIKES)
