"""Events between servers: CloudEvents 1.0 in JSON batches, numbered without a gap.

From one server to another runs one stream; its events are numbered 1, 2, 3, … in the extension
`sequence`, a text of 20 digits (so that, as CloudEvents wants, the order of the texts is the order
of the numbers). The receiver takes them in order and answers with the last number that it has
stored; the sender goes on from there. A batch is a piece of one stream: one source, no gap.

Decoding looks at envelopes only. `data` is a JSON object that its handler reads; one that the
handler cannot read is parked, and the stream goes on.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from sconto.base.canonical import canonical, parse_json
from sconto.base.clock import rfc3339, to_ms
from sconto.base.documents import from_builtins
from sconto.base.errors import InvalidInputError
from sconto.base.fields import Identifier, ServerUrl

EVENTS_TYPE = "application/cloudevents-batch+json"
#: Room for one event with the largest terms, 1 MiB, and for many small ones.
BATCH_BYTES_MAX = 2**22
BATCH_EVENTS_MAX = 1000
_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Event:
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
    data: dict[str, Any]
    #: Name of the stream; empty for the first one between two servers.
    stream: str = ""


class _Envelope(Struct, frozen=True, kw_only=True):
    """CloudEvents 1.0. Extensions that we do not know are passed over, as it says."""

    specversion: Literal["1.0"]
    id: Identifier
    source: ServerUrl
    type: Identifier
    subject: Annotated[str, Meta(min_length=1, max_length=500)]
    time: Annotated[datetime, Meta(tz=True)]
    sequence: Annotated[str, Meta(pattern=r"^[0-9]{20}$(?!\n)")]
    data: dict[str, Any]
    stream: Annotated[str, Meta(pattern=r"^[0-9A-Z]{26}$(?!\n)")] | Literal[""] = ""
    datacontenttype: Literal["application/json"] = "application/json"


def encode_batch(events: list[Event]) -> bytes:
    """Canonical bytes of a batch."""
    return canonical([_encode(event) for event in events])


def decode_batch(body: bytes) -> tuple[Event, ...]:
    """The events of a batch of at most 4 MiB and 1,000 events: of one source, without a gap."""
    value = parse_json(body, max_bytes=BATCH_BYTES_MAX, what="events")
    if not isinstance(value, list) or len(value) > BATCH_EVENTS_MAX:
        raise _invalid(f"a batch is a list of at most {BATCH_EVENTS_MAX} events", None, "malformed")
    events = tuple(_decode(envelope, f"[{i}]") for i, envelope in enumerate(value))
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


def _decode(value: Any, field: str) -> Event:
    envelope = from_builtins(value, _Envelope, what="the event", field=field)
    sequence = int(envelope.sequence)
    if not 0 < sequence < 2**53:
        raise _invalid("sequence is out of range", f"{field}.sequence", "malformed")
    return Event(
        id=envelope.id,
        source=envelope.source,
        type=envelope.type,
        subject=envelope.subject,
        time_ms=to_ms(envelope.time),
        sequence=sequence,
        data=envelope.data,
        stream=envelope.stream,
    )


def _invalid(message: str, field: str | None, code: str) -> InvalidInputError:
    return InvalidInputError(message, field=field, code=code)
