"""The files that mails are made of: the packaged ones, and an operator's own in their place."""

import re
import string
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from purveyor.kit.errors import ConfigError
from purveyor.roles.email.language import FALLBACK, Language
from purveyor.roles.email.mail_models import CONTROLS, KINDS, OrderMail

PACKAGED = Path(__file__).parent / "templates"
_LANGUAGE_FILE = re.compile(r"messages/([a-z]{2,3})\.toml")
_KEY = re.compile(r"\s*(?:\"([^\"]+)\"|'([^']+)'|([\w-]+))\s*=")

_Place = tuple[str, ...]
"""Where a text stands in a language file: the names of the tables, and of the entry."""


def load_languages(overrides: Path | None = None) -> Mapping[str, Language]:
    """Every language that there is a file for, by its code (ISO 639); a file in ``overrides`` goes first.

    Raises ``ConfigError`` with the file's name and, where there is one, the line of what cannot be used.
    """
    found = dict(_packaged_languages())
    if overrides:
        paths = sorted((overrides / "messages").glob("[a-z]*.toml"))
        found |= {path.stem: _own(path) for path in paths}
    return found


def own_files(overrides: Path) -> list[str]:
    """The names of the files in an operator's folder, relative to it; hidden ones do not count.

    Raises ``ConfigError`` when there is no such folder, and for a file that takes the place of none.
    """
    if not overrides.is_dir():
        raise ConfigError(f"MAIL_TEMPLATES={overrides}: there is no such folder.")
    paths = sorted(path.relative_to(overrides) for path in overrides.rglob("*") if path.is_file())
    names = [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]
    known = sorted(path.name for path in PACKAGED.iterdir() if path.is_file())
    for name in names:
        if name not in known and not _LANGUAGE_FILE.fullmatch(name):
            raise ConfigError(
                f"MAIL_TEMPLATES: {name}: not a template. Allowed are {', '.join(known)} and messages/xx.toml "
                "for the language with the code xx."
            )
    return names


@cache
def _packaged_languages() -> Mapping[str, Language]:
    paths = sorted((PACKAGED / "messages").glob("*.toml"))
    return {path.stem: msgspec.toml.decode(path.read_bytes(), type=Language) for path in paths}


def _own(path: Path) -> Language:
    """An operator's language file, which has to say everything that ours say, with the same placeholders."""
    name = f"messages/{path.name}"
    try:
        source = path.read_text(encoding="utf-8")
        content = msgspec.toml.decode(source)
    except (OSError, ValueError) as error:
        raise ConfigError(f"MAIL_TEMPLATES: {name}: {error}.") from error
    english = dict(_entries(msgspec.toml.decode((PACKAGED / "messages" / f"{FALLBACK}.toml").read_bytes())))
    own = dict(_entries(content))
    for place in [*english, *own]:
        if trouble := _trouble(place, english, own):
            where = _line(source, place)
            raise ConfigError(f"MAIL_TEMPLATES: {name}, line {where}: {_written(place)}: {trouble}.")
    try:
        return msgspec.convert(content, Language)
    except msgspec.ValidationError as error:
        raise ConfigError(f"MAIL_TEMPLATES: {name}: {error}.") from error


def _entries(table: Mapping[str, Any], place: _Place = ()) -> Iterator[tuple[_Place, Any]]:
    """Every entry of a language file that is no table."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _entries(value, (*place, name))
        else:
            yield (*place, name), value


def _trouble(place: _Place, english: Mapping[_Place, Any], own: Mapping[_Place, Any]) -> str:
    """What is wrong with one entry; nothing: it is in order."""
    if place not in own:
        return "it is missing"
    text = own[place]
    if place not in english:
        return "" if place[0] == "payment" and isinstance(text, str) else "there is no such entry"
    if not isinstance(english[place], str):
        return ""  # what is no text has a type, which is checked with all others
    return _trouble_in(text, place, english[place]) if isinstance(text, str) else "it must be a string"


def _trouble_in(text: str, place: _Place, english: str) -> str:
    needed = _placeholders(english)
    try:
        used = _placeholders(text)
    except ValueError as error:
        return f"{error}; write literal braces as {{{{ and }}}}"
    if missing := needed - used:
        return f"{_braced(missing)} is missing"
    if unknown := used - needed - _also(place):
        return f"there is no {_braced(unknown)} here"
    if place[-1] == "subject" and (CONTROLS.search(text) or "=?" in text):
        return "a subject is one line of plain text"
    return ""


def _also(place: _Place) -> set[str]:
    """What a sentence may name although the English one does not."""
    if place[0] != "mail":
        return set()
    return {"shop", "number"} if KINDS[place[1]] is OrderMail else {"shop"}


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def _braced(names: set[str]) -> str:
    return " and ".join(f"{{{name}}}" for name in sorted(names))


def _written(place: _Place) -> str:
    """A place as one would write it in TOML."""
    tables = ".".join(f'"{name}"' if "." in name else name for name in place[:-1])
    return f"[{tables}] {place[-1]}" if tables else place[-1]


def _line(source: str, place: _Place) -> int:
    """The line where an entry stands, or else its table, or else the last one; counted from 1."""
    table: _Place = ()
    found = 0
    lines = source.splitlines()
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("["):
            table = _header(line) or table
            if table == place[:-1]:
                found = number
        elif (
            table == place[:-1] and (match := _KEY.match(line)) and (match[1] or match[2] or match[3]) == place[-1]
        ):
            return number
    return found or len(lines)


def _header(line: str) -> _Place | None:
    """The place of a table by its header; ``None`` for a line within a value."""
    try:
        table = msgspec.toml.decode(line)
    except msgspec.DecodeError:
        return None
    place: list[str] = []
    while isinstance(table, dict) and table:
        (name, table), *_ = table.items()
        place.append(name)
    return tuple(place)
