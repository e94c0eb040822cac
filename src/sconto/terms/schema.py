"""JSON Schema (draft 2020-12) of the terms, for editors, other languages and the documentation."""

from typing import Any

import msgspec

from sconto.terms.model import Terms

SCHEMA_ID = "https://sconto.example/schemas/terms.json"


def terms_schema() -> dict[str, Any]:
    """The schema of one terms document; what it cannot say, `decode_terms` checks besides.

    >>> schema = terms_schema()
    >>> schema["$ref"], "PercentOff" in schema["$defs"]
    ('#/$defs/Terms', True)
    >>> schema["$defs"]["Terms"]["additionalProperties"]
    False
    """
    schema = msgspec.json.schema(Terms)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Terms of a Sconto promotion",
        **schema,
    }
