"""The table at the edge: which status an error has, and what its problem document says."""

import json

import pytest

from sconto.base import errors
from sconto.base.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    LocalError,
    NotAuthenticatedError,
    NotFoundError,
    PeerError,
    ScontoError,
    UnavailableError,
    WireError,
)
from sconto.servers.problems import (
    STATUS_OF_CLASS,
    STATUS_OF_CODE,
    TYPE_BASE,
    encode,
    problem,
    status_of,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInputError("x"), 400),
        (NotAuthenticatedError("x"), 401),
        (ForbiddenError("x"), 403),
        (NotFoundError("x"), 404),
        (ConflictError("x"), 409),
        (UnavailableError("x"), 503),
        (PeerError("x"), 502),
        (WireError("x"), 502),
        (LocalError("x"), 400),
        (ScontoError("x"), 400),
        # a code may have a status of its own
        (InvalidInputError("x", code="too_large"), 413),
        (LocalError("x", code="method_not_allowed"), 405),
        (InvalidInputError("x", code="unsupported_media_type"), 415),
        (UnavailableError("x", code="storage_full"), 507),
        (UnavailableError("x", code="overloaded"), 503),
        (ForbiddenError("x", code="peer_not_trusted"), 403),
        (NotFoundError("x", code="gone"), 410),
        # and any other code has its class's
        (ConflictError("x", code="exists_with_different_terms"), 409),
    ],
)
def test_the_status_of_an_error(error: ScontoError, status: int) -> None:
    assert status_of(error) == status
    assert problem(error)["status"] == status


@pytest.mark.parametrize("code", [c for c, status in STATUS_OF_CODE.items() if status == 401])
def test_a_bad_signature_is_about_the_caller_or_about_the_document(code: str) -> None:
    """Goal: a bad frame in a good request is not "who are you". Method: both ways of asking."""
    error = InvalidInputError("x", code=code)
    assert status_of(error) == 401
    assert status_of(error, is_document=True) == 422
    assert status_of(InvalidInputError("x", code="too_large"), is_document=True) == 413


def test_every_class_of_errors_has_a_status_of_its_own() -> None:
    """Goal: a new class is not forgotten. Method: all classes in base.errors against the table."""
    classes = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ScontoError)
    }
    listed = [kind for kind, _ in STATUS_OF_CLASS]
    assert classes - set(listed) == {ScontoError, LocalError}
    for place, kind in enumerate(listed):
        assert not any(issubclass(kind, before) for before in listed[:place]), "special ones first"


def test_a_problem_says_what_helps_to_mend_it() -> None:
    error = InvalidInputError(
        "the quantity must be at least 1",
        code="too_small",
        field="cart.lines[0].quantity",
        remedy="leave the line out",
        had=0,
        needed=1,
    )
    assert problem(error, instance="/v1/evaluations") == {
        "type": TYPE_BASE + "too_small",
        "title": "Too small",
        "status": 400,
        "detail": "the quantity must be at least 1",
        "code": "too_small",
        "field": "cart.lines[0].quantity",
        "remedy": "leave the line out",
        "instance": "/v1/evaluations",
        "had": 0,
        "needed": 1,
    }


def test_what_is_not_known_is_left_out() -> None:
    assert problem(NotFoundError("there is no such order")).keys() == {
        "type",
        "title",
        "status",
        "detail",
        "code",
    }


def test_when_to_come_back_is_said() -> None:
    assert problem(UnavailableError("x"))["retry_after_s"] == 1
    assert problem(UnavailableError("x", retry_after_s=30))["retry_after_s"] == 30


def test_figures_never_replace_what_the_problem_says() -> None:
    """Goal: a peer's status or code does not become ours. Method: figures with those names."""
    error = PeerError("the peer refused", status=418, type="teapot", url="https://hub.example")
    document = problem(error)
    assert document["status"] == 502
    assert document["type"] == TYPE_BASE + "peer_error"
    assert document["url"] == "https://hub.example"


def test_a_problem_is_json_whatever_its_figures_are() -> None:
    error = InvalidInputError("x", path=ValueError("odd"), numbers=(1, 2), nothing=None)
    assert json.loads(encode(problem(error)))["path"] == "odd"
    assert json.loads(encode(problem(error)))["numbers"] == [1, 2]
