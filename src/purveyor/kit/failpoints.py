"""Named points in the code at which a test makes the process die, hang, fail or dawdle.

``PURVEYOR_FAILPOINTS`` holds ``name=action`` pairs, separated by semicolons; an action is ``kill``, ``hang``,
``raise`` or ``delay:SECONDS``, and ``@N`` after it means the N-th time only: ``relay.locked=kill@2``. A value
that is the absolute path of a file is read again at every point, so that points can be set while the process
runs; whoever writes it renames a new file into its place. Without the variable a point costs nothing:
``failpoint`` is then an empty function. The table of all points is docs/crash-points.md.
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
    """What the action ``raise`` raises."""


class _Action(msgspec.Struct, frozen=True):
    verb: str
    seconds: float
    nth: int


class Failpoints:
    """The points that are set. ``value`` as in the variable. Raises ``ConfigError`` for what it cannot read."""

    def __init__(self, value: str) -> None:
        self._file = Path(value) if value.startswith("/") else None
        self._text = ""
        self._set: dict[str, _Action] = {}
        self._hits: Counter[str] = Counter()
        self._read(value if self._file is None else self._content(self._file))

    def hit(self, name: str) -> None:
        """Do what is set for the point, if anything is."""
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
        """Set what the text says; when it is another one than before, counting begins anew."""
        if text != self._text:
            self._set = _parsed(text)
            self._text = text
            self._hits.clear()


def refuse() -> None:
    """Raise ``ConfigError`` when any point could be set: production is no place for them."""
    if os.environ.get(VARIABLE):
        raise ConfigError(f"{VARIABLE} is set. Failpoints are not allowed in production.")


def _parsed(value: str) -> dict[str, _Action]:
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


def _nothing(_name: str) -> None:
    """No point is set."""


failpoint: Callable[[str], None] = Failpoints(os.environ[VARIABLE]).hit if os.environ.get(VARIABLE) else _nothing
"""Pass a point. Blocks the whole process while it hangs or dawdles, as a stopped process would."""
