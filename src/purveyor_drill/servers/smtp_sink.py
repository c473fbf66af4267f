"""The mail sink's process: takes mails on a plain and a TLS port, and orders on a control port.

Run as ``python -m purveyor_drill.servers.smtp_sink CONFIG``, with a ``Config`` in JSON.
"""

import asyncio
import fnmatch
import os
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from purveyor_drill.servers.smtp_script import Clear, Config, Received, Request, Rule, Script, Step
from purveyor_drill.servers.smtp_session import Session

_LINE_LIMIT = 1024 * 1024


_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Sink:
    """The state that the connections share."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._rules: list[tuple[Rule, int | None]] = []
        self._counts: Counter[str] = Counter()
        self.require_auth = config.require_auth
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(config.certificate, config.private_key)

    def rule(self, step: Step, recipients: Sequence[str]) -> Rule:
        """See ``Mailroom``."""
        self._counts[step] += 1
        for index, (rule, left) in enumerate(self._rules):
            if rule.at != step or not _concerns(rule, recipients):
                continue
            if left == 1:
                del self._rules[index]
            elif left is not None:
                self._rules[index] = (rule, left - 1)
            return rule
        return Rule(at=step)

    def knows(self, user: str, password: str) -> bool:
        """See ``Mailroom``."""
        return (user, password) == (self._config.user, self._config.password)

    def keep(self, mail: Received) -> None:
        """See ``Mailroom``. In the kernel's hands afterwards: our own death loses nothing."""
        with Path(self._config.mails).open("ab") as file:
            file.write(msgspec.json.encode(mail) + b"\n")

    async def serve(self) -> None:
        """Listen until cancelled; the control port opens last, so that it means ready."""
        await self._listen(self._plain, self._config.port)
        await self._listen(self._implicit_tls, self._config.tls_port, tls=self.tls)
        control = await self._listen(self._control, self._config.control_port)
        await control.serve_forever()

    async def _listen(self, serve: _Serve, port: int, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", port, limit=_LINE_LIMIT, ssl=tls)

    async def _plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Session(self, reader, writer, tls=False).run()

    async def _implicit_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Session(self, reader, writer, tls=True).run()

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = msgspec.json.decode(await reader.readline(), type=Request)
        match request:
            case Script(rules):
                self._rules += [(rule, rule.times) for rule in rules]
            case Clear():
                self._rules.clear()
                self._counts.clear()
                os.truncate(self._config.mails, 0)
        writer.write(msgspec.json.encode(self._counts) + b"\n")
        await writer.drain()
        writer.close()


def _concerns(rule: Rule, recipients: Sequence[str]) -> bool:
    if rule.recipient is None:
        return True
    return any(fnmatch.fnmatchcase(recipient, rule.recipient) for recipient in recipients)


if __name__ == "__main__":
    asyncio.run(Sink(msgspec.json.decode(sys.argv[1], type=Config)).serve())
