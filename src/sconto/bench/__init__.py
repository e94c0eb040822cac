"""The benchmarks: what the servers do per second, always beside a no-op of the same run.

In: real processes and real baskets. Out: figures, one JSON object a line (`figures.py`). What is
measured is what users run: `sconto.servers.serve` with its defaults in a process of its own; the
load comes from another process. It must never know how a server decides: it only sends requests.

    figures.py     a figure and its line
    groceries.py   real eight-line carts, and promotions for them
    network.py     homes with promotions in them, and server processes
    load.py        a process that sends requests as fast as it is told, and times the answers
    throughput.py  no-op, evaluate, redeem: requests per second
    latency.py     redemptions at a fixed rate: p50 and p99
    engine.py      the promotion engine by itself and beside others (`make bench-engine`)
    promotion_sets.py  sets of any size, and real carts for them
    evaluator.py   a process that compiles one set and times `evaluate` on it
    ledger.py      exact limits (`make bench-ledger`): beside the naive way, on both databases
    naive.py       a merchant with one hot row, and a commit for each checkout
    buyers.py      many buyers at once for a last unit
    together.py    a hub with its merchants: reports, a cut-off merchant, a cap used up
    databases.py   a PostgreSQL server
    peers.py       other engines, driven by the programs in `bench-peers/`

Absolute numbers belong to the machine; compare ratios. Read `throughput.py` first.
"""
