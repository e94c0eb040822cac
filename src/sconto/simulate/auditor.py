"""What must hold, looked at from outside in the files of the servers.

After every commit of a server, on what is durable there:

R   redemptions and reservations, net of reversals, are within the cap, over all merchants together,
    in uses and in money; so they are within each limit that merchants share
S   no shopper has more than a limit by shopper allows
P   what a hub has settled is within the budget, and nothing of honest merchants is in dispute
C   conservation, of promotions and counters: cap = free + open + spent + written off, each as
    the transfers sum to; a merchant's parts have what was granted less what was taken
T   a token, with those that took its place when it was moved, is used at most as often as it may
    be, over all merchants together
M   a token that was moved was released first, and what was released is not used where it was
J   the journal has no gap, its chain holds, and the statistics are its fold

At each answer: no 5xx but "unavailable". After each restart and at the end: everything that a
shopper was told is still there. At the end, when all is healed: everything is delivered, nothing is
parked, and the statistics of hub, merchants and wallet are the same, and so are moves.

Where a datastore was put back or a merchant cheats, as much is held as can be: who did it is left
out of R, S, T and the figures, and only what it has done may be in dispute. A restored merchant or
hub is held to R all the same, and to T and S as far as anybody could know.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from sconto.ledger import UNLIMITED, Entry
from sconto.ledger.journal import GENESIS, chain, decode_entry
from sconto.simulate.host import Host
from sconto.simulate.rules import Key, Rules, Token, Used
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

    def __init__(self, rules: Iterable[Rules], counts: Counter[str]) -> None:
        #: Of the hub's promotions.
        self.rules = {one.promotion_id: one for one in rules}
        #: All servers, the hub first.
        self.hosts: list[Host] = []
        self.violations: list[str] = []
        self.promises: dict[str, Promise] = {}
        #: URLs of servers whose datastore was put back to an old copy.
        self.lost: set[str] = set()
        #: URLs of merchants with whom is done what no honest and careful operator does.
        self.suspects: set[str] = set()
        #: Of merchants in `lost`: what was true of a redemption.
        self._true: dict[str, dict[str, Used]] = {}
        self._counts = counts
        self._connections: dict[str, sqlite3.Connection] = {}
        self._journals: dict[str, _Journal] = {}
        #: By merchant: what it has counted, in uses and minor units.
        self._used: dict[str, dict[Key, tuple[int, int]]] = {}
        self._most: dict[Key, tuple[int, int]] = {}
        self._tokens: dict[str, Token] = {}
        self._disputed: set[tuple[str, str]] = set()

    @property
    def hub(self) -> Host:
        return self.hosts[0]

    @property
    def wallet(self) -> Host:
        return self.hosts[-1]

    @property
    def is_hub_lost(self) -> bool:
        return self.hub.url in self.lost

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
        rules = self.rules[promotion_id]
        cap = rules.cap
        added = (uses if cap[0] < UNLIMITED else 0, minor if cap[1] < UNLIMITED else 0)
        rules.cap = (cap[0] + added[0], cap[1] + added[1])
        return added

    def before_loss(self, host: Host) -> None:
        """A server's datastore is about to be put back: what was redeemed stays redeemed."""
        if host.home.kind == "merchant":
            known = {str(row[0]) for row in self.ask(self.hub, _REPORTED, host.url)}
            self._true[host.name] = {
                one: used._replace(is_known=one in known)
                for one, used in self._redeemed(host).items()
            }

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
        merchant = next(host for host in self.hosts if host.url == promise.merchant)
        if merchant.url in self.lost and not self._is_kept(merchant, promise):
            self._counts["promised_after_loss"] += 1
        else:
            self.promises[promise.order_id] = promise

    def _redeemed(self, host: Host) -> dict[str, Used]:
        """Each redemption of a merchant as it is: what it has forgotten is still true."""
        found = {str(row[0]): Used(*row[1:]) for row in self.ask(host, _EACH)}  # type: ignore[arg-type]
        for redemption_id, true in self._true.get(host.name, {}).items():
            now = found.get(redemption_id)
            if now is None:
                found[redemption_id] = true
            else:  # it may have forgotten that it was taken back
                uses, minor = min(now.uses, true.uses), min(now.minor, true.minor)
                found[redemption_id] = now._replace(uses=uses, minor=minor)
        return found

    def _is_kept(self, host: Host, promise: Promise) -> bool:
        found = self.ask(host, "SELECT state FROM orders WHERE order_id = ?", promise.order_id)
        return found == [("redeemed",)]

    def _count(self, host: Host) -> dict[Key, tuple[int, int]]:
        """What a merchant has redeemed, by all that it is counted in."""
        counted: dict[Key, tuple[int, int]] = {}
        for used in self._redeemed(host).values():
            rules = self.rules.get(used.promotion_id)
            if rules is None or not used.uses:
                continue
            token = self._token(used.token_id)
            for key, most in rules.keys(used, host.url, token):
                before = counted.get(key, (0, 0))
                counted[key] = (before[0] + used.uses, before[1] + used.minor)
                self._most[key] = most
        return counted

    def _token(self, token_id: str | None) -> Token | None:
        """As the wallet has it; it loses nothing, unless an ablation lets its disk forget."""
        if token_id is None:
            return None
        if token_id not in self._tokens:
            moved = {str(row[1]): str(row[0]) for row in self.ask(self.wallet, _SUCCESSORS)}
            for row in self.ask(self.wallet, _HELD_TOKENS):
                clipped = one = str(row[0])
                while clipped in moved:
                    clipped = moved[clipped]
                self._tokens[one] = Token(str(row[1]), clipped)
        return self._tokens.get(token_id, Token(token_id, token_id))

    def _check_merchant(self, host: Host) -> None:
        self._used[host.name] = self._count(host)
        honest = [
            self._used.get(one.name, {}) for one in self.hosts if one.url not in self.suspects
        ]
        for key in self._used[host.name]:
            found = [counted[key] for counted in honest if key in counted]
            total = (sum(uses for uses, _ in found), sum(minor for _, minor in found))
            most = self._most[key]
            if total[0] > most[0] or total[1] > most[1]:
                if key[0] == "S" and self.is_hub_lost:
                    continue  # it has forgotten tokens that it issued
                self.violated(f"{key[0]}: {'/'.join(key[1:])} is used {total}, at most are {most}")
        for row in self.ask(host, _PARTS):
            self.violated(
                f"C: at {host.name} the part {row[0]} lacks {row[1:3]}, used are {row[3:]}"
            )
        if host.url in self.suspects:
            return
        for token_id, promotion_id, moved, used_here in self.ask(host, _RELEASED):
            if _int(moved) + _int(used_here) > self.rules[str(promotion_id)].token_uses:
                self.violated(
                    f"M: {host.name} released {moved} uses of {token_id}, and {used_here} are used"
                )

    def _check_hub(self, host: Host) -> None:
        transfers: dict[tuple[str, str, str], list[int]] = {}
        for promotion_id, counter, account, uses, minor in self.ask(host, _TRANSFERS):
            name = str(account).partition(":")[0]
            sums = transfers.setdefault((str(promotion_id), str(counter), name), [0, 0])
            sums[0] += _int(uses)
            sums[1] += _int(minor)
        spent = {(p, c): (_int(u), _int(m)) for p, c, u, m in self.ask(host, _SETTLED)}
        left = {(p, c): (_int(u), _int(m)) for p, c, u, m in self.ask(host, _LEFT)}
        for promotion_id, counter, *balances in self.ask(host, _BUDGETS):
            budget = (str(promotion_id), str(counter))
            of = [_int(number) for number in balances]
            by_account = dict(zip(_ACCOUNTS, zip(of[::2], of[1::2], strict=True), strict=True))
            cap = by_account.pop("cap")
            rules = self.rules[budget[0]]
            if budget[1] and rules.counter(budget[1]) != cap:
                self.violated(f"C: {budget} has the cap {cap}, not as its terms")
            if tuple(map(sum, zip(*by_account.values(), strict=True))) != cap:
                self.violated(f"C: {budget} does not sum to its cap: {by_account} {cap}")
            for name, balance in by_account.items():
                booked = tuple(transfers.get((*budget, name), (0, 0)))
                if booked != balance:
                    self.violated(f"C: {budget} has {name} {balance}, booked are {booked}")
            if spent.get(budget, (0, 0)) != by_account["spent"]:
                self.violated(f"P: {budget} spent {by_account['spent']}, settled {spent}")
            if left.get(budget, (0, 0)) != by_account["open"]:
                self.violated(f"C: {budget} open {by_account['open']}, parts have {left}")
        for redemption_id, merchant, why in self.ask(host, _DISPUTED):
            self._disputed.add((str(redemption_id), str(why)))
            if merchant not in self.suspects and not self.is_hub_lost:
                self.violated(f"P: {redemption_id} is in dispute: {why}")
        for token_id, move_id, merchant in self.ask(host, _MOVED):
            first = next(one for one in self.hosts if one.url == merchant)
            is_excused = first.url in self.lost or first.url in self.suspects
            if not self.ask(first, _IS_RELEASED, token_id, move_id) and not is_excused:
                self.violated(f"M: {token_id} was moved, {first.name} has not released it")

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
        hub = self.hub
        for host in hosts:
            self.committed(host)
            if host.home.kind == "merchant":
                self.check_promises(host)
            for event_type, source, reason in self.ask(host, _PARKED):
                odd = {host.url, source} & (self.lost | self.suspects)
                if not odd:
                    self.violated(f"{host.name} has parked {event_type!r}: {reason}")
                self._counts[f"parked_{str(reason).partition(':')[0]}"] += 1
        self._count_hub(hub)
        self._count_limits()
        if self.is_hub_lost:
            return
        at_hub = self._totals(hub)
        wallets: Counter[tuple[str, str]] = Counter()
        for host in hosts:
            if host.home.kind == "merchant":
                if host.url in self.lost | self.suspects:
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
        self._check_moves(hub)

    def _check_moves(self, hub: Host) -> None:
        """Hub and wallet know the same of each move, and none waits."""
        at_wallet = {row[:2]: row[2:] for row in self.ask(self.wallet, _MOVES)}
        for token_id, move_id, *how in self.ask(hub, _MOVES):
            if how[0] == "pending":
                self.violated(f"M: the move {move_id} of {token_id} waits for nothing")
            known = at_wallet.get((token_id, move_id))
            if known is not None and known != tuple(how):
                self.violated(f"M: the move {move_id} is {known} to the wallet, {how} to the hub")

    def _count_limits(self) -> None:
        """What a campaign must have seen of limits."""
        used: Counter[Key] = Counter()
        for counted in self._used.values():
            used.update({key: uses for key, (uses, _) in counted.items()})
        days: dict[str, set[str]] = {}
        for key, uses in used.items():
            if key[0] == "R" and len(key) > 2:
                self._counts["counter_used_up"] += uses == self._most[key][0]
                days.setdefault(key[1], set()).add(key[3])
        self._counts["day_passed"] += any(len(one) > 1 for one in days.values())

    def _count_hub(self, hub: Host) -> None:
        """What a campaign must have seen at the hub."""
        for _, why in self._disputed:
            self._counts[f"disputed_{why}"] += 1
        for name, query in _HAPPENED.items():
            self._counts[name] += _int(self.ask(hub, query)[0][0])

    def _totals(self, host: Host) -> dict[tuple[str, str], Counters]:
        result: dict[tuple[str, str], Counters] = {}
        for row in self.ask(host, _CELLS):
            if row[0] not in self.rules:
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
    "counter_granted": "SELECT COUNT(*) FROM allotments WHERE counter > ''",
    "moved": "SELECT COUNT(*) FROM moves WHERE state = 'moved'",
    "moved_and_used": "SELECT COUNT(*) FROM moves JOIN redemptions ON successor_id = "
    "redemptions.token_id",
    "move_refused": "SELECT COUNT(*) FROM moves WHERE state = 'refused'",
}
_NET = "COALESCE(SUM(amount_minor - reversed_minor), 0)"
_HELD = "state IN ('reserved', 'redeemed')"
_EACH = f"""
SELECT r.redemption_id, r.promotion_id, r.at_ms, r.{_HELD},
  CASE WHEN r.{_HELD} THEN r.amount_minor - r.reversed_minor ELSE 0 END,
  r.token_id, o.client_ref, json_extract(CAST(o.cart AS TEXT), '$.attributes.region')
FROM redemptions r JOIN orders o ON o.order_id = r.order_id"""  # noqa: S608
_REPORTED = "SELECT redemption_id FROM redemptions WHERE merchant = ?"
_HELD_TOKENS = "SELECT token_id, account_id FROM tokens"
_SUCCESSORS = "SELECT token_id, successor_id FROM moves WHERE state = 'moved'"
_RELEASED = f"""
SELECT m.token_id, c.promotion_id, m.uses,
  (SELECT COUNT(*) FROM redemptions r WHERE r.token_id = m.token_id AND r.{_HELD})
FROM moves m JOIN coupon_information c ON c.token_id = m.token_id
WHERE m.state = 'moved'"""  # noqa: S608
_IS_RELEASED = "SELECT 1 FROM moves WHERE token_id = ? AND move_id = ? AND state = 'moved'"
_MOVED = """
SELECT m.token_id, m.move_id, t.merchant FROM moves m JOIN tokens t ON t.token_id = m.token_id
WHERE m.state = 'moved'"""
_MOVES = "SELECT token_id, move_id, state, successor_id FROM moves"
_IN_PART = f"""
FROM redemptions r WHERE r.{_HELD} AND (r.allotment_id = a.allotment_id OR r.redemption_id IN
  (SELECT p.redemption_id FROM redemption_parts p WHERE p.allotment_id = a.allotment_id))"""  # noqa: S608
_PARTS = f"""
SELECT * FROM (
  SELECT allotment_id AS part, granted_uses - left_uses AS uses,
    granted_minor - left_minor AS minor,
    (SELECT COUNT(*) {_IN_PART}) AS n, (SELECT {_NET} {_IN_PART}) AS m
  FROM allotments a WHERE state = 'open')
WHERE uses <> n OR minor <> m"""  # noqa: S608
_BUDGETS = "SELECT promotion_id, counter, {} FROM budgets".format(  # noqa: S608
    ", ".join(f"{account}_uses, {account}_minor" for account in _ACCOUNTS)
)
_TRANSFERS = """
SELECT promotion_id, counter, credit, SUM(uses), SUM(minor) FROM transfers GROUP BY 1, 2, 3
UNION ALL
SELECT promotion_id, counter, debit, -SUM(uses), -SUM(minor) FROM transfers GROUP BY 1, 2, 3"""
_SETTLED = f"""
SELECT promotion_id, '', COUNT(*), {_NET} FROM redemptions WHERE state = 'redeemed' GROUP BY 1
UNION ALL
SELECT a.promotion_id, a.counter, COUNT(*), {_NET} FROM redemptions r
  JOIN redemption_parts p ON p.redemption_id = r.redemption_id
  JOIN allotments a ON a.allotment_id = p.allotment_id
WHERE r.state = 'redeemed' GROUP BY 1, 2"""  # noqa: S608
_LEFT = """
SELECT promotion_id, counter, SUM(left_uses), SUM(left_minor) FROM allotments
WHERE state = 'open' GROUP BY 1, 2"""
_DISPUTED = "SELECT redemption_id, merchant, dispute FROM redemptions WHERE state = 'disputed'"
_JOURNAL = "SELECT sequence, entry, hash FROM journal WHERE sequence > ? ORDER BY sequence"
_CELLS = "SELECT promotion_id, merchant, day, {} FROM statistics".format(  # noqa: S608
    ", ".join(Counters._fields)
)
_REFUSALS = "SELECT promotion_id, merchant, day, reason, refused FROM refusal_statistics"
_ORDERS = "SELECT order_id, state FROM orders"
_AMOUNTS = "SELECT redemption_id, amount_minor FROM redemptions"
_WAITING = "SELECT COUNT(*) FROM outbox_streams WHERE acked_sequence < last_sequence"
_RESERVED = "SELECT COUNT(*) FROM orders WHERE state = 'reserved'"
_PARKED = "SELECT event, source, reason FROM parked_events"
