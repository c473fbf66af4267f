"""One SMTP connection to the mail sink (RFC 5321), with the faults that its script asks for."""

import asyncio
import base64
import binascii
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from purveyor_drill.servers.smtp_script import Received, Rule, Step

_SIZE_LIMIT = 32 * 1024 * 1024
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


class Mailroom(Protocol):
    """What a connection needs of the sink."""

    tls: ssl.SSLContext
    require_auth: bool

    def rule(self, step: Step, recipients: Sequence[str]) -> Rule:
        """Count the step, and say what to do at it."""
        ...

    def knows(self, user: str, password: str) -> bool:
        """Whether these are the credentials."""
        ...

    def keep(self, mail: Received) -> None:
        """Store a mail for good."""
        ...


class _Over(Exception):
    """The conversation has ended."""


class Session:
    """Serves one client; ``tls``: the connection began with TLS."""

    def __init__(
        self, room: Mailroom, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tls: bool
    ) -> None:
        self._room = room
        self._reader = reader
        self._writer = writer
        self._tls = tls
        self._user: str | None = None
        self._helo = ""
        self._sender: str | None = None
        self._recipients: list[str] = []

    async def run(self) -> None:
        """Talk until either side ends it."""
        try:
            await self._answer("connect", "220 sink.test ESMTP")
            while line := await self._reader.readline():
                await self._command(line.decode("utf-8", "replace").strip())
        except (_Over, ConnectionError, ssl.SSLError, ValueError):
            return  # by the script, by the client, or a line beyond the limit
        finally:
            self._writer.close()

    async def _command(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        verbs: dict[str, Callable[[str], Awaitable[None]]] = {
            "EHLO": self._ehlo,
            "HELO": self._ehlo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }
        handler = verbs.get(verb.upper())
        if handler is None:
            await self._send("502 5.5.1 command not implemented")
        else:
            await handler(rest)

    async def _ehlo(self, name: str) -> None:
        self._forget_mail()
        offers = ["sink.test", f"SIZE {_SIZE_LIMIT}", "8BITMIME", "SMTPUTF8", "AUTH PLAIN LOGIN"]
        if not self._tls:
            offers.append("STARTTLS")
        lines = [f"250-{offer}" for offer in offers[:-1]] + [f"250 {offers[-1]}"]
        if _is_positive(await self._answer("ehlo", "\r\n".join(lines))):
            self._helo = name

    async def _starttls(self, _: str) -> None:
        if self._tls:
            await self._send("503 5.5.1 already over TLS")
        elif _is_positive(await self._answer("starttls", "220 2.0.0 go ahead")):
            await self._writer.start_tls(self._room.tls)
            self._tls, self._helo, self._user = True, "", None  # RFC 3207 section 4.2: forget what was said

    async def _auth(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        try:
            if mechanism.upper() == "PLAIN":
                _, user, password = (await self._word(initial, "")).split("\0")
            elif mechanism.upper() == "LOGIN":
                user = await self._word(initial, "Username:")
                password = await self._word("", "Password:")
            else:
                await self._send("504 5.5.4 unknown mechanism")
                return
        except (binascii.Error, ValueError):
            await self._send("501 5.5.2 cannot decode")
            return
        known = self._room.knows(user, password)
        usual = "235 2.7.0 welcome" if known else "535 5.7.8 credentials invalid"
        if _is_positive(await self._answer("auth", usual)):
            self._user = user

    async def _word(self, given: str, prompt: str) -> str:
        """A word in base64: given with the command, or asked for."""
        if not given:
            await self._send(f"334 {base64.b64encode(prompt.encode()).decode()}")
            given = (await self._reader.readline()).decode().strip()
        return base64.b64decode(given, validate=True).decode()

    async def _mail(self, rest: str) -> None:
        if not self._helo or self._sender is not None:
            await self._send("503 5.5.1 bad sequence")
        elif self._room.require_auth and self._user is None:
            await self._send("530 5.7.0 authentication required")
        elif _is_positive(await self._answer("mail", "250 2.1.0 sender ok")):
            self._sender = _path(rest)

    async def _rcpt(self, rest: str) -> None:
        recipient = _path(rest)
        if self._sender is None:
            await self._send("503 5.5.1 MAIL first")
        elif _is_positive(await self._answer("rcpt", "250 2.1.5 recipient ok", [recipient])):
            self._recipients.append(recipient)

    async def _data(self, _: str) -> None:
        if not self._recipients:
            await self._send("503 5.5.1 RCPT first")
        elif _is_positive(await self._answer("data", "354 end with a dot", self._recipients)):
            await self._content()

    async def _content(self) -> None:
        lines = []
        while (line := await self._reader.readline()) != b".\r\n":
            if not line:
                raise _Over  # the client went away before the dot: no mail
            lines.append(line[1:] if line.startswith(b".") else line)
        mail = Received(
            sender=self._sender or "",
            recipients=tuple(self._recipients),
            content=b"".join(lines),
            helo=self._helo,
            user=self._user,
            tls=self._tls,
            received_at=time.time(),
        )
        rule = self._room.rule("dot", self._recipients)
        usual = "250 2.0.0 received"
        answer = rule.answer(usual)
        if answer is None or _is_positive(answer):
            self._room.keep(mail)
        self._forget_mail()
        await self._play(rule, usual)

    async def _rset(self, _: str) -> None:
        self._forget_mail()
        await self._answer("rset", "250 2.0.0 forgotten")

    async def _noop(self, _: str) -> None:
        await self._answer("noop", "250 2.0.0 here")

    async def _quit(self, _: str) -> None:
        await self._answer("quit", "221 2.0.0 bye")
        raise _Over

    def _forget_mail(self) -> None:
        self._sender = None
        self._recipients = []

    async def _answer(self, step: Step, usual: str, recipients: Sequence[str] = ()) -> str:
        """Answer as the script says; returns what was answered, and ends the session if it says so."""
        rule = self._room.rule(step, recipients)
        await self._play(rule, usual)
        return rule.answer(usual) or ""

    async def _play(self, rule: Rule, usual: str) -> None:
        await asyncio.sleep(rule.delay_s)
        answer = rule.answer(usual)
        if answer is not None:
            await self._send(answer, rule.cut)
        if rule.end == "hang":
            while await self._reader.read(65_536):
                pass
        if rule.end == "reset":
            connection = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            self._writer.transport.abort()
        if rule.end != "stay":
            raise _Over

    async def _send(self, answer: str, cut: int | None = None) -> None:
        self._writer.write(f"{answer}\r\n".encode()[:cut])
        await self._writer.drain()


def _is_positive(answer: str) -> bool:
    return answer[:1] in {"2", "3"}


def _path(rest: str) -> str:
    """The address in ``FROM:<a@b> SIZE=1`` or ``TO:<a@b>``."""
    return rest.partition("<")[2].partition(">")[0]
