"""Settings that no mail could be sent with are refused before anything starts; mails to nobody are told."""

from pathlib import Path
from typing import Any

import pytest

from purveyor.host import Host, choose_roles
from purveyor.kit.errors import ConfigError, Unavailable
from purveyor.roles.email.mime import sender_parts
from purveyor.roles.email.role import ROLE, EmailSettings
from purveyor.settings import Secret, Sources, Url

PASSWORD = "not-to-be-shown"


def settings(**values: Any) -> EmailSettings:
    return EmailSettings(**values)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"email_from": "nobody"}, "EMAIL_FROM"),
        ({"email_from": "Shop <nobody>"}, "EMAIL_FROM"),
        ({"email_from": "a@shop.test, b@shop.test"}, "EMAIL_FROM"),
        ({"email_from": "Shop\r\nBcc: <a@shop.test>"}, "EMAIL_FROM"),
        ({"email_from": "=?utf-8?q?Shop?= <a@shop.test>"}, "EMAIL_FROM"),
        ({"email_from": "nobody", "smtp_url": Url(f"smtp://me:{PASSWORD}@mail.test")}, "EMAIL_FROM"),
        ({"email_user": "apikey", "email_pass": Secret(PASSWORD)}, "EMAIL_FROM"),
        ({"smtp_url": Url(f"smtp://me:{PASSWORD}@mail.test:0")}, "SMTP_URL"),
        ({"smtp_url": Url(f"http://me:{PASSWORD}@mail.test")}, "SMTP_URL"),
        ({"smtp_url": Url("smtp://me@mail.test")}, "SMTP_URL"),
        ({"smtp_url": Url("smtp://mail.test"), "email_pass": Secret(PASSWORD)}, "EMAIL_PASS"),
        ({"email_user": "a@shop.test"}, "EMAIL_PASS"),
        ({"email_pass": Secret(PASSWORD)}, "EMAIL_PASS"),
        ({"smtp_url": Url("smtp://mail.test"), "smtp_ca_file": Path("/none.pem")}, "SMTP_CA_FILE"),
    ],
)
def test_settings_that_no_mail_could_be_sent_with_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{named}: ") as refused:
        ROLE.check(settings(**values), False)
    assert PASSWORD not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"email_from": "orders@shop.test"},
        {"email_from": "Shop <orders@shop.test>", "smtp_url": Url("smtp://mail.test")},
        {"email_user": "orders@shop.test", "email_pass": Secret(PASSWORD)},
        {"email_from": "orders@shop.test", "email_user": "apikey", "email_pass": Secret(PASSWORD)},
        {"smtp_url": Url(f"smtps://me:{PASSWORD}@mail.test")},
        {"smtp_url": Url("smtps://me@mail.test"), "email_pass": Secret(PASSWORD)},
    ],
)
def test_settings_that_mails_can_be_sent_with_are_taken(values: dict[str, Any]) -> None:
    ROLE.check(settings(**values), True)


@pytest.mark.parametrize(
    ("sender", "parts"),
    [
        ("orders@shop.test", ("", "orders@shop.test")),
        ("Shop, Inc. <orders@shop.test>", ("Shop, Inc.", "orders@shop.test")),
        (' "Shop, Inc."  <orders@shop.test> ', ("Shop, Inc.", "orders@shop.test")),
        ("Bücher <orders@bücher.de>", ("Bücher", "orders@xn--bcher-kva.de")),
    ],
)
def test_the_parts_of_a_sender(sender: str, parts: tuple[str, str]) -> None:
    assert sender_parts(sender) == parts


@pytest.mark.parametrize("production", [False, True])
async def test_in_production_mails_that_reach_nobody_are_told(dsn: str, tmp_path: Path, production: bool) -> None:
    environ = {"DATABASE_URL": dsn, "DATA_DIR": str(tmp_path)}
    environ |= (
        {"ENVIRONMENT": "production", "SERVICE_SECRET": "a secret for tests that is long enough"}
        if production
        else {}
    )
    async with Host(choose_roles(["email"]), Sources(environ=environ, dotenv=None)).running() as host:
        (check,) = [check for check in host.checks()["email"] if check.name == "mail delivery"]
        assert not check.required
        if production:
            with pytest.raises(Unavailable, match=r"emails are only stored in DATA_DIR. Set SMTP_URL"):
                await check.probe()
        else:
            assert await check.probe() == "development mailbox"
