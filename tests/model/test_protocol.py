"""The protocol is safe in a small world, and each safeguard is needed.

Goal: no order of events breaks a promise. Method: every state that a small world can reach is
visited, breadth first; where a safeguard is dropped the shortest story that breaks a promise is
printed. A bounded model is evidence, not proof; it shows that none of the safeguards is idle.
"""

from collections import deque
from dataclasses import replace

import pytest
from exact_limits import Rules, start, steps, violation


def explore(rules: Rules, wanted: str | None = None) -> tuple[int, list[str] | None]:
    """States visited, and the shortest story to a violation (of the `wanted` kind), if any."""
    first = start(rules)
    came_from: dict[object, tuple[object, str] | None] = {first: None}
    waiting = deque([first])
    while waiting:
        state = waiting.popleft()
        for line, after in steps(rules, state):
            if after in came_from:
                continue
            came_from[after] = (state, line)
            kind = violation(rules, after)
            if kind is None or (wanted is not None and kind != wanted):
                waiting.append(after)
                continue
            return len(came_from), [*_story(came_from, after), f"=> {kind}"]
    return len(came_from), None


def _story(came_from: dict[object, tuple[object, str] | None], state: object) -> list[str]:
    lines: list[str] = []
    while (before := came_from[state]) is not None:
        state, line = before
        lines.insert(0, line)
    return lines


BASE = Rules()
SAFE = {
    "grants, redemptions, closures": (BASE, 1_000),
    "one part more": (Rules(cap=3, grants_max=3), 1_000),
    "the hub writes off merchants that sell on, unaware": (
        Rules(can_write_off=True, grants_max=3),
        1_000,
    ),
    "redemptions are taken back": (
        Rules(can_reverse=True, can_write_off=True, grants_max=2, acts_max=4),
        1_000,
    ),
    "a merchant is restored as a new incarnation": (
        Rules(can_restore=True, grants_max=3),
        1_000,
    ),
    "the hub is restored with a new epoch": (
        Rules(can_restore_hub=True, grants_max=3),
        1_000,
    ),
    "a token that names its merchant": (Rules(has_token=True), 100),
    "a token that is moved": (Rules(has_token=True, can_move=True, grants_max=3), 1_000),
}


@pytest.mark.parametrize(("rules", "at_least"), SAFE.values(), ids=SAFE)
def test_the_protocol_is_safe(rules: Rules, at_least: int) -> None:
    states, story = explore(rules)
    print(f"{states} states")
    assert story is None, "\n".join(story or [])
    assert states >= at_least, "the world is too small to show anything"


MOVING = Rules(has_token=True, can_move=True)
ABLATIONS = {
    "grants are not deduplicated": (replace(BASE, dedups_grants=False), "overspend"),
    "closures are not deduplicated": (replace(BASE, dedups_closures=False), "overspend"),
    "a closure is said before it is durable": (
        replace(BASE, closes_before_send=False),
        "overspend",
    ),
    "a redemption is answered before it is durable": (
        replace(BASE, syncs_before_ack=False),
        "overspend",
    ),
    "the hub's timer takes grants back and grants them again": (
        replace(BASE, frees_only_closed=False),
        "overspend",
    ),
    "a merchant is restored without a new incarnation": (
        replace(BASE, can_restore=True, renews_incarnation=False),
        "overspend",
    ),
    "the hub is restored without a new epoch": (
        replace(BASE, can_restore_hub=True, renews_epoch=False),
        "overspend",
    ),
    "what an old epoch's parts give back is free in the new one": (
        replace(BASE, can_restore_hub=True, grants_max=3, keeps_old_epochs_apart=False),
        "overspend",
    ),
    "a merchant's disk is cloned": (replace(BASE, can_clone=True), "overspend"),
    "what is taken back from a part that was written off is free": (
        replace(BASE, can_reverse=True, can_write_off=True, acts_max=6, keeps_written_off=False),
        "overspend",
    ),
    "a token is moved without the release of its merchant": (
        replace(MOVING, needs_release=False),
        "token twice",
    ),
    "a merchant releases a token and forgets it": (
        replace(MOVING, keeps_release=False),
        "token twice",
    ),
    "a merchant releases a token that was used": (
        replace(MOVING, looks_at_use=False),
        "token twice",
    ),
    "the successor has another id each time": (
        replace(MOVING, derives_successor=False),
        "token twice",
    ),
    "a token names no merchant": (replace(BASE, has_token=True, binds_token=False), "token twice"),
}


@pytest.mark.parametrize(("rules", "kind"), ABLATIONS.values(), ids=ABLATIONS)
def test_without_a_safeguard_there_is_a_story(rules: Rules, kind: str) -> None:
    states, story = explore(rules, wanted=kind)
    assert story is not None, f"{states} states, and none breaks a promise"
    print(f"found after {states} states:", *story, sep="\n    ")
    assert story[-1] == f"=> {kind}"
    assert len(story) <= 16, "the shortest story is short"
