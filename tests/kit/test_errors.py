"""Every problem type has a code of its own, a sensible status and a page text; and is built from one sentence."""

import http
import importlib
import pkgutil
import re
import subprocess
import sys

import pytest

from purveyor import roles
from purveyor.kit.errors import (
    Faults,
    FieldError,
    InvalidInput,
    Problem,
    Unauthorized,
    Unavailable,
    problem_for,
    problem_types,
)

for module in pkgutil.walk_packages(roles.__path__, "purveyor.roles."):
    importlib.import_module(module.name)

KINDS = [kind for kind in problem_types() if kind.__module__.startswith("purveyor.")]
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)


def test_the_errors_of_the_roles_are_among_them() -> None:
    assert len(KINDS) > 14
    assert {kind.__module__.split(".")[1] for kind in KINDS} == {"kit", "roles"}


def test_a_process_knows_those_of_every_role_whatever_it_runs() -> None:
    """It may be asked for the page of any, and another process may answer with any."""
    script = "import purveyor.registry; from purveyor.kit.errors import problem_types as all; "
    script += "print(*(kind.code for kind in all()))"
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    assert set(said.split()) == {kind.code for kind in KINDS}


def test_no_two_share_a_code() -> None:
    codes = [kind.code for kind in KINDS]

    assert sorted(codes) == sorted(set(codes))


@each
def test_the_code_is_a_slug_and_finds_its_class(kind: type[Problem]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
    assert problem_for(kind.code) is kind


def test_an_unknown_code_has_no_class() -> None:
    assert problem_for("") is None
    assert problem_for("no-such-code") is None


@each
def test_the_status_is_an_error_that_http_knows(kind: type[Problem]) -> None:
    assert 400 <= kind.status < 600
    assert http.HTTPStatus(kind.status)


@each
def test_a_kind_of_an_error_keeps_its_status(kind: type[Problem]) -> None:
    """Who catches the base class by its status must not be surprised by a subclass."""
    bases = [base for base in kind.__bases__ if issubclass(base, Problem) and base is not Problem]

    assert {base.status for base in bases} <= {kind.status}


@each
def test_it_has_a_page_text_and_a_title_for_the_client(kind: type[Problem]) -> None:
    assert len(kind.about()) > 20
    assert kind.about().endswith(".")
    assert kind.about() not in [other.about() for other in KINDS if other is not kind], "inherited, not its own"
    assert kind.title
    assert not kind.title.endswith(".")


@each
def test_it_can_be_carried_as_one_sentence(kind: type[Problem]) -> None:
    """An asker makes it again from its code and detail alone."""
    carried = kind("Because.")

    assert carried.detail == str(carried) == "Because."
    assert kind("").detail == kind.title
    assert carried.errors == kind.default_errors


@each
def test_what_is_given_with_it_is_kept(kind: type[Problem]) -> None:
    """It is what the other role sent along, in another process."""
    wrong = FieldError("/a", "is wrong")
    carried = kind("Because.", errors=[wrong], headers={"Retry-After": "7"})

    assert carried.errors == (wrong,)
    assert carried.headers == {**kind().headers, "Retry-After": "7"}


def test_the_headers_that_go_with_an_error() -> None:
    assert Unauthorized().headers == {"WWW-Authenticate": "Bearer"}
    assert Unavailable(retry_after_s=7).headers == {"Retry-After": "7"}


@each
def test_401_and_503_always_say_what_a_client_needs(kind: type[Problem]) -> None:
    needed = {401: "WWW-Authenticate", 503: "Retry-After"}.get(kind.status)

    assert needed is None or needed in kind("Because.").headers


def test_two_errors_share_no_headers() -> None:
    first = Unauthorized()
    first.headers["X-Own"] = "1"

    assert "X-Own" not in Unauthorized().headers


def test_faults_of_several_checks_are_raised_together() -> None:
    faults = Faults()
    for pointer in ("/name", "/phone"):
        with faults:
            raise InvalidInput(errors=[FieldError(pointer, "is wrong")])
    with faults:
        pass

    with pytest.raises(InvalidInput) as refusal:
        faults.raise_if_any()
    assert [fault.pointer for fault in refusal.value.errors] == ["/name", "/phone"]


def test_no_fault_raises_nothing_and_other_errors_pass() -> None:
    faults = Faults()
    with pytest.raises(KeyError), faults:
        raise KeyError("other")
    faults.raise_if_any()
