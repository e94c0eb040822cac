"""Words that every room uses: money, ids, time, canonical JSON, keys, errors.

In: plain values. Out: plain values. Knows no promotion, no server, no database.
Read `money.py` first (how a cent is split), then `canonical.py` (what a digest names) and
`keys.py` (who signed it).
"""
