"""The template and language files: the packaged ones, and an operator's overrides."""

import re
import string
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from purveyor.kit.errors import ConfigError
from purveyor.roles.email.language import FALLBACK, Language
from purveyor.roles.email.mail_models import CONTROLS, KINDS, NoticeMail, OrderMail

PACKAGED = Path(__file__).parent / "templates"
_LANGUAGE_FILE = re.compile(r"messages/([a-z]{2,3})\.toml")
_KEY = re.compile(r"\s*(?:\"([^\"]+)\"|'([^']+)'|([\w-]+))\s*=")

_Place = tuple[str, ...]
"""The path of an entry in a language file: the names of its tables and its own."""


def load_languages(overrides: Path | None = None) -> Mapping[str, Language]:
    """Load every language file by its ISO 639 code; files in ``overrides`` take precedence.

    Raises ``ConfigError`` with file and line for an invalid file.
    """
    found = dict(_packaged_languages())
    if overrides:
        paths = sorted((overrides / "messages").glob("[a-z]*.toml"))
        found |= {path.stem: _own(path) for path in paths}
    return found


def own_files(overrides: Path) -> list[str]:
    """List the files in an operator's folder by relative path, without hidden ones.

    Raises ``ConfigError`` for a missing folder and for a file that overrides nothing.
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
    return {path.stem: _read(msgspec.toml.decode(path.read_bytes()), path) for path in paths}


def _read(content: object, path: Path) -> Language:
    return msgspec.structs.replace(msgspec.convert(content, Language), code=path.stem)


def _own(path: Path) -> Language:
    """Load an operator's language file, which needs all entries of ours with the same placeholders."""
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
        return _read(content, path)
    except msgspec.ValidationError as error:
        raise ConfigError(f"MAIL_TEMPLATES: {name}: {error}.") from error


def _entries(table: Mapping[str, Any], place: _Place = ()) -> Iterator[tuple[_Place, Any]]:
    """Yield every entry of a language file that is not a table."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _entries(value, (*place, name))
        else:
            yield (*place, name), value


def _trouble(place: _Place, english: Mapping[_Place, Any], own: Mapping[_Place, Any]) -> str:
    if place not in own:
        return "it is missing"
    text = own[place]
    if place not in english:
        return "" if place[0].startswith("payment") and isinstance(text, str) else "there is no such entry"
    if not isinstance(english[place], str):
        return ""  # msgspec checks the types of other entries
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
    """Return the placeholders that a sentence may use even if the English one does not."""
    if place[0] != "mail":
        return set()
    return {"shop", "number"} if KINDS[place[1]] in (OrderMail, NoticeMail) else {"shop"}


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def _braced(names: set[str]) -> str:
    return " and ".join(f"{{{name}}}" for name in sorted(names))


def _written(place: _Place) -> str:
    tables = ".".join(f'"{name}"' if "." in name else name for name in place[:-1])
    return f"[{tables}] {place[-1]}" if tables else place[-1]


def _line(source: str, place: _Place) -> int:
    """Return the line of an entry, or of its table, or the last line, counted from 1."""
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
    """Parse a table header; return ``None`` for a line inside a value."""
    try:
        table = msgspec.toml.decode(line)
    except msgspec.DecodeError:
        return None
    place: list[str] = []
    while isinstance(table, dict) and table:
        (name, table), *_ = table.items()
        place.append(name)
    return tuple(place)
