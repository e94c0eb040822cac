"""The rigs: real server processes that are killed, cut off and starved, watched from outside.

In: how many kills, cuts and partitions, and a bound on time. Out: one line for each campaign, with
what was acknowledged, lost and overspent. Each campaign also runs a *control*: a server with one
safeguard taken out, on which the same checks must fail, or they prove nothing. The room must never
trust what a server says of itself: it has its own history, and reads the datastores as they are.

    observer.py    what was sent and answered, synced to another file system; what must hold of it
    stored.py      what the datastores hold
    places.py      servers in processes of their own; a hub with merchants
    load.py        buyers, who send an order again until it is answered
    faulty.py      a server with one safeguard taken out (`python -m sconto.torture.faulty`)
    proxy.py       between two servers: repeats, delays and loses, or only passes on
    outcome.py     what a campaign gives, and its line
    alone.py       a trial of one merchant: load, faults, checks
    together.py    a trial of a hub and merchants
    kills.py  syncs.py  power.py  disk.py  postgres.py          campaigns on one merchant
    hubs.py  partitions.py  duplicates.py  caps.py              campaigns on a network

Run by `make torture`; read `observer.py` first, then `kills.py`.
"""
