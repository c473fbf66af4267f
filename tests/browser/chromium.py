"""Chromium without a window, steered over the DevTools protocol.

The protocol runs over two pipes (``--remote-debugging-pipe``): JSON messages, each ended by a NUL.
"""

import asyncio
import fcntl
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from waiting import PATIENCE_S

_ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-extensions", "--disable-default-apps", "--lang=en-GB"),
    *("--accept-lang=en-GB", "--password-store=basic", "--remote-debugging-pipe", "--disable-features=Translate"),
)
_FIRST_FREE = 100  # descriptors well above 3 and 4, which Chromium wants
_BECOME = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])"""
_LONGEST_MESSAGE = 64 * 1024 * 1024

Listener = Callable[[str, dict[str, Any]], None]


class Refused(Exception):
    """Chromium answered a command with an error."""


class Chromium:
    """A running browser; ``call`` sends commands to it, or with a session to one of its pages."""

    def __init__(self, reader: asyncio.StreamReader, write: Callable[[bytes], None]) -> None:
        self._reader = reader
        self._write = write
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: dict[str, Listener] = {}

    def listen(self, session: str, listener: Listener) -> None:
        """Tell ``listener`` the name and parameters of each event of a session."""
        self._listeners[session] = listener

    async def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result. Raises ``Refused``."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(PATIENCE_S):
            return await answer

    async def read(self) -> None:
        """Hand out what Chromium says, until it ends."""
        while True:
            try:
                text = await self._reader.readuntil(b"\0")
            except asyncio.IncompleteReadError:
                return
            message = json.loads(text[:-1])
            if "id" not in message:
                if listener := self._listeners.get(message.get("sessionId", "")):
                    listener(message["method"], message["params"])
                continue
            answer = self._waiting.pop(message["id"])
            if answer.done():
                continue
            if "error" in message:
                answer.set_exception(Refused(message["error"]["message"]))
            else:
                answer.set_result(message["result"])


def _pipe() -> tuple[int, int]:
    """The reading and the writing end, both with high numbers."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


@asynccontextmanager
async def open_chromium(path: str, folder: Path) -> AsyncIterator[Chromium]:
    """A browser with an empty profile in this folder; it ends, with all its processes, at the end."""
    theirs_in, ours_out = _pipe()
    ours_in, theirs_out = _pipe()
    log = (folder / "chromium.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _BECOME, str(theirs_in), str(theirs_out)),
        *(path, *_ARGUMENTS, f"--user-data-dir={folder / 'profile'}", "about:blank"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(theirs_in, theirs_out),
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    log.close()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LONGEST_MESSAGE)
    inlet, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours_in, "rb"))
    outlet, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(ours_out, "wb"))
    browser = Chromium(reader, outlet.write)
    reading = asyncio.ensure_future(browser.read())
    try:
        yield browser
    finally:
        reading.cancel()
        outlet.close()
        inlet.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
