"""Validation errors of a request body: all at once, in plain words, each with a JSON Pointer (RFC 6901).

msgspec stops at the first fault. This walk runs only after it has refused a body, so a good request pays nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from itertools import chain, islice
from types import NoneType
from typing import Any
from uuid import UUID

import msgspec
from msgspec import inspect

from purveyor.kit.errors import FieldError, InvalidInput
from purveyor.kit.json_input import repeated_members

MOST = 50
"""More faults than this are not reported: a body may hold thousands."""

REPEATED = "must not be sent more than once"
_LONGEST_NAME = 40
_NATIVE: dict[type[inspect.Type], tuple[type, str]] = {
    inspect.UUIDType: (UUID, "a UUID"),
    inspect.DateTimeType: (datetime, "a time such as 2026-01-31T12:00:00Z (RFC 3339)"),
    inspect.BoolType: (bool, "true or false"),
    inspect.NoneType: (NoneType, "null"),
    inspect.DateType: (date, "a date such as 2026-01-31"),
}
_WORDS = {"int": "a whole number", "float": "a number", "decimal": "a number", "str": "a string"}
_WORDS |= {"bool": "true or false", "array": "an array", "object": "an object", "uuid": "a UUID", "null": "null"}
_BOUNDS = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than", "==": "exactly"}
_PLACE = re.compile(r" - at `.*`\Z", re.DOTALL)
_OF_LENGTH = re.compile(r"Expected `\w+` of length (>=|<=|==) (\d+)")
_BOUNDED = re.compile(r"Expected `\w+` (>=|<=|>|<) (\S+)")
_KIND = re.compile(r"Expected `([^`]+)`(?:, got .*)?", re.DOTALL)


def find_faults(value: Any, target: Any) -> list[FieldError]:
    """All faults of a decoded JSON value against the type that a handler wants; none if it fits.

    A struct may name domain checks of its text members: ``checks: ClassVar = {"email": normal_email}``. Each is
    called with the text and its pointer, and raises ``InvalidInput``.
    """
    faults = []
    for fault in _walk(value, _type_info(target), ""):
        faults.append(fault)
        if len(faults) == MOST:
            break
    return faults


def find_nul(value: Any) -> list[FieldError]:
    """A fault for each text of a decoded JSON value that contains U+0000, which PostgreSQL cannot store."""
    faults: list[FieldError] = []
    waiting = [("", value)]
    while waiting and len(faults) < MOST:
        pointer, each = waiting.pop()
        if isinstance(each, str):
            if "\x00" in each:
                faults.append(FieldError(pointer, "must not contain the character U+0000"))
        elif isinstance(each, dict):
            waiting += ((f"{pointer}/{_escaped(name)}", member) for name, member in each.items())
            waiting += ((f"{pointer}/{_escaped(name)}", name) for name in each)
        elif isinstance(each, list):
            waiting += ((f"{pointer}/{position}", item) for position, item in enumerate(each))
    return faults


def find_repeated(body: bytes) -> list[FieldError]:
    """A fault for each member that an object of a JSON body holds more than once."""
    return [
        FieldError("".join(f"/{_escaped(str(step))}" for step in path), REPEATED)
        for path in islice(repeated_members(body), MOST)
    ]


def merged(*groups: Iterable[FieldError]) -> list[FieldError]:
    """The faults of several checks, the first one at each pointer."""
    faults: dict[str, FieldError] = {}
    for fault in chain.from_iterable(groups):
        faults.setdefault(fault.pointer, fault)
    return list(faults.values())[:MOST]


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` if an unknown name resembles a known one, else empty."""
    close = get_close_matches(name, known, 1) if len(name) <= _LONGEST_NAME else []
    return f"; did you mean {close[0]}?" if close else ""


def in_plain_words(message: str) -> str:
    """One of msgspec's messages, such as "Expected `int`, got `str`", as "must be a whole number"."""
    message = _PLACE.sub("", message)
    if found := _OF_LENGTH.match(message):
        return f"must have a length of {_BOUNDS[found[1]]} {found[2]}"
    if found := _BOUNDED.match(message):
        return f"must be {_BOUNDS[found[1]]} {found[2]}"
    if found := _KIND.match(message):
        return "must be " + " or ".join(_WORDS.get(name.strip(), name.strip()) for name in found[1].split("|"))
    if message.startswith("Invalid enum value"):
        return f"is not an allowed value:{message.removeprefix('Invalid enum value')}".replace("`", "")
    return message.replace("`", "'")


@cache
def _type_info(target: Any) -> inspect.Type:
    return inspect.type_info(target)


def _walk(value: Any, kind: inspect.Type, pointer: str) -> Iterator[FieldError]:
    match kind:
        case inspect.Metadata():
            yield from _walk(value, kind.type, pointer)
        case inspect.StructType():
            yield from _struct(value, kind, pointer)
        case inspect.UnionType():
            yield from _union(value, kind, pointer)
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            yield from _array(value, kind, pointer)
        case inspect.DictType():
            yield from _mapping(value, kind, pointer)
        case _:
            if problem := _leaf(value, kind):
                yield FieldError(pointer, problem)


def _struct(value: Any, kind: inspect.StructType, pointer: str) -> Iterator[FieldError]:
    if not isinstance(value, dict):
        yield FieldError(pointer, "must be an object")
        return
    found, checks = False, getattr(kind.cls, "checks", {})
    fields = {field.encode_name: field for field in kind.fields}
    for name, field in fields.items():
        if name in value:
            place = f"{pointer}/{_escaped(name)}"
            faults = list(_walk(value[name], field.type, place)) or _checked(value[name], checks.get(name), place)
            found = found or bool(faults)
            yield from faults
        elif field.required:
            found = True
            yield FieldError(f"{pointer}/{_escaped(name)}", "is missing")
    if kind.forbid_unknown_fields:
        for name in value.keys() - fields.keys():
            found = True
            problem = f"is not a known member{suggestion(name, fields)}"
            yield FieldError(f"{pointer}/{_escaped(name)}", problem)
    if not found:
        yield from _whole(value, kind.cls, pointer)


def _checked(value: Any, check: Callable[[str, str], object] | None, pointer: str) -> Sequence[FieldError]:
    """Errors that a domain check finds in a well-formed text."""
    if check is None or not isinstance(value, str):
        return ()
    try:
        check(value, pointer)
    except InvalidInput as error:
        return error.errors
    return ()


def _whole(value: Any, kind: Any, pointer: str) -> Iterator[FieldError]:
    """Errors of the struct's own check, which runs once every member is valid."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield FieldError(pointer, in_plain_words(str(error)))


def _union(value: Any, kind: inspect.UnionType, pointer: str) -> Iterator[FieldError]:
    if value is None and kind.includes_none:
        return
    options = [option for option in kind.types if not isinstance(option, inspect.NoneType)]
    results = [list(_walk(value, option, pointer)) for option in options]
    if not all(results):
        return
    # The option that the value was meant for: the one whose faults lie deepest.
    deepest = max(results, key=lambda faults: max(len(fault.pointer) for fault in faults))
    if len(options) == 1 or any(fault.pointer != pointer for fault in deepest):
        yield from deepest
    else:
        wanted = " or ".join(
            dict.fromkeys(fault.detail.removeprefix("must be ") for fault in chain.from_iterable(results))
        )
        yield FieldError(pointer, f"must be {wanted}")


def _array(value: Any, kind: Any, pointer: str) -> Iterator[FieldError]:
    if not isinstance(value, list):
        yield FieldError(pointer, "must be an array")
        return
    if problem := _length(len(value), kind, "items", "item"):
        yield FieldError(pointer, problem)
    for position, item in enumerate(value):
        yield from _walk(item, kind.item_type, f"{pointer}/{position}")


def _mapping(value: Any, kind: inspect.DictType, pointer: str) -> Iterator[FieldError]:
    if not isinstance(value, dict):
        yield FieldError(pointer, "must be an object")
        return
    if problem := _length(len(value), kind, "members", "member"):
        yield FieldError(pointer, problem)
    for name, item in value.items():
        yield from _walk(item, kind.value_type, f"{pointer}/{_escaped(name)}")


def _leaf(value: Any, kind: inspect.Type) -> str:
    """The error of a scalar value. Empty if there is none, or if only msgspec can tell."""
    match kind:
        case inspect.StrType():
            return _text(value, kind)
        case inspect.IntType() | inspect.FloatType() | inspect.DecimalType():
            return _number(value, kind)
        case inspect.LiteralType():
            return _choice(value, kind.values)
        case inspect.EnumType():
            return _choice(value, [member.value for member in kind.cls])
        case _ if type(kind) in _NATIVE:
            native, wanted = _NATIVE[type(kind)]
            return _unless_converted(value, native, wanted)
    return ""


def _unless_converted(value: Any, native: type, wanted: str) -> str:
    try:
        msgspec.convert(value, native)
    except msgspec.ValidationError:
        return f"must be {wanted}"
    return ""


def _text(value: Any, kind: inspect.StrType) -> str:
    if not isinstance(value, str):
        return "must be a string"
    if problem := _length(len(value), kind, "characters", "character"):
        return problem
    if kind.pattern is not None and not re.search(kind.pattern, value):
        return f"must match {kind.pattern}"
    return ""


def _number(value: Any, kind: Any) -> str:
    if isinstance(kind, inspect.DecimalType) and isinstance(value, str):
        return _unless_converted(value, Decimal, "a number")
    whole = isinstance(kind, inspect.IntType)
    name = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return f"must be {name}"
    beyond = (
        (kind.ge is not None and value < kind.ge)
        or (kind.gt is not None and value <= kind.gt)
        or (kind.le is not None and value > kind.le)
        or (kind.lt is not None and value >= kind.lt)
    )
    if not beyond:
        return ""
    if kind.ge is not None and kind.le is not None:
        return f"must be {name} from {kind.ge} to {kind.le}"
    bounds = {"at least": kind.ge, "more than": kind.gt, "at most": kind.le, "less than": kind.lt}
    return "must be " + " and ".join(f"{words} {bound}" for words, bound in bounds.items() if bound is not None)


def _length(length: int, kind: Any, many: str, one: str) -> str:
    least, most = kind.min_length, kind.max_length
    if (least is None or length >= least) and (most is None or length <= most):
        return ""
    if least is not None and least == most:
        return f"must have exactly {least} {one if least == 1 else many}"
    if least == 1 and length == 0:
        return "must not be empty"
    if least is not None and most is not None:
        return f"must have {least} to {most} {many}"
    return f"must have at least {least} {many}" if most is None else f"must have at most {most} {many}"


def _choice(value: Any, choices: Iterable[Any]) -> str:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return ""
    return f"must be one of {', '.join(map(str, choices))}"


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
