"""Events between servers: CloudEvents 1.0 in JSON batches, numbered without a gap.

From one server to another runs one stream; its events are numbered 1, 2, 3, … in the extension
`sequence`, a text of 20 digits (so that, as CloudEvents wants, the order of the texts is the order
of the numbers). The receiver takes them in order and answers with the last number that it has
stored; the sender goes on from there. A batch is a piece of one stream: one source, no gap.

Decoding looks at envelopes only. `data` is a JSON object that its handler reads; one that the
handler cannot read is parked, and the stream goes on. So is an event that is not strict JSON (a
number beyond 2^53, a key twice) where it can still be said which one it is.
"""

from datetime import datetime
from functools import cache, lru_cache
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from sconto.base.canonical import JSON_VALUES_MAX, canonical, parse_json, parse_quickly
from sconto.base.clock import rfc3339, to_ms
from sconto.base.documents import from_builtins
from sconto.base.errors import InvalidInputError
from sconto.base.fields import Identifier, ServerUrl

EVENTS_TYPE = "application/cloudevents-batch+json"
#: Room for one event with the largest terms, 1 MiB, and for many small ones.
BATCH_BYTES_MAX = 2**22
BATCH_EVENTS_MAX = 1000
_DIGITS = 20


_Time = Annotated[datetime, Meta(tz=True)]


class Event(Struct, frozen=True, gc=False):
    """Something that happened at `source`; (`source`, `id`) is it, however often it comes."""

    id: str
    source: str
    #: `sconto.token.issued.v1`
    type: str
    #: What it is about: the id of a promotion, frame or token.
    subject: str
    time_ms: int
    #: Place in the stream from the source to this receiver; the first is 1.
    sequence: int
    #: A JSON object, or what `Usual` makes of it.
    data: Any
    #: Name of the stream; empty for the first one between two servers.
    stream: str = ""


class Unreadable(Struct, frozen=True, gc=False):
    """An event of which it can only be said which one it is: the rest is not strict JSON."""

    id: str
    source: str
    sequence: int
    stream: str
    #: As it was received.
    body: bytes
    reason: str


class _Head(Struct, frozen=True, kw_only=True):
    """Which event it is."""

    id: Identifier
    source: ServerUrl
    sequence: Annotated[str, Meta(pattern=r"^[0-9]{20}$(?!\n)")]
    stream: Annotated[str, Meta(pattern=r"^[0-9A-Z]{26}$(?!\n)")] | Literal[""] = ""


class _Envelope(_Head, frozen=True, kw_only=True):
    """CloudEvents 1.0. Extensions that we do not know are passed over, as it says."""

    specversion: Literal["1.0"]
    type: Identifier
    subject: Annotated[str, Meta(min_length=1, max_length=500)]
    time: _Time
    data: dict[str, Any]
    datacontenttype: Literal["application/json"] = "application/json"


D = TypeVar("D")


class Usual(NamedTuple):
    """Events that come by the thousand: the type that they have, and what their data is."""

    event_type: str
    document: type[Struct]


class _Written(Struct, Generic[D], kw_only=True, omit_defaults=True, gc=False):
    """An event as our own servers write it: these members in this order."""

    specversion: Literal["1.0"]
    id: Identifier
    source: ServerUrl
    type: Identifier
    subject: Annotated[str, Meta(min_length=1, max_length=500)]
    time: str
    sequence: Annotated[str, Meta(pattern=r"^[0-9]{20}$(?!\n)")]
    stream: Annotated[str, Meta(pattern=r"^[0-9A-Z]{26}$(?!\n)")] | Literal[""] = ""
    datacontenttype: Literal["application/json"]
    data: D


def encode_batch(events: list[Event]) -> bytes:
    """Canonical bytes of a batch."""
    return canonical([_encode(event) for event in events])


def decode_batch(body: bytes, usual: Usual | None = None) -> tuple[Event | Unreadable, ...]:
    """The events of a batch of at most 4 MiB and 1,000 events: of one source, without a gap.

    Data of `usual` events may come decoded; of all others, and of those that our own servers would
    have written otherwise, it is a JSON object. Raises InvalidInputError for anything else, also
    where of one event it cannot be read which one it is.
    """
    events: tuple[Event | Unreadable, ...] = (usual and _decode_all_usual(body, usual)) or tuple(
        (usual and _decode_usual(bytes(one), usual)) or _decode(bytes(one), f"[{i}]")
        for i, one in enumerate(_split(body))
    )
    for i, event in enumerate(events):
        if event.source != events[0].source:
            raise _invalid("a batch has one source", f"[{i}].source", "malformed")
        if event.stream != events[0].stream:
            raise _invalid("a batch is of one stream", f"[{i}].stream", "malformed")
        if event.sequence != events[0].sequence + i:
            raise _invalid(
                f"the event after {events[i - 1].sequence} has the number {event.sequence}",
                f"[{i}].sequence",
                "sequence_gap",
            )
    return events


def _split(body: bytes) -> list[msgspec.Raw]:
    """The elements of a list, unread."""
    if len(body) <= BATCH_BYTES_MAX and body.count(b",") <= JSON_VALUES_MAX:
        try:
            elements = _ELEMENTS.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            elements = None
    else:
        elements = None
    if elements is None:
        parse_json(body, max_bytes=BATCH_BYTES_MAX, what="events")  # says best what is wrong
    if elements is None or len(elements) > BATCH_EVENTS_MAX:
        raise _invalid(f"a batch is a list of at most {BATCH_EVENTS_MAX} events", None, "malformed")
    return elements


_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_HEAD = msgspec.json.Decoder(_Head)


def _encode(event: Event) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": rfc3339(event.time_ms),
        "sequence": f"{event.sequence:0{_DIGITS}}",
        "datacontenttype": "application/json",
        "data": event.data,
        **({"stream": event.stream} if event.stream else {}),
    }


def _decode_usual(body: bytes, usual: Usual) -> Event | None:
    """What `_decode` gives, with the data decoded, in half the time; None: not found out here.

    Written again it is the same: so no key stands twice, there is none that we do not know, and
    texts and numbers are spelt in the usual way. The bounds are those of the document.
    """
    found = _read_usual(body, _decoder_of(usual.document), usual)
    return found[0] if found else None


def _decode_all_usual(body: bytes, usual: Usual) -> tuple[Event, ...] | None:
    """What `_decode_usual` gives of each event of a batch, where it gives all, in half the time."""
    if len(body) > BATCH_BYTES_MAX or body.count(b",") > JSON_VALUES_MAX:
        return None
    found = _read_usual(body, _batch_decoder_of(usual.document), usual)
    return found if found and len(found) <= BATCH_EVENTS_MAX else None


def _read_usual(
    body: bytes, decoder: "msgspec.json.Decoder[Any]", usual: Usual
) -> tuple[Event, ...] | None:
    if b"\\u" in body:
        return None
    events = []
    try:
        read = decoder.decode(body)
        if _ENCODER.encode(read) != body:
            return None
        for one in read if isinstance(read, list) else [read]:
            sequence = int(one.sequence)
            if one.type != usual.event_type or not 0 < sequence < 2**53:
                return None
            time_ms = _time_ms(one.time)
            events.append(
                Event(
                    one.id,
                    one.source,
                    one.type,
                    one.subject,
                    time_ms,
                    sequence,
                    one.data,
                    one.stream,
                )
            )
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return tuple(events)


@cache
def _decoder_of(document: type[Struct]) -> "msgspec.json.Decoder[_Written[Any]]":
    return msgspec.json.Decoder(_Written[document])  # type: ignore[valid-type]


@cache
def _batch_decoder_of(document: type[Struct]) -> "msgspec.json.Decoder[list[_Written[Any]]]":
    return msgspec.json.Decoder(list[_Written[document]])  # type: ignore[valid-type]


_ENCODER = msgspec.json.Encoder()


@lru_cache(1024)
def _time_ms(text: str) -> int:
    return to_ms(msgspec.convert(text, _Time))


def _decode(body: bytes, field: str) -> Event | Unreadable:
    value = parse_quickly(body)
    if value is None:
        try:
            value = parse_json(body, max_bytes=BATCH_BYTES_MAX, what="the event")
        except InvalidInputError as error:
            return _unreadable(body, field, error)
    envelope = from_builtins(value, _Envelope, what="the event", field=field)
    return Event(
        envelope.id,
        envelope.source,
        envelope.type,
        envelope.subject,
        to_ms(envelope.time),
        _sequence(envelope, field),
        envelope.data,
        envelope.stream,
    )


def _unreadable(body: bytes, field: str, error: InvalidInputError) -> Unreadable:
    try:
        head = _HEAD.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise _invalid(str(error), field, error.code) from None
    reason = f"{error.code}: {error}"
    return Unreadable(head.id, head.source, _sequence(head, field), head.stream, body, reason)


def _sequence(head: _Head, field: str) -> int:
    sequence = int(head.sequence)
    if not 0 < sequence < 2**53:
        raise _invalid("sequence is out of range", f"{field}.sequence", "malformed")
    return sequence


def _invalid(message: str, field: str | None, code: str) -> InvalidInputError:
    return InvalidInputError(message, field=field, code=code)
