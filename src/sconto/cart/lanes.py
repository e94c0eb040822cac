"""Lanes: the order in which groups of promotions have their turn, and how they compete inside.

Lanes run one after the other, each on what those before it left. Inside a lane:

- `all`: each in order of priority, as far as they may be combined;
- `first`: the first in that order which gives anything;
- `best` of the order: the set that is worth most to the shopper, each applied in canonical order;
  proven where the evaluation says `exact`;
- `best` of the item: each line takes the one promotion that gives it most, whatever others get.
"""

from typing import Annotated, Literal

from msgspec import Meta

from sconto.base.documents import Document
from sconto.terms.selectors import Name


class Lane(Document):
    """A lane of a merchant."""

    name: Name
    mode: Literal["all", "first", "best"] = "all"
    scope: Literal["order", "item"] = "order"
    #: How many promotions may apply in it, and how many of them to one line; None: any number.
    max_per_cart: Annotated[int, Meta(ge=1)] | None = None
    max_per_item: Annotated[int, Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.scope == "item" and self.mode != "best":
            raise ValueError("the scope `item` goes with the mode `best`")

    @property
    def has_caps(self) -> bool:
        return self.max_per_cart is not None or self.max_per_item is not None


#: Prices of the catalogue, single items, the order as a whole, and last its shipping.
DEFAULT_LANES = (
    Lane(name="catalogue"),
    Lane(name="item"),
    Lane(name="order"),
    Lane(name="shipping"),
)
