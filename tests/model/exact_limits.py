"""The exact-limits protocol as a small machine, without clocks and without a network that helps.

A state is a value, `steps(state)` gives every state that can follow. Messages are a set that only
grows: each may arrive at any time, any number of times, in any order, or never, so that loss,
repetition and reordering need no steps of their own. `Rules` names the safeguards; a test takes one
away and must find out (tests/model/test_protocol.py).

    hub         free, and for each grant what is open, spent or written off
    merchant    its grants with what is left, and the log of what it redeemed, which it reports
    ghosts      what really happened, to judge by: redemptions acknowledged, uses of the token

A violation is a state in which more was acknowledged than the cap, one token was used twice, or the
hub's accounts do not sum to the cap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

LIVE, CLOSED, WRITTEN_OFF = "live", "closed", "written off"
REDEEM, REVERSE = 1, -1


@dataclass(frozen=True)
class Rules:
    """How large the world is, what may go wrong in it, and which safeguards it has."""

    merchants: int = 2
    cap: int = 2
    grants_max: int = 4
    #: Redemptions and reversals together, where reversals would make the logs endless.
    acts_max: int = 99
    # What may happen.
    can_close: bool = True
    can_write_off: bool = False
    can_restore: bool = False
    can_reverse: bool = False
    can_restore_hub: bool = False
    can_clone: bool = False
    #: Every redemption needs the one token there is; it names the first merchant.
    has_token: bool = False
    #: The token may be moved from the first merchant to the second.
    can_move: bool = False
    # The safeguards.
    dedups_grants: bool = True
    dedups_closures: bool = True
    closes_before_send: bool = True
    syncs_before_ack: bool = True
    frees_only_closed: bool = True
    renews_incarnation: bool = True
    renews_epoch: bool = True
    binds_token: bool = True
    #: Only a release by the first merchant makes a token for the second one.
    needs_release: bool = True
    #: A merchant keeps what it releases: no more of the token after it has said so.
    keeps_release: bool = True
    #: A token that has been used is not released.
    looks_at_use: bool = True
    #: The successor has the same id however often the hub has to issue it.
    derives_successor: bool = True
    keeps_written_off: bool = True
    keeps_old_epochs_apart: bool = True


class Part(NamedTuple):
    """A grant as the hub sees it."""

    holder: int
    size: int
    incarnation: int
    left: int
    state: str
    #: Granted before the hub was restored: what comes back of it may have been granted again.
    is_old: bool = False


class Held(NamedTuple):
    """A grant as its holder sees it."""

    left: int
    is_open: bool


class Disk(NamedTuple):
    """What a merchant remembers: what it holds by grant, and the log of its own acts."""

    incarnation: int = 0
    held: tuple[tuple[int, Held], ...] = ()
    log: tuple[tuple[int, int], ...] = ()
    has_used_token: bool = False
    #: The token was given up for the other merchant, or has come from it.
    has_released: bool = False
    has_received: bool = False


class Hub(NamedTuple):
    """What the hub remembers. `heard`: how much of each merchant's logs it has applied."""

    free: int
    written_off: int = 0
    spent: int = 0
    parts: tuple[tuple[int, Part], ...] = ()
    incarnations: tuple[int, ...] = ()
    heard: tuple[tuple[tuple[int, int], int], ...] = ()


class State(NamedTuple):
    """Everything. A disk in `synced` is what a power cut would leave."""

    hub: Hub
    disks: tuple[Disk, ...]
    synced: tuple[Disk, ...]
    #: Copies from which a merchant, or the hub, may be restored.
    backups: tuple[Disk | None, ...]
    hub_backup: Hub | None
    has_restored_hub: bool
    clone: Disk | None
    #: Grants and closures on their way: (kind, …).
    sent: frozenset[tuple[Any, ...]]
    #: Logs of incarnations that ended: what of them was sent may still arrive.
    old_logs: tuple[tuple[tuple[int, int], tuple[tuple[int, int], ...]], ...]
    granted: int
    acked: int
    token_uses: int
    acts: int


def start(rules: Rules) -> State:
    """Everything is free, nobody has anything."""
    none: tuple[Disk | None, ...] = (None,) * rules.merchants
    disks = (Disk(),) * rules.merchants
    hub = Hub(rules.cap, incarnations=(0,) * rules.merchants)
    return State(hub, disks, disks, none, None, False, None, frozenset(), (), 0, 0, 0, 0)


def violation(rules: Rules, state: State) -> str | None:
    """The kind of promise that is broken in a state, if any."""
    if state.acked > rules.cap:
        return "overspend"
    if state.token_uses > 1:
        return "token twice"
    open_ = sum(part.left for _, part in state.hub.parts if part.state == LIVE)
    off = sum(part.left for _, part in state.hub.parts if part.state == WRITTEN_OFF)
    hub = state.hub
    if min(hub.free, hub.written_off) < 0:
        return "books"
    if hub.free + open_ + off + hub.written_off + hub.spent != rules.cap:
        return "books"
    return None


Step = tuple[str, State]


def steps(rules: Rules, state: State) -> Iterator[Step]:
    """Everything that can happen next, each with its line of the story."""
    yield from _grants(rules, state)
    for sent in state.sent:
        yield from _arrivals(rules, state, sent)
    for who in range(rules.merchants):
        yield from _merchant(rules, state, who)
        yield from _reports(rules, state, who)
    if rules.can_clone:
        yield from _clone(state)
    for number, part in state.hub.parts:
        yield from _silence(rules, state, number, part)
    if rules.can_restore_hub:
        yield from _hub_restored(rules, state)
    if rules.can_move:
        yield from _moves(rules, state)


# --- the hub --------------------------------------------------------------------------------------


def _grants(rules: Rules, state: State) -> Iterator[Step]:
    hub = state.hub
    if state.granted == rules.grants_max:
        return
    # The merchants are alike until the first grant: it may as well be A's.
    for who in range(rules.merchants if state.granted or rules.has_token else 1):
        for size in range(1, hub.free + 1):
            incarnation = hub.incarnations[who]
            number = state.granted  # never used again
            part = Part(who, size, incarnation, size, LIVE)
            yield (
                f"the hub grants {size} to {_name(who)} (grant {number})",
                state._replace(
                    hub=hub._replace(free=hub.free - size, parts=_put(hub.parts, number, part)),
                    granted=number + 1,
                    sent=state.sent | {("grant", number, who, incarnation, size)},
                ),
            )


def _silence(rules: Rules, state: State, number: int, part: Part) -> Iterator[Step]:
    hub = state.hub
    if part.state != LIVE:
        return
    if rules.can_write_off:
        off = part._replace(state=WRITTEN_OFF)
        yield (
            f"the hub writes off grant {number}: {_name(part.holder)} is silent",
            state._replace(hub=hub._replace(parts=_put(hub.parts, number, off))),
        )
    if not rules.frees_only_closed:
        freed = _free(hub, part, part.left)
        parts = _put(hub.parts, number, part._replace(state=CLOSED))
        yield (
            f"the hub's timer takes back grant {number}",
            state._replace(hub=freed._replace(parts=parts)),
        )


def _reports(rules: Rules, state: State, who: int) -> Iterator[Step]:
    """The hub applies the next entry of a merchant's log, of this incarnation or an ended one."""
    disk = state.disks[who]
    logs = [(disk.incarnation, disk.log)]
    logs += [(key[1], log) for key, log in state.old_logs if key[0] == who]
    for incarnation, log in logs:
        key = (who, incarnation)
        heard = dict(state.hub.heard).get(key, 0)
        if heard >= len(log):
            continue
        number, act = log[heard]
        part = dict(state.hub.parts).get(number)
        if part is None:
            continue  # parked until the grant is presented
        hub = _apply(rules, state.hub, number, part, act)
        if hub is None:
            continue  # disputed: never paid
        hub = hub._replace(heard=_put(hub.heard, key, heard + 1))
        word = "redemption" if act == REDEEM else "reversal"
        yield f"the hub hears of a {word} from grant {number}", state._replace(hub=hub)


def _apply(rules: Rules, hub: Hub, number: int, part: Part, act: int) -> Hub | None:
    if act == REDEEM:
        if part.left == 0 or part.state == CLOSED:
            return None
        changed = part._replace(left=part.left - 1)
        return hub._replace(spent=hub.spent + 1, parts=_put(hub.parts, number, changed))
    hub = hub._replace(spent=hub.spent - 1)
    if part.state == LIVE or (part.state == WRITTEN_OFF and rules.keeps_written_off):
        changed = part._replace(left=part.left + 1)
        return hub._replace(parts=_put(hub.parts, number, changed))
    return _free(hub, part, 1)


def _free(hub: Hub, part: Part, units: int) -> Hub:
    """Units come back from a part. Those of an old epoch may be somebody else's by now."""
    if part.is_old:
        return hub._replace(written_off=hub.written_off + units)
    return hub._replace(free=hub.free + units)


def _hub_restored(rules: Rules, state: State) -> Iterator[Step]:
    if state.has_restored_hub:
        for who, disk in enumerate(state.disks):
            yield from _presented(state, who, disk)
    elif state.hub_backup is None:
        yield "the hub is backed up", state._replace(hub_backup=state.hub)
    else:
        hub = state.hub_backup
        if rules.renews_epoch:
            parts = tuple((number, part._replace(is_old=True)) for number, part in hub.parts)
            hub = hub._replace(free=0, written_off=hub.written_off + hub.free)
            if rules.keeps_old_epochs_apart:
                hub = hub._replace(parts=parts)
        yield (
            "the hub is restored from its backup",
            state._replace(hub=hub, has_restored_hub=True),
        )


def _presented(state: State, who: int, disk: Disk) -> Iterator[Step]:
    """A merchant presents a grant that the restored hub does not know."""
    sizes = {message[1]: message[4] for message in state.sent if message[0] == "grant"}
    for number, _ in disk.held:
        size = sizes[number]
        hub = state.hub
        if number not in dict(hub.parts) and hub.written_off >= size:
            part = Part(who, size, disk.incarnation, size, LIVE, is_old=True)
            hub = hub._replace(
                written_off=hub.written_off - part.size, parts=_put(hub.parts, number, part)
            )
            yield f"{_name(who)} presents grant {number}", state._replace(hub=hub)


# --- messages arrive ------------------------------------------------------------------------------


def _arrivals(rules: Rules, state: State, sent: tuple[Any, ...]) -> Iterator[Step]:
    if sent[0] == "grant":
        yield from _grant_arrives(rules, state, *sent[1:])
    elif sent[0] == "closed":
        yield from _closure_arrives(rules, state, *sent[1:])
    elif sent[0] in ("release?", "released", "token"):
        yield from _move_arrives(rules, state, sent[0])
    else:
        yield from _incarnation_arrives(state, *sent[1:])


def _grant_arrives(
    rules: Rules, state: State, number: int, who: int, incarnation: int, size: int
) -> Iterator[Step]:
    disk = state.disks[who]
    known = dict(disk.held).get(number)
    if disk.incarnation != incarnation or (known is not None and rules.dedups_grants):
        return
    before = 0 if known is None else known.left
    held = Held(before + size, True)
    again = " again" if known is not None else ""
    yield (
        f"{_name(who)} accepts grant {number}{again}",
        _write(state, who, disk._replace(held=_put(disk.held, number, held))),
    )


def _closure_arrives(
    rules: Rules, state: State, number: int, key: tuple[int, int], length: int
) -> Iterator[Step]:
    """What is left is free once everything up to the closure has been applied."""
    hub = state.hub
    part = dict(hub.parts).get(number)
    if part is None or dict(hub.heard).get(key, 0) < length:
        return
    if part.state == WRITTEN_OFF or (part.state == CLOSED and rules.dedups_closures):
        return
    again = " again" if part.state == CLOSED else ""
    freed = _free(hub, part, part.left)
    parts = _put(hub.parts, number, part._replace(state=CLOSED))
    yield (
        f"the hub frees {part.left} of the closed grant {number}{again}",
        state._replace(hub=freed._replace(parts=parts)),
    )


def _incarnation_arrives(state: State, who: int, incarnation: int) -> Iterator[Step]:
    """Grants of ended incarnations are fenced: what is left of them is written off."""
    hub = state.hub
    if hub.incarnations[who] >= incarnation:
        return
    parts = tuple(
        (number, part._replace(state=WRITTEN_OFF))
        if part.holder == who and part.incarnation < incarnation and part.state == LIVE
        else (number, part)
        for number, part in hub.parts
    )
    incarnations = _at(hub.incarnations, who, incarnation)
    yield (
        f"the hub hears of incarnation {incarnation} of {_name(who)}",
        state._replace(hub=hub._replace(parts=parts, incarnations=incarnations)),
    )


# --- a merchant -----------------------------------------------------------------------------------


def _merchant(rules: Rules, state: State, who: int) -> Iterator[Step]:
    disk = state.disks[who]
    for number, held in disk.held:
        if not held.is_open:
            continue
        if held.left:
            yield from _redeems(rules, state, who, number)
        if rules.can_close:
            yield _closes(rules, state, who, number)
    if rules.can_reverse:
        yield from _reverses(rules, state, who)
    if not rules.syncs_before_ack and disk != state.synced[who]:
        yield f"{_name(who)} syncs its disk", state._replace(synced=_at(state.synced, who, disk))
        yield (
            f"the power of {_name(who)} fails",
            state._replace(disks=_at(state.disks, who, state.synced[who])),
        )
    if rules.can_restore:
        yield from _restored(rules, state, who)


def _redeems(rules: Rules, state: State, who: int, number: int) -> Iterator[Step]:
    disk = _redeemed(rules, state, who, state.disks[who], number)
    if disk is not None:
        after = _write(state, who, disk, synced=rules.syncs_before_ack)
        yield f"{_name(who)} redeems from grant {number}", _count(rules, after)


def _redeemed(rules: Rules, state: State, who: int, disk: Disk, number: int) -> Disk | None:
    """The disk after a redemption; None where it is refused."""
    if state.acts == rules.acts_max:
        return None
    is_here = disk.has_received or (who == 0 and not disk.has_released)
    if rules.has_token and (disk.has_used_token or (rules.binds_token and not is_here)):
        return None
    held = dict(disk.held)[number]
    return disk._replace(
        held=_put(disk.held, number, held._replace(left=held.left - 1)),
        log=(*disk.log, (number, REDEEM)),
        has_used_token=rules.has_token,
    )


def _count(rules: Rules, state: State) -> State:
    """One more shopper was told yes."""
    uses = state.token_uses + int(rules.has_token)
    return state._replace(acked=state.acked + 1, token_uses=uses, acts=state.acts + 1)


def _reverses(rules: Rules, state: State, who: int) -> Iterator[Step]:
    disk = state.disks[who]
    if state.acts == rules.acts_max:
        return
    for number, held in disk.held:
        if sum(act for one, act in disk.log if one == number) > 0:
            left = held.left + int(held.is_open)
            disk_after = disk._replace(
                held=_put(disk.held, number, held._replace(left=left)),
                log=(*disk.log, (number, REVERSE)),
            )
            after = _write(state, who, disk_after)
            yield (
                f"{_name(who)} takes back a redemption from grant {number}",
                after._replace(acked=state.acked - 1, acts=state.acts + 1),
            )


def _closes(rules: Rules, state: State, who: int, number: int) -> Step:
    disk = state.disks[who]
    message = ("closed", number, (who, disk.incarnation), len(disk.log))
    after = state._replace(sent=state.sent | {message})
    if not rules.closes_before_send:
        return f"{_name(who)} says that it closes grant {number}, and has not yet", after
    held = dict(disk.held)[number]._replace(is_open=False)
    closed = disk._replace(held=_put(disk.held, number, held))
    return f"{_name(who)} closes grant {number}, then says so", _write(after, who, closed)


def _restored(rules: Rules, state: State, who: int) -> Iterator[Step]:
    disk, backup = state.disks[who], state.backups[who]
    if disk.incarnation:
        return
    if backup is None:
        if all(one is None for one in state.backups):  # one backup shows all there is to see
            yield (
                f"{_name(who)} is backed up",
                state._replace(backups=_at(state.backups, who, disk)),
            )
        return
    if backup == disk:
        return  # nothing was lost
    if not rules.renews_incarnation:
        yield f"{_name(who)} is restored, as the same", _write(state, who, backup)
        return
    held = tuple((number, Held(one.left, False)) for number, one in backup.held)
    renewed = backup._replace(incarnation=1, held=held, log=())
    after = _write(state, who, renewed)._replace(
        old_logs=((*state.old_logs, ((who, disk.incarnation), disk.log))),
        sent=state.sent | {("incarnation", who, 1)},
    )
    yield f"{_name(who)} is restored, as incarnation 1", after


def _clone(state: State) -> Iterator[Step]:
    """A copy of the first merchant's disk serves beside it; neither can know."""
    clone = state.clone
    if clone is None:
        yield "the disk of A is cloned", state._replace(clone=state.disks[0])
        return
    for number, held in clone.held:
        if held.is_open and held.left:
            spent = _put(clone.held, number, held._replace(left=held.left - 1))
            yield (
                f"the clone of A redeems from grant {number}",
                state._replace(clone=clone._replace(held=spent), acked=state.acked + 1),
            )


# --- the token is moved from A to B ---------------------------------------------------------------


def _moves(rules: Rules, state: State) -> Iterator[Step]:
    """The holder asks the hub, which asks A for its release."""
    message = "release?" if rules.needs_release else "token"
    yield "the hub is asked to move the token", state._replace(sent=state.sent | {(message,)})


def _move_arrives(rules: Rules, state: State, message: str) -> Iterator[Step]:
    if message == "release?":
        disk = state.disks[0]
        if disk.has_released or (disk.has_used_token and rules.looks_at_use):
            return  # it said so before, or it refuses
        after = state._replace(sent=state.sent | {("released",)})
        if rules.keeps_release:
            after = _write(after, 0, disk._replace(has_released=True))
        yield "A releases the token", after
    elif message == "released":
        yield "the hub issues the successor", state._replace(sent=state.sent | {("token",)})
    else:
        disk = state.disks[1]
        if not disk.has_received or not rules.derives_successor:
            received = disk._replace(
                has_received=True,
                has_used_token=disk.has_used_token and rules.derives_successor,
            )
            yield "B hears of the successor", _write(state, 1, received)


# --- small things ---------------------------------------------------------------------------------


def _write(state: State, who: int, disk: Disk, *, synced: bool = True) -> State:
    disks = _at(state.disks, who, disk)
    if not synced:
        return state._replace(disks=disks)
    return state._replace(disks=disks, synced=_at(state.synced, who, disk))


def _name(who: int) -> str:
    return "ABC"[who]


def _at(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _put(pairs: tuple[Any, ...], key: Any, value: Any) -> tuple[Any, ...]:
    """The pairs with this one, in the order of their keys, so that equal states are equal."""
    for place, (known, _) in enumerate(pairs):
        if known == key:
            return (*pairs[:place], (key, value), *pairs[place + 1 :])
    return tuple(sorted((*pairs, (key, value))))
