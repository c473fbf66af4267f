"""The SMTP mailer against a server that misbehaves at every step: what is certain, and what is doubtful."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from purveyor.kit.errors import ConfigError
from purveyor.roles.email.mailer import _AUTH_PAUSE, SmtpMailer, smtp_target
from purveyor.roles.email.ports import Claim, ClaimLost, Doubtful, NotNow, Refused
from purveyor_drill.servers.smtp import Rule, SmtpSink, Step
from waiting import PATIENCE_S, until

SENDER = "Purveyor <orders@shop.test>"
SHORT = {"connect_s": 0.3, "command_s": 0.3, "dot_s": 0.3}
BODY = b"Message-ID: <1@shop.test>\r\nSubject: =?utf-8?b?w6Q=?=\r\n\r\n.dot\r\n..dots\r\n.\r\nend\r\n"

BEFORE_THE_DOT: list[Step] = ["connect", "ehlo", "mail", "rcpt", "data"]

Make = Callable[..., SmtpMailer]


@pytest.fixture(scope="module")
def running() -> Iterator[SmtpSink]:
    sink = SmtpSink()
    if not sink.ours:
        pytest.skip(f"{sink.variable} is set: it takes no script")
    if reason := sink.available():
        pytest.skip(reason)
    with sink:
        yield sink


@pytest.fixture
def sink(running: SmtpSink) -> SmtpSink:
    running.clear()
    return running


@pytest.fixture
async def make(sink: SmtpSink) -> AsyncIterator[Make]:
    """Make a mailer for the sink's plain port, or for another URL; closed at the end."""
    made: list[SmtpMailer] = []

    def build(url: str = "", **options: Any) -> SmtpMailer:
        target = smtp_target(url or f"smtp://127.0.0.1:{sink.port}", "", "")
        made.append(SmtpMailer(target, SENDER, **options))
        return made[-1]

    yield build
    for mailer in made:
        mailer.close()


def claim(recipient: str = "ann@b.test", message: bytes = BODY) -> Claim:
    return Claim(
        event_id="01936c5e-0000-7000-8000-000000000001",
        kind="order.created",
        recipient=recipient,
        message_id="<1@shop.test>",
        message=message,
        owner="1",
        attempt=1,
        created_at=datetime.now(UTC),
    )


class Dot:
    """Counts how often the point of no return was announced; raises what it is given."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.times = 0
        self._error = error

    async def __call__(self) -> None:
        self.times += 1
        if self._error is not None:
            raise self._error


async def send(mailer: SmtpMailer, dot: Callable[[], Awaitable[None]] | None = None) -> str:
    return await mailer.send(claim(), dot or Dot())


async def test_a_mail_arrives_byte_for_byte_with_its_envelope(sink: SmtpSink, make: Make) -> None:
    dot = Dot()
    assert await make().send(claim("ann@bücher.de"), dot) == "250 2.0.0 received"
    (mail,) = sink.messages()
    assert mail.content == BODY
    assert (mail.sender, mail.recipients) == ("orders@shop.test", ("ann@xn--bcher-kva.de",))
    assert "." in mail.helo
    assert dot.times == 1


async def test_bare_line_ends_cannot_smuggle_a_second_mail(sink: SmtpSink, make: Make) -> None:
    await make().send(claim(message=b"Subject: a\n\nb\n.\nMAIL FROM:<x@y.test>\r.\rend"), Dot())
    assert [mail.content for mail in sink.messages()] == [
        b"Subject: a\r\n\r\nb\r\n.\r\nMAIL FROM:<x@y.test>\r\n.\r\nend\r\n"
    ]


async def test_connections_are_kept_and_no_more_are_opened_than_mails_under_way(
    sink: SmtpSink, make: Make
) -> None:
    mailer = make()
    for _ in range(5):
        await asyncio.gather(*(send(mailer) for _ in range(4)))
    assert len(sink.messages()) == 20
    assert sink.steps()["connect"] == 4


async def test_mails_beyond_the_connections_wait_for_one(sink: SmtpSink, make: Make) -> None:
    mailer = make(connections=3)
    assert mailer.slots > 3
    await asyncio.gather(*(send(mailer) for _ in range(mailer.slots)))
    assert (len(sink.messages()), sink.steps()["connect"]) == (mailer.slots, 3)


async def test_a_connection_takes_a_hundred_mails(sink: SmtpSink, make: Make) -> None:
    mailer = make()
    for _ in range(101):
        await send(mailer)
    assert (sink.steps()["connect"], sink.steps()["quit"]) == (2, 1)


async def test_idle_connections_are_ended_politely(sink: SmtpSink, make: Make) -> None:
    mailer = make(idle_s=0.1)
    await send(mailer)
    await _until(lambda: sink.steps()["quit"] == 1)
    await send(mailer)
    assert sink.steps()["connect"] == 2


async def test_close_ends_what_is_idle_and_keeps_nothing_afterwards(sink: SmtpSink, make: Make) -> None:
    mailer = make()
    await send(mailer)
    mailer.close()
    await send(mailer)
    await _until(lambda: sink.steps()["quit"] == 2)


@pytest.mark.parametrize(
    "ending",
    [
        Rule(at="dot", reply="250 2.0.0 taken", end="close"),
        Rule(at="dot", reply="250 2.0.0 taken", end="reset"),
        Rule(at="mail", reply="421 4.7.0 too many mails"),
    ],
    ids=["closed", "reset", "421"],
)
async def test_a_kept_connection_that_has_ended_is_replaced(sink: SmtpSink, make: Make, ending: Rule) -> None:
    mailer = make()
    if ending.at == "mail":
        await send(mailer)
        sink.script(ending)
    else:
        sink.script(ending)
        await send(mailer)
    dot = Dot()
    assert await send(mailer, dot) == "250 2.0.0 received"
    assert (sink.steps()["connect"], len(sink.messages()), dot.times) == (2, 2, 1)


async def test_a_server_that_restarts_is_found_again(make: Make) -> None:
    with SmtpSink() as own:
        mailer = make(f"smtp://127.0.0.1:{own.port}")
        await send(mailer)
        own.kill()
        with pytest.raises(NotNow, match="connecting"):
            await send(mailer)
        own.restart()
        await send(mailer)
        assert len(own.messages()) == 2


@pytest.mark.parametrize("step", [*BEFORE_THE_DOT, "dot"])
@pytest.mark.parametrize("reply", ["421 4.3.2 shutting down", "451 4.3.0 later"])
async def test_4xx_is_certain_and_for_later(sink: SmtpSink, make: Make, step: Step, reply: str) -> None:
    sink.script(Rule(at=step, reply=reply))
    mailer = make()
    with pytest.raises(NotNow, match=reply):
        await send(mailer)
    assert sink.messages() == []
    await send(mailer)
    assert len(sink.messages()) == 1


@pytest.mark.parametrize("step", ["mail", "rcpt", "data", "dot"])
async def test_5xx_refuses_the_mail_and_keeps_the_connection(sink: SmtpSink, make: Make, step: Step) -> None:
    sink.script(Rule(at=step, reply="550-5.7.1 never\r\n550 5.7.1 at all"))
    mailer, dot = make(), Dot()
    with pytest.raises(Refused, match=r"^550 5\.7\.1 never 5\.7\.1 at all$"):
        await send(mailer, dot)
    assert dot.times == (1 if step == "dot" else 0)
    await send(mailer)
    assert len(sink.messages()) == 1
    assert sink.steps()["connect"] == 1


@pytest.mark.parametrize("step", ["connect", "ehlo"])
async def test_5xx_before_any_mail_is_not_about_the_mail(sink: SmtpSink, make: Make, step: Step) -> None:
    sink.script(Rule(at=step, reply="554 5.3.2 no service"))
    with pytest.raises(NotNow, match="554"):
        await send(make())


async def test_a_bad_sequence_is_not_about_the_mail(sink: SmtpSink, make: Make) -> None:
    sink.script(Rule(at="mail", reply="503 5.5.1 bad sequence"))
    mailer = make()
    with pytest.raises(NotNow, match="503"):
        await send(mailer)
    await send(mailer)
    assert sink.steps()["connect"] == 2


@pytest.mark.parametrize("step", BEFORE_THE_DOT)
@pytest.mark.parametrize("end", ["close", "reset", "hang"])
async def test_a_cut_or_silence_before_the_dot_is_certain(
    sink: SmtpSink, make: Make, step: Step, end: Any
) -> None:
    sink.script(Rule(at=step, end=end))
    mailer, dot = make(**SHORT), Dot()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(NotNow):
            await send(mailer, dot)
    assert (dot.times, sink.messages()) == (0, [])
    await send(mailer)
    assert len(sink.messages()) == 1


@pytest.mark.parametrize(
    "rule",
    [
        Rule(at="dot", end="close"),
        Rule(at="dot", end="reset"),
        Rule(at="dot", end="close", cut=2),
        Rule(at="dot", end="hang"),
        Rule(at="dot", reply="what?"),
        Rule(at="dot", reply="354 go on"),
    ],
    ids=["close", "reset", "half-answer", "hang", "gibberish", "wrong-answer"],
)
async def test_after_the_dot_no_answer_is_doubtful(sink: SmtpSink, make: Make, rule: Rule) -> None:
    sink.script(rule)
    mailer, dot = make(**SHORT), Dot()
    with pytest.raises(Doubtful):
        await send(mailer, dot)
    assert dot.times == 1
    await send(mailer)
    assert sink.steps()["connect"] == 2


async def test_a_slow_answer_to_the_dot_has_its_own_deadline(sink: SmtpSink, make: Make) -> None:
    sink.script(Rule(at="dot", delay_s=0.6))
    assert await send(make(connect_s=0.3, command_s=0.3, dot_s=5.0)) == "250 2.0.0 received"


@pytest.mark.parametrize("error", [ClaimLost(), asyncio.CancelledError()], ids=["claim-lost", "cancelled"])
async def test_no_dot_when_the_point_of_no_return_is_denied(
    sink: SmtpSink, make: Make, error: BaseException
) -> None:
    mailer = make()
    with pytest.raises(type(error)):
        await send(mailer, Dot(error))
    await send(mailer)
    assert len(sink.messages()) == 1
    assert sink.steps()["connect"] == 2


async def test_the_dot_is_announced_between_the_354_and_the_content(sink: SmtpSink, make: Make) -> None:
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        steps = await asyncio.to_thread(sink.steps)
        seen.append((steps["data"], steps["dot"]))

    await send(make(), look)
    assert seen == [(1, 0)]


async def test_a_connection_that_ends_before_the_dot_is_certain(sink: SmtpSink, make: Make) -> None:
    sink.script(Rule(at="data", reply="354 go on", end="close"))
    with pytest.raises(NotNow, match="before the final dot"):
        await send(make(), lambda: asyncio.sleep(0.2))
    assert sink.messages() == []


PIPELINING = Rule(at="ehlo", reply="250-PIPELINING", times=None)


@pytest.mark.parametrize(
    ("rule", "error", "connections"),
    [
        (Rule(at="mail", reply="451 4.3.0 later"), NotNow, 1),
        (Rule(at="rcpt", reply="550 5.1.1 nobody"), Refused, 1),
        (Rule(at="data", reply="452 4.3.1 no room"), NotNow, 1),
        (Rule(at="dot", reply="554 5.6.0 no"), Refused, 1),
        (Rule(at="rcpt", reply="421 4.3.2 shutting down"), NotNow, 2),
        (Rule(at="rcpt", reply="530 5.7.0 who are you?"), NotNow, 0),
        (Rule(at="rcpt", end="close"), NotNow, 2),
        (Rule(at="dot", end="close"), Doubtful, 2),
    ],
)
async def test_trouble_with_commands_in_one_write_is_as_certain_as_with_each_in_its_own(
    sink: SmtpSink, make: Make, rule: Rule, error: type[Exception], connections: int
) -> None:
    sink.script(PIPELINING, rule)
    mailer, dot = make(), Dot()
    with pytest.raises(error):
        await send(mailer, dot)
    assert dot.times == (rule.at == "dot")
    if connections:  # else the mailer pauses
        assert await send(mailer) == "250 2.0.0 received"
        assert sink.steps()["connect"] == connections


class Chunks(asyncio.Protocol):
    """A server that answers each chunk that it receives with the next of its replies, and notes the chunks."""

    def __init__(self, *replies: bytes) -> None:
        self.chunks: list[bytes] = []
        self.ended = False
        self._replies = iter(replies)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 chunks\r\n")

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self._transport.write(next(self._replies, b""))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True


@asynccontextmanager
async def chunks(*replies: bytes) -> AsyncIterator[tuple[Chunks, str]]:
    ours = Chunks(b"250-chunks\r\n250 PIPELINING\r\n", *replies)
    async with await asyncio.get_running_loop().create_server(lambda: ours, "127.0.0.1", 0) as server:
        yield ours, f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


COMMANDS = b"MAIL FROM:<orders@shop.test>\r\nRCPT TO:<ann@b.test>\r\nDATA\r\n"


async def test_the_commands_of_a_mail_take_one_write_and_their_replies_may_come_in_pieces(make: Make) -> None:
    taken = b"250 ok\r\n250-and\r\n250 ok\r\n354 go on\r\n"
    async with chunks(taken, b"250 taken\r\n", taken[:20], b"250 taken\r\n") as (server, url):
        mailer = make(url)
        assert await send(mailer) == "250 taken"
        again = asyncio.create_task(send(mailer))
        await until(lambda: len(server.chunks) == 4)
        server._transport.write(taken[20:])
        assert await again == "250 taken"
    assert [chunk for chunk in server.chunks if chunk.startswith(b"MAIL")] == [COMMANDS] * 2


async def test_the_content_of_a_refused_mail_is_never_begun(make: Make) -> None:
    """A server may take DATA after it refused the only recipient. The dot would then send an empty mail."""
    async with chunks(b"250 ok\r\n550 nobody\r\n354 go on\r\n") as (server, url):
        dot = Dot()
        with pytest.raises(Refused, match="550 nobody"):
            await send(make(url), dot)
        await until(lambda: server.ended)
        assert server.chunks[1:] == [COMMANDS]
        assert dot.times == 0


@pytest.mark.parametrize("junk", [b"hello\r\n", b"250 " + b"x" * 40_000, b"250-x\r\n" * 6_000])
async def test_what_is_no_reply_ends_the_connection_before_the_dot(make: Make, junk: bytes) -> None:
    async with chunks(junk) as (server, url):
        with pytest.raises(NotNow, match="MAIL: "):
            await send(make(url))
        await until(lambda: server.ended)


async def test_a_line_without_a_command_is_not_taken_for_a_reply(make: Make) -> None:
    replies = b"250 ok\r\n250 ok\r\n354 go on\r\n", b"250 first\r\n599 by the way\r\n"
    async with chunks(*replies, replies[0], b"250 second\r\n") as (_, url):
        mailer = make(url)
        assert [await send(mailer), await send(mailer)] == ["250 first", "250 second"]


@pytest.mark.parametrize("scheme", ["starttls_url", "smtps_url"])
async def test_tls_with_a_private_authority(sink: SmtpSink, make: Make, scheme: str) -> None:
    mailer = make(getattr(sink, scheme), ca_file=sink.certificate)
    await send(mailer)
    (mail,) = sink.messages()
    assert (mail.tls, mail.user) == (True, "mailer")
    assert (await mailer.check()).endswith("STARTTLS" if scheme == "starttls_url" else ", TLS")


@pytest.mark.parametrize("scheme", ["starttls_url", "smtps_url"])
async def test_a_certificate_that_is_not_trusted_is_never_passed_over(
    sink: SmtpSink, make: Make, scheme: str
) -> None:
    with pytest.raises(NotNow, match="CERTIFICATE_VERIFY_FAILED"):
        await send(make(getattr(sink, scheme)))
    assert (sink.steps()["auth"], sink.steps()["mail"]) == (0, 0)


@pytest.mark.parametrize("scheme", ["starttls_url", "smtps_url"])
async def test_a_certificate_of_another_name_is_refused(sink: SmtpSink, make: Make, scheme: str) -> None:
    url = getattr(sink, scheme)
    await send(make(url.replace("127.0.0.1", "localhost"), ca_file=sink.certificate))
    with pytest.raises(NotNow, match="not valid for"):
        await send(make(url.replace("127.0.0.1", "127.1"), ca_file=sink.certificate))
    assert (len(sink.messages()), sink.steps()["mail"]) == (1, 1)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(at="ehlo", reply="250-sink.test\r\n250 AUTH PLAIN"),
        Rule(at="starttls", reply="454 4.7.0 no TLS now"),
        Rule(at="starttls", reply="502 5.5.1 never"),
        Rule(at="starttls", end="hang"),
        Rule(at="starttls", end="close"),
    ],
    ids=["not-offered", "454", "502", "hang", "close"],
)
async def test_starttls_is_never_given_up_for_plain_text(sink: SmtpSink, make: Make, rule: Rule) -> None:
    sink.script(rule)
    with pytest.raises(NotNow, match="STARTTLS"):
        await send(make(sink.starttls_url, ca_file=sink.certificate, **SHORT))
    assert (sink.steps()["auth"], sink.steps()["mail"]) == (0, 0)


async def test_credentials_are_used(sink: SmtpSink, make: Make) -> None:
    await send(make(sink.url))
    assert [mail.user for mail in sink.messages()] == ["mailer"]


async def test_refused_credentials_pause_the_mailer_with_one_try_and_one_line(
    sink: SmtpSink, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    mailer = make(sink.url.replace("tests", "wrong"))
    results = await asyncio.gather(*(send(mailer) for _ in range(8)), return_exceptions=True)
    results += await asyncio.gather(send(mailer), mailer.check(), return_exceptions=True)
    assert all(isinstance(result, NotNow) and "535" in str(result) for result in results)
    assert "paused for" in str(results[-1])
    assert (sink.steps()["auth"], sink.steps()["connect"]) == (1, 1)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_a_pause_ends_and_grows(sink: SmtpSink, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    sink.script(Rule(at="auth", reply="535 5.7.8 no", times=2))
    mailer, refusals = make(sink.url), []
    for _ in range(2):
        for why in ("535", "paused"):
            with pytest.raises(NotNow, match=why):
                await send(mailer)
        refusals.append(mailer._pause._refusals)
        mailer._pause._until = 0.0
    await send(mailer)
    assert [_AUTH_PAUSE.pause_s(times) for times in refusals] == [5.0, 10.0]
    assert sink.steps()["auth"] == 3
    assert len(sink.messages()) == 1
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_a_server_that_wants_credentials_does_not_make_mails_fail(make: Make) -> None:
    with SmtpSink(require_auth=True) as strict:
        mailer = make(f"smtp://127.0.0.1:{strict.port}")
        with pytest.raises(NotNow, match="530"):
            await send(mailer)
        with pytest.raises(NotNow, match="paused"):
            await mailer.check()


@pytest.mark.parametrize(
    ("rule", "paused"),
    [
        (Rule(at="auth", reply="454 4.7.0 later"), False),
        (Rule(at="auth", end="close"), False),
        (Rule(at="ehlo", reply="250 sink.test"), True),
    ],
    ids=["4xx", "cut", "not-offered"],
)
async def test_trouble_with_auth_is_certain(sink: SmtpSink, make: Make, rule: Rule, paused: bool) -> None:
    sink.script(rule)
    mailer = make(sink.url)
    with pytest.raises(NotNow):
        await send(mailer)
    assert sink.steps()["mail"] == 0
    if paused:
        with pytest.raises(NotNow, match="paused"):
            await send(mailer)
    else:
        await send(mailer)


async def test_who_waits_for_the_first_connection_shares_its_failure(sink: SmtpSink, make: Make) -> None:
    sink.script(Rule(at="connect", end="hang", times=None))
    mailer = make(**SHORT)
    results = await asyncio.gather(*(send(mailer) for _ in range(8)), return_exceptions=True)
    assert {str(result) for result in results} == {"connecting: no answer within 0.3 s"}
    assert sink.steps()["connect"] == 1


async def test_check_uses_a_kept_connection_and_finds_a_dead_server(make: Make) -> None:
    with SmtpSink() as own:
        mailer = make(f"smtp://127.0.0.1:{own.port}", **SHORT)
        for _ in range(3):
            assert await mailer.check() == f"SMTP server 127.0.0.1:{own.port} answers, no TLS"
        assert (own.steps()["connect"], own.steps()["noop"]) == (1, 3)
        own.freeze()
        with pytest.raises(NotNow, match="NOOP: no answer"):
            await mailer.check()
        own.thaw()
        await mailer.check()
        own.kill()
        with pytest.raises(NotNow, match="connecting"):
            await mailer.check()


async def test_replies_are_fit_for_a_database(sink: SmtpSink, make: Make) -> None:
    sink.script(Rule(at="rcpt", reply="550-\x00\x1b[31mred\r\n550 " + "x" * 2000))
    with pytest.raises(Refused) as refused:
        await send(make())
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


async def test_an_address_that_cannot_be_used_is_refused(make: Make) -> None:
    with pytest.raises(Refused):
        await make().send(claim("ann@b.test>\r\nRCPT TO:<bob@b.test"), Dot())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("", "shop@gmail.com", "pw"), ("smtp.gmail.com", 587, "starttls", "shop@gmail.com", "pw")),
        (("smtp://mail.test", "", ""), ("mail.test", 25, "none", "", "")),
        (("smtps://mail.test/", "", ""), ("mail.test", 465, "implicit", "", "")),
        (("smtp+starttls://mail.test", "me", "pw"), ("mail.test", 587, "starttls", "me", "pw")),
        (("smtp://mail.test", "me@b.test", ""), ("mail.test", 25, "none", "", "")),
        (("smtps://a%40b.test:p%2F%23%3A%40@mail.test:2465", "me", "pw"),
         ("mail.test", 2465, "implicit", "a@b.test", "p/#:@")),
        (("smtps://me@[::1]", "other", "pw"), ("::1", 465, "implicit", "me", "pw")),
    ],
)  # fmt: skip
def test_the_target(settings: tuple[str, str, str], expected: tuple[object, ...]) -> None:
    target = smtp_target(*settings)
    assert (target.host, target.port, target.tls, target.user, target.password) == expected
    assert "password" not in repr(target)


@pytest.mark.parametrize(
    "url",
    ["mail.test:25", "http://mail.test", "smtp://", "smtps://me:secret@mail.test:70000", "smtp://mail.test:0",
     "smtps://me:sec#ret@mail.test", "smtps://me:sec/ret@mail.test", "smtp://mail .test", "smtp://mail.test?x=1",
     "smtp://" + "a" * 64 + ".test", "smtp://[::1"],
)  # fmt: skip
def test_a_bad_url_is_named_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^SMTP_URL: .*smtp\+starttls://") as refused:
        smtp_target(url, "", "")
    assert "sec" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "settings", [("", "", ""), ("", "me", ""), ("smtp://me@mail.test", "", ""), ("smtp://mail.test", "", "pw")]
)
def test_missing_credentials_are_named(settings: tuple[str, str, str]) -> None:
    with pytest.raises(ConfigError, match="EMAIL_PASS"):
        smtp_target(*settings)


def test_a_bad_ca_file_is_named(tmp_path: Path) -> None:
    target = smtp_target("smtp://mail.test", "", "")
    for content in (None, "not a certificate"):
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_text(content)
        with pytest.raises(ConfigError, match="SMTP_CA_FILE"):
            SmtpMailer(target, SENDER, ca_file=file)


async def _until(condition: Callable[[], bool]) -> None:
    await until(lambda: asyncio.to_thread(condition))
