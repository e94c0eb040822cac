"""What must hold, looked at from outside in the files of the servers.

After every commit of a server, on what is durable there:

R   redemptions and reservations, net of reversals, are within the cap, over all merchants together,
    in uses and in money
P   what a hub has settled is within the budget, and nothing of honest merchants is in dispute
C   conservation: cap = free + open + spent + written off, each as the transfers sum to; a
    merchant's parts have what was granted less what was taken
T   a token is used at most as often as it may be, over all merchants together
J   the journal has no gap, its chain holds, and the statistics are its fold

At each answer: no 5xx but "unavailable". After each restart and at the end: everything that a
shopper was told is still there. At the end, when all is healed: everything is delivered, nothing is
parked, and the statistics of hub, merchants and wallet are the same.
"""

import sqlite3
from collections import Counter
from typing import NamedTuple

from sconto.ledger import UNLIMITED, Entry
from sconto.ledger.journal import GENESIS, chain, decode_entry
from sconto.simulate.host import Host
from sconto.statistics import Counters, Fold

#: Statuses above 499 that a server may answer. 502: a peer of it did not keep to the protocol, as
#: when a doubled request overtakes itself and its signature is known already.
UNAVAILABLE = frozenset({502, 503, 507})
_MAY_502 = ("wallet",)


class Promise(NamedTuple):
    """What a shopper was told of an order: the merchant's answer, which is kept."""

    merchant: str
    order_id: str
    #: Amounts in minor units by redemption id.
    redemptions: tuple[tuple[str, int], ...]


class _Journal:
    """How far a server's journal was read."""

    def __init__(self) -> None:
        self.sequence = 0
        self.hash = GENESIS
        self.fold = Fold()


class Auditor:
    """Keeps what it has seen, and writes down what is wrong."""

    def __init__(self, caps: dict[str, tuple[int, int]], counts: Counter[str]) -> None:
        #: Caps in uses and minor units of the hub's promotions.
        self.caps = caps
        self.violations: list[str] = []
        self.promises: dict[str, Promise] = {}
        #: URLs of servers whose datastore was put back to an old copy.
        self.lost: set[str] = set()
        #: Somebody does what no honest and careful operator does: R and what follows cannot hold.
        self.is_lied_to = False
        #: Of servers in `lost`: what was true of a redemption (promotion, uses, minor units).
        self._true: dict[str, dict[str, tuple[str, int, int]]] = {}
        self._counts = counts
        self._connections: dict[str, sqlite3.Connection] = {}
        self._journals: dict[str, _Journal] = {}
        self._used: dict[str, dict[str, tuple[int, int]]] = {}
        self._tokens: dict[str, dict[str, int]] = {}
        self._disputed: set[tuple[str, str]] = set()

    @property
    def is_odd(self) -> bool:
        """Whether something was lost or forged: then there is something to dispute and to park."""
        return self.is_lied_to or bool(self.lost)

    def violated(self, why: str) -> None:
        if why not in self.violations:
            self.violations.append(why)

    def ask(self, host: Host, query: str, *values: object) -> list[tuple[object, ...]]:
        """Read what is durable at a host, past the server."""
        connection = self._connections.get(host.name)
        if connection is None:
            connection = sqlite3.connect(f"file:{host.disk.path}?mode=ro", uri=True)
            self._connections[host.name] = connection
        return connection.execute(query, values).fetchall()

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    # --- all the time -----------------------------------------------------------------------------

    def answered(self, host: str, label: str, status: int, body: bytes) -> None:
        self._counts[f"status_{status}"] += 1
        if status == 502 and not host.startswith(_MAY_502):
            self.violated(f"{host} answered 502 to {label}: {body[:300]!r}")
        if status >= 500 and status not in UNAVAILABLE:
            self.violated(f"{host} answered {status} to {label}: {body[:300]!r}")

    def crashed(self, host: Host) -> None:
        """The file may be another one after a restart."""
        connection = self._connections.pop(host.name, None)
        if connection is not None:
            connection.close()
        if host.disk.forgets:
            self._journals.pop(host.name, None)

    def committed(self, host: Host) -> None:
        """Look at what a commit has changed."""
        self._check_journal(host)
        if host.home.kind == "merchant":
            self._check_merchant(host)
        elif host.home.kind == "hub":
            self._check_hub(host)

    # --- losses -----------------------------------------------------------------------------------

    def raise_cap(self, promotion_id: str, uses: int, minor: int) -> tuple[int, int]:
        """A budget may grow by so much of what it limits; gives how much."""
        cap = self.caps[promotion_id]
        added = (uses if cap[0] < UNLIMITED else 0, minor if cap[1] < UNLIMITED else 0)
        self.caps[promotion_id] = (cap[0] + added[0], cap[1] + added[1])
        return added

    def before_loss(self, host: Host) -> None:
        """A server's datastore is about to be put back: what was redeemed stays redeemed."""
        if host.home.kind == "merchant":
            self._true[host.name] = self._redeemed(host)

    def after_loss(self, host: Host) -> None:
        """It was put back. What it has forgotten, shoppers claim by their receipts."""
        self.lost.add(host.url)
        self._journals.pop(host.name, None)
        if host.home.kind == "merchant":
            for promise in list(self.promises.values()):
                if promise.merchant == host.url and not self._is_kept(host, promise):
                    del self.promises[promise.order_id]
                    self._counts["claimed_by_receipt"] += 1

    def promised(self, promise: Promise) -> None:
        """A shopper was told; an answer of before a loss may come after it."""
        if promise.merchant in self.lost:
            self._counts["promised_after_loss"] += 1
        else:
            self.promises[promise.order_id] = promise

    def _redeemed(self, host: Host) -> dict[str, tuple[str, int, int]]:
        """Each redemption of a merchant as it is: what it has forgotten is still true."""
        known = self._true.get(host.name, {})
        rows = self.ask(host, _EACH)
        found = {str(r): (str(p), _int(uses), _int(minor)) for r, p, uses, minor in rows}
        for redemption_id, (promotion_id, uses, minor) in known.items():
            now = found.get(redemption_id, (promotion_id, uses, minor))
            found[redemption_id] = (promotion_id, min(now[1], uses), min(now[2], minor))
        return found

    def _is_kept(self, host: Host, promise: Promise) -> bool:
        found = self.ask(host, "SELECT state FROM orders WHERE order_id = ?", promise.order_id)
        return found == [("redeemed",)]

    def _uses_at(self, host: Host) -> dict[str, tuple[int, int]]:
        if host.name not in self._true:
            return {str(p): (_int(uses), _int(minor)) for p, uses, minor in self.ask(host, _USED)}
        used: dict[str, tuple[int, int]] = {}
        for promotion_id, uses, minor in self._redeemed(host).values():
            before = used.get(promotion_id, (0, 0))
            used[promotion_id] = (before[0] + uses, before[1] + minor)
        return used

    # --- all the time -----------------------------------------------------------------------------

    def _check_merchant(self, host: Host) -> None:
        self._used[host.name] = self._uses_at(host)
        for promotion_id, (uses_cap, minor_cap) in self.caps.items():
            found = [one.get(promotion_id, (0, 0)) for one in self._used.values()]
            total = tuple(map(sum, zip(*found, strict=True)))
            if (total[0] > uses_cap or total[1] > minor_cap) and not self.is_lied_to:
                self.violated(
                    f"R: {promotion_id} is used {total}, its cap is {self.caps[promotion_id]}"
                )
        for row in self.ask(host, _PARTS):
            self.violated(
                f"C: at {host.name} the part {row[0]} lacks {row[1:3]}, used are {row[3:]}"
            )
        self._tokens[host.name] = {str(t): _int(n) for t, n in self.ask(host, _TOKENS)}
        by_token: Counter[str] = Counter()
        for tokens in self._tokens.values():
            by_token.update(tokens)
        for token_id, number in by_token.items():
            if number > 1 and not self.lost:
                self.violated(f"T: the token {token_id} of one use is used {number} times")

    def _check_hub(self, host: Host) -> None:
        transfers: dict[tuple[str, str], list[int]] = {}
        for promotion_id, account, uses, minor in self.ask(host, _TRANSFERS):
            name = str(account).partition(":")[0]
            sums = transfers.setdefault((str(promotion_id), name), [0, 0])
            sums[0] += _int(uses)
            sums[1] += _int(minor)
        spent = {str(p): (_int(u), _int(m)) for p, u, m in self.ask(host, _SETTLED)}
        left = {str(p): (_int(u), _int(m)) for p, u, m in self.ask(host, _LEFT)}
        for promotion_id, *balances in self.ask(host, _BUDGETS):
            of = [_int(number) for number in balances]
            by_account = dict(zip(_ACCOUNTS, zip(of[::2], of[1::2], strict=True), strict=True))
            cap = by_account.pop("cap")
            if tuple(map(sum, zip(*by_account.values(), strict=True))) != cap:
                self.violated(f"C: {promotion_id} does not sum to its cap: {by_account} {cap}")
            for name, balance in by_account.items():
                booked = tuple(transfers.get((str(promotion_id), name), (0, 0)))
                if booked != balance:
                    self.violated(f"C: {promotion_id} has {name} {balance}, booked are {booked}")
            if spent.get(str(promotion_id), (0, 0)) != by_account["spent"]:
                self.violated(f"P: {promotion_id} spent {by_account['spent']}, settled {spent}")
            if left.get(str(promotion_id), (0, 0)) != by_account["open"]:
                self.violated(f"C: {promotion_id} open {by_account['open']}, parts have {left}")
        for redemption_id, why in self.ask(host, _DISPUTED):
            if self.is_odd:
                self._disputed.add((str(redemption_id), str(why)))
                continue
            self.violated(f"P: {redemption_id} is in dispute: {why}")

    def _check_journal(self, host: Host) -> None:
        known = self._journals.setdefault(host.name, _Journal())
        for sequence, data, digest in self.ask(host, _JOURNAL, known.sequence):
            entry: Entry = decode_entry(bytes(data))  # type: ignore[call-overload]
            known.hash = chain(known.hash, bytes(data))  # type: ignore[call-overload]
            if sequence != known.sequence + 1 or known.hash != digest:
                self.violated(f"J: the journal of {host.name} is broken at {sequence}")
            known.sequence = _int(sequence)
            known.fold.add(entry)
            self._counts[f"journal_{entry.kind}"] += 1
            if entry.kind == "refused":
                self._counts[f"refused_{entry.reason}"] += 1
        stored = {tuple(row[:3]): Counters(*map(_int, row[3:])) for row in self.ask(host, _CELLS)}
        if stored != {tuple(cell): counters for cell, counters in known.fold.cells.items()}:
            self.violated(f"J: the statistics of {host.name} are not the fold of its journal")
        refused = {tuple(row[:4]): _int(row[4]) for row in self.ask(host, _REFUSALS)}
        if refused != {(*cell, why): n for (cell, why), n in known.fold.refusals.items()}:
            self.violated(f"J: the refusals of {host.name} are not the fold of its journal")

    # --- after restarts and at the end ------------------------------------------------------------

    def check_promises(self, host: Host) -> None:
        """Everything that shoppers were told by this merchant is still so."""
        orders = {str(row[0]): str(row[1]) for row in self.ask(host, _ORDERS)}
        amounts = {str(row[0]): _int(row[1]) for row in self.ask(host, _AMOUNTS)}
        for promise in self.promises.values():
            if promise.merchant != host.url:
                continue
            if orders.get(promise.order_id) != "redeemed":
                self.violated(f"lost: {promise.order_id} was acknowledged by {host.name}")
            for redemption_id, amount in promise.redemptions:
                if amounts.get(redemption_id) != amount:
                    self.violated(f"lost: {redemption_id} was acknowledged by {host.name}")

    def is_quiet(self, host: Host) -> bool:
        """Whether nothing waits to be delivered and nothing is reserved any more."""
        return not self.ask(host, _WAITING)[0][0] and not self.ask(host, _RESERVED)[0][0]

    def check_end(self, hosts: list[Host]) -> None:
        """All is healed and delivered: everybody must have the same numbers."""
        hub = next(host for host in hosts if host.home.kind == "hub")
        for host in hosts:
            self.committed(host)
            for event_type, reason in self.ask(host, _PARKED):
                if self.is_odd:
                    self._counts[f"parked_{str(reason).partition(':')[0]}"] += 1
                    continue
                self.violated(f"{host.name} has parked {event_type!r}: {reason}")
        self._count_hub(hub)
        if hub.url in self.lost or self.is_lied_to:
            return
        at_hub = self._totals(hub)
        wallets: Counter[tuple[str, str]] = Counter()
        for host in hosts:
            if host.home.kind == "merchant":
                self.check_promises(host)
                if host.url in self.lost:
                    continue
                for cell, counters in self._totals(host).items():
                    if at_hub.get(cell, Counters()) != counters:
                        self.violated(f"{cell}: {host.name} {counters}, hub {at_hub.get(cell)}")
            elif host.home.kind == "wallet":
                for cell, counters in self._totals(host).items():
                    wallets[cell] += 1
                    if _of_tokens(at_hub.get(cell, Counters())) != _of_tokens(counters):
                        self.violated(f"{cell}: {host.name} {counters}, hub {at_hub.get(cell)}")
        for cell, counters in at_hub.items():
            if counters.clipped and not wallets[cell]:
                self.violated(f"{cell}: clipped at the hub, unknown to the wallet")

    def _count_hub(self, hub: Host) -> None:
        """What a campaign must have seen at the hub."""
        for _, why in self._disputed:
            self._counts[f"disputed_{why}"] += 1
        for name, query in _HAPPENED.items():
            self._counts[name] += _int(self.ask(hub, query)[0][0])

    def _totals(self, host: Host) -> dict[tuple[str, str], Counters]:
        result: dict[tuple[str, str], Counters] = {}
        for row in self.ask(host, _CELLS):
            if row[0] not in self.caps:
                continue
            cell = (str(row[0]), str(row[1]))
            result[cell] = result.get(cell, Counters()).plus(Counters(*map(_int, row[3:])))
        return result


def _of_tokens(counters: Counters) -> tuple[int, ...]:
    """What a wallet knows too: it does not hear of what was presented and refused."""
    return (
        counters.shown,
        counters.clipped,
        counters.redeemed,
        counters.reversed,
        counters.given_minor,
        counters.reversed_minor,
    )


def _int(value: object) -> int:
    return int(value)  # type: ignore[call-overload, no-any-return]


_ACCOUNTS = ("cap", "free", "open", "spent", "written_off")
_HAPPENED = {
    "closed": "SELECT COUNT(*) FROM allotments WHERE state = 'closed'",
    "late_report": "SELECT COUNT(*) FROM transfers "
    "WHERE debit = 'written_off' AND credit = 'spent'",
    "reversed_after_close": "SELECT COUNT(*) FROM transfers "
    "WHERE debit = 'spent' AND credit = 'free'",
}
_NET = "COALESCE(SUM(amount_minor - reversed_minor), 0)"
_HELD = "state IN ('reserved', 'redeemed')"
_USED = f"SELECT promotion_id, COUNT(*), {_NET} FROM redemptions WHERE {_HELD} GROUP BY 1"  # noqa: S608
_EACH = """
SELECT redemption_id, promotion_id, state IN ('redeemed', 'reserved'),
  CASE WHEN state IN ('redeemed', 'reserved') THEN amount_minor - reversed_minor ELSE 0 END
FROM redemptions"""
_TOKENS = f"SELECT token_id, COUNT(*) FROM redemptions WHERE {_HELD} AND token_id > '' GROUP BY 1"  # noqa: S608
_PARTS = f"""
SELECT * FROM (
  SELECT allotment_id AS part, granted_uses - left_uses AS uses,
    granted_minor - left_minor AS minor,
    (SELECT COUNT(*) FROM redemptions r WHERE r.allotment_id = a.allotment_id AND r.{_HELD}) AS n,
    (SELECT {_NET} FROM redemptions r WHERE r.allotment_id = a.allotment_id AND r.{_HELD}) AS m
  FROM allotments a WHERE state = 'open')
WHERE uses <> n OR minor <> m"""  # noqa: S608
_BUDGETS = "SELECT promotion_id, {} FROM budgets".format(  # noqa: S608
    ", ".join(f"{account}_uses, {account}_minor" for account in _ACCOUNTS)
)
_TRANSFERS = """
SELECT promotion_id, credit, SUM(uses), SUM(minor) FROM transfers GROUP BY 1, 2
UNION ALL SELECT promotion_id, debit, -SUM(uses), -SUM(minor) FROM transfers GROUP BY 1, 2"""
_SETTLED = (
    f"SELECT promotion_id, COUNT(*), {_NET} FROM redemptions WHERE state = 'redeemed' GROUP BY 1"  # noqa: S608
)
_LEFT = """
SELECT promotion_id, SUM(left_uses), SUM(left_minor) FROM allotments
WHERE state = 'open' GROUP BY 1"""
_DISPUTED = "SELECT redemption_id, dispute FROM redemptions WHERE state = 'disputed'"
_JOURNAL = "SELECT sequence, entry, hash FROM journal WHERE sequence > ? ORDER BY sequence"
_CELLS = "SELECT promotion_id, merchant, day, {} FROM statistics".format(  # noqa: S608
    ", ".join(Counters._fields)
)
_REFUSALS = "SELECT promotion_id, merchant, day, reason, refused FROM refusal_statistics"
_ORDERS = "SELECT order_id, state FROM orders"
_AMOUNTS = "SELECT redemption_id, amount_minor FROM redemptions"
_WAITING = "SELECT COUNT(*) FROM outbox_streams WHERE acked_sequence < last_sequence"
_RESERVED = "SELECT COUNT(*) FROM orders WHERE state = 'reserved'"
_PARKED = "SELECT event, reason FROM parked_events"
