"""Named points in the code at which a test can kill, hang, fail or delay the process.

``PURVEYOR_FAILPOINTS`` holds ``name=action`` pairs, separated by semicolons. An action is ``kill``, ``hang``,
``raise`` or ``delay:SECONDS``; ``@N`` limits it to the N-th hit, as in ``relay.locked=kill@2``. If the value is an
absolute path, the file is read at every point, so that a test can change it at run time by an atomic rename.
Without the variable, ``failpoint`` is an empty function. docs/crash-points.md lists all points.
"""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from purveyor.kit.errors import ConfigError

VARIABLE = "PURVEYOR_FAILPOINTS"
_ACTION = re.compile(
    r"(?P<name>[a-z._]+)=(?P<verb>kill|hang|raise|delay:(?P<seconds>[0-9]+([.][0-9]+)?))(@(?P<nth>[0-9]+))?"
)


class FailpointReached(Exception):
    """Raised by the action ``raise``."""


class _Action(msgspec.Struct, frozen=True):
    verb: str
    seconds: float
    nth: int


class Failpoints:
    """The active failpoints. Raises ``ConfigError`` for an invalid ``value``."""

    def __init__(self, value: str) -> None:
        self._file = Path(value) if value.startswith("/") else None
        self._text = ""
        self._set: dict[str, _Action] = {}
        self._hits: Counter[str] = Counter()
        self._read(value if self._file is None else self._content(self._file))

    def hit(self, name: str) -> None:
        if self._file is not None:
            self._read(self._content(self._file))
        action = self._set.get(name)
        if action is None:
            return
        self._hits[name] += 1
        if action.nth not in (0, self._hits[name]):
            return
        match action.verb:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise FailpointReached(name)
            case "hang":
                signal.pause()
            case _:
                time.sleep(action.seconds)

    @staticmethod
    def _content(file: Path) -> str:
        return file.read_text() if file.exists() else ""

    def _read(self, text: str) -> None:
        if text != self._text:
            self._set = _parse(text)
            self._text = text
            self._hits.clear()


def refuse() -> None:
    """Raise ``ConfigError`` if failpoints are enabled. For production."""
    if os.environ.get(VARIABLE):
        raise ConfigError(f"{VARIABLE} is set. Failpoints are not allowed in production.")


def _parse(value: str) -> dict[str, _Action]:
    found = {}
    for part in filter(None, (part.strip() for part in value.split(";"))):
        match = _ACTION.fullmatch(part)
        if match is None:
            raise ConfigError(
                f"{VARIABLE}: {part!r} is not valid. Expected name=kill|hang|raise|delay:SECONDS, optionally with "
                "@N."
            )
        found[match["name"]] = _Action(
            match["verb"].partition(":")[0], float(match["seconds"] or 0), int(match["nth"] or 0)
        )
    return found


def _disabled(_name: str) -> None: ...


failpoint: Callable[[str], None] = Failpoints(os.environ[VARIABLE]).hit if os.environ.get(VARIABLE) else _disabled
"""Pass a point. ``hang`` and ``delay`` block the whole process, like SIGSTOP."""
