"""The kinds of records that the stages hand to each other.

What a kind of record can do is said here and not at each class: a compiled module loses the options
of its classes, but not those that they inherit (ADR 0016).
"""

from typing import dataclass_transform

from msgspec import Struct, field


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value(Struct, frozen=True):
    """Never changes; the same as another with the same fields."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Single(Struct, frozen=True, eq=False):
    """Never changes; the same only as itself."""


class Passing(Single, gc=False):
    """A `Single` that lives for one evaluation and is in no cycle."""


class Working(Struct, eq=False, gc=False):
    """Changes while a cart is evaluated, and is in no cycle."""
