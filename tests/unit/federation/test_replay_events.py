"""The memory against replays, and event batches."""

import contextlib
import json
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from sconto.base.errors import InvalidInputError, UnavailableError
from sconto.federation import Event, ReplayGuard, decode_batch, encode_batch
from sconto.federation.events import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Unreadable, Usual

HUB = "https://hub.example"


def refused(act: Callable[[], object]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        act()
    return caught.value


# -------------------------------------------------------------------------------- ReplayGuard


def test_an_id_is_new_once_for_its_time() -> None:
    guard = ReplayGuard(ttl_s=10)
    assert guard.is_new("a", 0)
    assert not guard.is_new("a", 0)
    assert not guard.is_new("a", 9_999)
    assert guard.is_new("a", 10_000)
    assert not guard.is_new("a", 10_001)


def test_memory_is_bounded_and_fails_closed() -> None:
    """Full of ids that could still come again: better to refuse a new one than to forget one."""
    guard = ReplayGuard(ttl_s=10, entries_max=2)
    assert guard.is_new("a", 0)
    assert guard.is_new("b", 5_000)
    with pytest.raises(UnavailableError):
        guard.is_new("c", 6_000)
    assert not guard.is_new("a", 6_000)
    assert guard.is_new("c", 10_000)
    assert len(guard) == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4_000)), max_size=60))
def test_it_agrees_with_a_memory_without_end(steps: list[tuple[int, int]]) -> None:
    """Against the plain model: new is what was not accepted within the last ten seconds."""
    guard, accepted, now_ms = ReplayGuard(ttl_s=10), dict[str, int](), 0
    for number, later_ms in steps:
        now_ms += later_ms
        replay_id = str(number)
        expected = replay_id not in accepted or accepted[replay_id] + 10_000 <= now_ms
        assert guard.is_new(replay_id, now_ms) == expected
        if expected:
            accepted[replay_id] = now_ms


def test_a_clock_that_goes_back_lets_nothing_in_twice() -> None:
    guard = ReplayGuard(ttl_s=10)
    assert guard.is_new("a", 20_000)
    assert guard.is_new("b", 15_000)
    assert not guard.is_new("a", 16_000)
    assert not guard.is_new("b", 16_000)


# ------------------------------------------------------------------------------------- events

EVENT = Event(
    id="01HZX",
    source=HUB,
    type="sconto.token.issued.v1",
    subject="promo_88",
    time_ms=1_795_000_000_007,
    sequence=1,
    data={"token_id": "t", "uses": 1},
)


def batch(**changed: Any) -> bytes:
    """A batch of one whose envelope was changed: None takes an attribute away."""
    envelope = {**json.loads(encode_batch([EVENT]))[0], **changed}
    return json.dumps([{k: v for k, v in envelope.items() if v is not None}]).encode()


def test_an_event_is_a_cloud_event() -> None:
    assert json.loads(encode_batch([EVENT])) == [
        {
            "specversion": "1.0",
            "id": "01HZX",
            "source": HUB,
            "type": "sconto.token.issued.v1",
            "subject": "promo_88",
            "time": "2026-11-18T11:06:40.007Z",
            "sequence": "00000000000000000001",
            "datacontenttype": "application/json",
            "data": {"token_id": "t", "uses": 1},
        }
    ]


events = st.builds(
    Event,
    id=st.from_regex(r"[!-~]{1,200}", fullmatch=True),
    source=st.just(HUB),
    type=st.just("sconto.token.issued.v1"),
    subject=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
    ),
    time_ms=st.integers(0, 4 * 10**12),
    sequence=st.just(1),
    data=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        st.integers(0, 9),
    ),
)


@given(st.lists(events, max_size=5), st.integers(1, 2**53 - 100))
def test_a_batch_survives_the_wire(some: list[Event], first: int) -> None:
    numbered = [replace(event, sequence=first + i) for i, event in enumerate(some)]
    assert decode_batch(encode_batch(numbered)) == tuple(numbered)
    assert encode_batch(numbered) == encode_batch(numbered)


def test_the_order_of_the_texts_is_the_order_of_the_numbers() -> None:
    numbers = [1, 2, 9, 10, 11, 99, 100, 2**53 - 1]
    texts = [json.loads(encode_batch([replace(EVENT, sequence=n)]))[0]["sequence"] for n in numbers]
    assert sorted(texts) == texts


def test_the_largest_batch_passes() -> None:
    many = [replace(EVENT, sequence=i + 1) for i in range(BATCH_EVENTS_MAX)]
    assert decode_batch(encode_batch(many)) == tuple(many)


def test_unknown_extensions_are_passed_over() -> None:
    assert decode_batch(batch(traceparent="00-1-2-01", datacontenttype=None)) == (EVENT,)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"{}", "malformed", None),
        (b"null", "malformed", None),
        (b"[1]", "invalid_input", "[0]"),
        (batch(specversion="0.3"), "invalid_input", "[0].specversion"),
        (batch(specversion=None), "invalid_input", "[0].specversion"),
        (batch(id=None), "invalid_input", "[0].id"),
        (batch(id=""), "invalid_input", "[0].id"),
        (batch(source="shop"), "invalid_input", "[0].source"),
        (batch(time="yesterday"), "invalid_input", "[0].time"),
        (batch(time="2026-11-18T11:06:40"), "invalid_input", "[0].time"),
        (batch(time=1), "invalid_input", "[0].time"),
        (batch(sequence="1"), "invalid_input", "[0].sequence"),
        (batch(sequence=1), "invalid_input", "[0].sequence"),
        (batch(sequence="0" * 20), "malformed", "[0].sequence"),
        (batch(sequence="9" * 20), "malformed", "[0].sequence"),
        (batch(sequence="\u0661" * 20), "invalid_input", "[0].sequence"),
        (batch(data=[1]), "invalid_input", "[0].data"),
        (batch(data=None), "invalid_input", "[0].data"),
        (batch(datacontenttype="text/xml"), "invalid_input", "[0].datacontenttype"),
        (encode_batch([EVENT, replace(EVENT, sequence=3)]), "sequence_gap", "[1].sequence"),
        (encode_batch([EVENT, EVENT]), "sequence_gap", "[1].sequence"),
        (
            encode_batch([EVENT, replace(EVENT, sequence=2, source="https://a.example")]),
            "malformed",
            "[1].source",
        ),
        (b"[" + b",".join([b"{}"] * (BATCH_EVENTS_MAX + 1)) + b"]", "malformed", None),
        (b" " * (BATCH_BYTES_MAX + 1), "too_large", None),
    ],
)
def test_a_wrong_batch_is_refused(body: bytes, code: str, field: str | None) -> None:
    error = refused(lambda: decode_batch(body))
    assert (error.code, error.field) == (code, field)


@pytest.mark.parametrize(
    "poison",
    [
        b"9007199254740992",
        b'1,"uses":1',
        b"1.5",
        b'"\\u0000"',
        b'"\xff"',
        b"[" * 40 + b"]" * 40,
    ],
)
def test_an_event_that_is_not_strict_json_does_not_stop_its_neighbours(poison: bytes) -> None:
    """Goal: it can be parked. Method: between two good ones, a value that is refused."""
    good = encode_batch([EVENT])[1:-1]
    wrong = good.replace(b'"uses":1', b'"uses":' + poison)
    numbered = [
        one.replace(b"0" * 19 + b"1", b"%020d" % place)
        for place, one in enumerate((good, wrong, good), 1)
    ]
    before, found, after = decode_batch(b"[" + b",".join(numbered) + b"]")
    assert (before.sequence, after.sequence) == (1, 3)
    assert isinstance(found, Unreadable)
    assert (found.id, found.sequence, found.source) == (EVENT.id, 2, EVENT.source)
    assert found.reason.startswith("invalid_json: ")
    assert found.body == numbered[1]


@pytest.mark.parametrize("poison", [b"nan", b"{", b'"\\ud800"', b""])
def test_where_nobody_can_say_where_an_event_ends_all_are_refused(poison: bytes) -> None:
    body = encode_batch([EVENT]).replace(b'"uses":1', b'"uses":' + poison)
    assert refused(lambda: decode_batch(body)).code == "invalid_json"


def test_poison_that_does_not_say_which_event_it_is_is_refused() -> None:
    for name in (b'"id"', b'"sequence"', b'"source"'):
        body = encode_batch([EVENT]).replace(b'"uses":1', b'"uses":1.5').replace(name, b'"x"')
        error = refused(lambda body=body: decode_batch(body))
        assert (error.code, error.field) == ("invalid_json", "[0]")


class Issued(msgspec.Struct, omit_defaults=True):
    """What `EVENT` says."""

    token_id: str
    uses: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    note: str = ""


USUAL = Usual(EVENT.type, Issued)


def written(**changes: Any) -> bytes:
    """One event as our own servers write it."""
    event = {
        "specversion": "1.0",
        "id": EVENT.id,
        "source": EVENT.source,
        "type": EVENT.type,
        "subject": EVENT.subject,
        "time": "2026-11-18T11:06:40.007Z",
        "sequence": f"{1:020}",
        "datacontenttype": "application/json",
        "data": {"token_id": "t", "uses": 1},
    }
    return b"[" + json.dumps(event | changes, separators=(",", ":")).encode() + b"]"


def test_usual_events_come_decoded() -> None:
    (event,) = decode_batch(written(), USUAL)
    assert isinstance(event, Event)
    assert event.data == Issued("t", 1)
    assert replace(event, data=EVENT.data, time_ms=EVENT.time_ms) == EVENT


@given(st.binary(max_size=3), st.integers(0, 700), st.integers(0, 3))
@example(b"\\u0041", 210, 0)
@example(b"9" * 20, 250, 0)
def test_usual_events_are_what_the_slow_way_gives(new: bytes, place: int, cut: int) -> None:
    """Goal: one outcome. Method: change bytes anywhere, decode with the quick way and without."""
    body = written()[:-1] + b"," + written(id="01HZY", sequence=f"{2:020}")[1:]
    place = min(place, len(body))
    body = body[:place] + new + body[place + cut :]

    def outcome(usual: Usual | None) -> Any:
        try:
            events = decode_batch(body, usual)
        except InvalidInputError as error:
            return str(error), error.code, error.field
        return [
            replace(one, data=msgspec.to_builtins(one.data)) if isinstance(one, Event) else one
            for one in events
        ]

    assert outcome(USUAL) == outcome(None)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        decode_batch(body)


def test_any_changed_byte_raises_nothing_else() -> None:
    """A batch has no signature of its own (the request has): it may become another batch."""
    body = encode_batch([EVENT])
    for place in range(len(body)):
        for mask in (0x01, 0x20, 0x80):
            changed = body[:place] + bytes([body[place] ^ mask]) + body[place + 1 :]
            with contextlib.suppress(InvalidInputError):
                decode_batch(changed)
