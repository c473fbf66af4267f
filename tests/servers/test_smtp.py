"""The mail sink keeps what it takes, and plays every fault that a script asks for."""

import asyncio
import ssl
from collections.abc import Iterator
from email.message import EmailMessage

import aiosmtplib
import pytest

from purveyor_drill.servers.smtp import Rule, SmtpSink, Step


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


def client(sink: SmtpSink, timeout: float = 5.0) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(hostname="127.0.0.1", port=sink.port, start_tls=False, timeout=timeout)


def mail(*recipients: str, number: int = 1) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "shop@a.test"
    message["To"] = ", ".join(recipients or ("ann@b.test",))
    message["Message-ID"] = f"<{number}@a.test>"
    message.set_content("Dear Ann,\n.a line with a dot\n..and two\n")
    return message


async def test_a_mail_is_kept_byte_by_byte_with_its_envelope(sink: SmtpSink) -> None:
    raw = b"Message-ID: <7@a.test>\r\n\r\n.dot\r\n..dots\r\n.\r\nend\r\n"
    async with client(sink) as smtp:
        await smtp.sendmail("shop@a.test", ["ann@b.test", "bob@b.test"], raw)
        await smtp.sendmail("shop@a.test", ["ann@b.test"], raw)
    first, _ = sink.messages()
    assert first.content == raw
    assert (first.sender, first.recipients) == ("shop@a.test", ("ann@b.test", "bob@b.test"))
    assert (first.tls, first.user) == (False, None)
    assert sink.counts() == {"<7@a.test>": 2}
    assert (sink.steps()["connect"], sink.steps()["dot"]) == (1, 2)


@pytest.mark.parametrize("login", ["auth_plain", "auth_login"])
async def test_credentials_are_checked(sink: SmtpSink, login: str) -> None:
    async with client(sink) as smtp:
        await smtp.ehlo()
        with pytest.raises(aiosmtplib.SMTPAuthenticationError) as refused:
            await getattr(smtp, login)("mailer", "wrong")
        assert refused.value.code == 535
        await getattr(smtp, login)("mailer", "tests")
        await smtp.send_message(mail())
    assert sink.messages()[0].user == "mailer"


async def test_starttls_and_tls_with_the_certificate_trusted(sink: SmtpSink) -> None:
    trust = ssl.create_default_context(cafile=sink.certificate)
    ports = {True: int(sink.starttls_url.rpartition(":")[2]), False: int(sink.smtps_url.rpartition(":")[2])}
    for start_tls, port in ports.items():
        smtp = aiosmtplib.SMTP(
            hostname="127.0.0.1", port=port, start_tls=start_tls, use_tls=not start_tls, tls_context=trust
        )
        async with smtp:
            await smtp.send_message(mail())
    assert [received.tls for received in sink.messages()] == [True, True]


async def test_a_client_that_does_not_trust_it_refuses(sink: SmtpSink) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await aiosmtplib.send(mail(), hostname="127.0.0.1", port=sink.port, start_tls=True)
    assert sink.messages() == []


async def test_without_credentials_when_they_are_required() -> None:
    with SmtpSink(require_auth=True) as strict:
        async with client(strict) as smtp:
            with pytest.raises(aiosmtplib.SMTPSenderRefused) as refused:
                await smtp.send_message(mail())
            assert refused.value.code == 530
            await smtp.login("mailer", "tests")
            await smtp.send_message(mail())
        assert len(strict.messages()) == 1


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data", "dot"])
@pytest.mark.parametrize("reply", ["421 4.3.2 shutting down", "451 4.3.0 later", "550 5.7.1 never"])
async def test_a_refusal_at_each_step_for_so_many_times(sink: SmtpSink, step: Step, reply: str) -> None:
    greetings = 2 if step == "ehlo" and reply[:3] != "421" else 1  # the client tries HELO after EHLO
    sink.script(Rule(at=step, reply=reply, times=greetings))
    with pytest.raises(aiosmtplib.SMTPException) as refused:
        await aiosmtplib.send(mail(), hostname="127.0.0.1", port=sink.port, start_tls=False)
    assert reply[:3] in str(refused.value) or getattr(refused.value, "code", 0) == int(reply[:3])
    assert sink.messages() == []
    await aiosmtplib.send(mail(), hostname="127.0.0.1", port=sink.port, start_tls=False)
    assert len(sink.messages()) == 1


async def test_a_rule_for_a_recipient_leaves_the_others_alone(sink: SmtpSink) -> None:
    sink.script(Rule(at="rcpt", reply="550 5.1.1 unknown", recipient="*@gone.test", times=None))
    async with client(sink) as smtp:
        errors, _ = await smtp.send_message(mail("ann@b.test", "bob@gone.test"))
        assert list(errors) == ["bob@gone.test"]
        for number in (2, 3):
            with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
                await smtp.send_message(mail("bob@gone.test", number=number))
    assert [received.recipients for received in sink.messages()] == [("ann@b.test",)]


async def test_a_late_answer_after_the_dot(sink: SmtpSink) -> None:
    sink.script(Rule(at="dot", delay_s=0.1), Rule(at="dot", delay_s=600))
    async with client(sink) as smtp:
        await smtp.send_message(mail())
    hasty = client(sink, timeout=0.3)
    await hasty.connect()
    with pytest.raises(aiosmtplib.SMTPReadTimeoutError):
        await hasty.send_message(mail(number=2))
    assert sink.counts() == {"<1@a.test>": 1, "<2@a.test>": 1}  # the doubtful one was taken


@pytest.mark.parametrize(
    "rule",
    [
        Rule(at="dot", end="close"),
        Rule(at="dot", end="reset"),
        Rule(at="dot", end="close", cut=2),
        Rule(at="dot", end="hang"),
    ],
    ids=["close", "reset", "half-answer", "hang"],
)
async def test_a_mail_without_its_answer_was_taken(sink: SmtpSink, rule: Rule) -> None:
    sink.script(rule)
    smtp = client(sink, timeout=0.3)
    await smtp.connect()
    with pytest.raises((aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPReadTimeoutError)):
        await smtp.send_message(mail())
    smtp.close()
    assert sink.counts() == {"<1@a.test>": 1}


async def test_a_reset_after_the_answer_harms_nobody(sink: SmtpSink) -> None:
    sink.script(Rule(at="dot", reply="250 2.0.0 taken", end="reset"))
    smtp = client(sink)
    await smtp.connect()
    await smtp.send_message(mail())
    with pytest.raises((aiosmtplib.SMTPServerDisconnected, ConnectionResetError)):
        await smtp.noop()
    assert len(sink.messages()) == 1


@pytest.mark.parametrize("step", ["connect", "ehlo", "mail", "rcpt", "data"])
async def test_a_hang_or_a_cut_before_the_dot_takes_nothing(sink: SmtpSink, step: Step) -> None:
    sink.script(Rule(at=step, end="hang"), Rule(at=step, end="close"))
    for _ in ("hang", "close"):
        with pytest.raises((OSError, aiosmtplib.SMTPException)):
            await aiosmtplib.send(mail(), hostname="127.0.0.1", port=sink.port, start_tls=False, timeout=2.0)
    assert sink.steps()[step] == 2
    assert sink.messages() == []


async def test_many_clients_at_once(sink: SmtpSink) -> None:
    sends = (
        aiosmtplib.send(mail(number=number), hostname="127.0.0.1", port=sink.port, start_tls=False)
        for number in range(50)
    )
    await asyncio.gather(*sends)
    assert sink.counts() == {f"<{number}@a.test>": 1 for number in range(50)}


async def test_clear_forgets_rules_counts_and_mails(sink: SmtpSink) -> None:
    sink.script(Rule(at="mail", reply="451 4.3.0 later", times=None))
    sink.clear()
    await aiosmtplib.send(mail(), hostname="127.0.0.1", port=sink.port, start_tls=False)
    assert len(sink.messages()) == 1
    sink.clear()
    assert (sink.messages(), sink.steps()) == ([], {})
