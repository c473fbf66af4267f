"""The settings of what customers are told about the shop, and what is said of a bad one."""

import zoneinfo
from typing import Any

import pytest

from purveyor.kit.errors import ConfigError
from purveyor.roles.email.role import EmailSettings, check, shop_of
from purveyor.settings import Sources


def load(**environ: str) -> EmailSettings:
    return Sources(environ=environ, dotenv=None).load(EmailSettings)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SHOP_NAME": "Nord\nlicht"}, "SHOP_NAME: expected one line"),
        ({"SHOP_NAME": "=?utf-8?b?eA==?="}, "SHOP_NAME: expected one line"),
        ({"SHOP_NAME": "x" * 101}, "SHOP_NAME: expected one line of at most 100 characters"),
        ({"SHOP_CONTACT": "nobody"}, "SHOP_CONTACT: 'nobody' is not an email address"),
        ({"SHOP_CONTACT": "a@b.test, c@b.test"}, "SHOP_CONTACT: expected one email address"),
        ({"SHOP_CONTACT": "a@b.test\r\nBcc: c@b.test"}, "SHOP_CONTACT"),
        ({"SHOP_NOTIFY": "a@b.test, c"}, "SHOP_NOTIFY: 'c' is not an email address"),
        (
            {"SHOP_NOTIFY": ", ".join(f"a{number}@b.test" for number in range(21))},
            "SHOP_NOTIFY: expected at most 20",
        ),
        ({"SHOP_TIME_ZONE": "Europe/Berlim"}, "Did you mean Europe/Berlin?"),
        ({"SHOP_TIME_ZONE": "+01:00"}, "SHOP_TIME_ZONE='+01:00': expected an IANA time zone"),
        ({"SHOP_TIME_ZONE": "../etc/passwd"}, "SHOP_TIME_ZONE"),
        ({"SHOP_TIME_ZONE": "Europe"}, "SHOP_TIME_ZONE"),
        ({"SHOP_LEGAL_URL": "javascript:alert(1)"}, "SHOP_LEGAL_URL: expected a URL that starts with http"),
        ({"SHOP_LEGAL_URL": "https://"}, "SHOP_LEGAL_URL: expected a URL such as"),
        ({"SHOP_LOGO_URL": 'https://x.test/"onerror="'}, "SHOP_LOGO_URL: expected a URL such as"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(**environ)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_time_zones_are_known_where_the_system_has_none(zone: str) -> None:
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    try:
        assert load(SHOP_TIME_ZONE=zone).zone.key == zone
    finally:
        zoneinfo.reset_tzpath()


def test_an_unknown_language_of_the_shop_is_refused() -> None:
    with pytest.raises(ConfigError, match="SHOP_LANGUAGE=tlh: allowed: de, en, es, fr"):
        check(load(SHOP_LANGUAGE="tlh"), production=False)


@pytest.mark.parametrize(
    ("environ", "name", "sender"),
    [
        ({}, "Purveyor", "Purveyor <orders@purveyor.local>"),
        ({"SHOP_NAME": "Nordlicht"}, "Nordlicht", '"Nordlicht" <orders@purveyor.local>'),
        ({"EMAIL_FROM": "Shop <a@b.test>"}, "Shop", "Shop <a@b.test>"),
        ({"EMAIL_FROM": "Shop <a@b.test>", "SHOP_NAME": "Nordlicht"}, "Nordlicht", "Shop <a@b.test>"),
        ({"EMAIL_FROM": "a@b.test", "SHOP_NAME": 'A "B" \\ C'}, 'A "B" \\ C', "\"A 'B'  C\" <a@b.test>"),
        ({"EMAIL_USER": "a@b.test"}, "Purveyor", "a@b.test"),
    ],
)
def test_the_name_of_the_shop_and_of_the_sender(environ: dict[str, str], name: str, sender: str) -> None:
    settings = load(**environ)
    assert (shop_of(settings, "").name, settings.sender) == (name, sender)


def test_what_mails_say_of_the_shop() -> None:
    shop = shop_of(
        load(
            SHOP_CONTACT=" help@b.test ",
            SHOP_TIME_ZONE="Asia/Kolkata",
            BANK_DETAILS="Nordlicht GmbH\\nIBAN DE02\n BIC X \n",
            CURRENCY="CHF",
        ),
        "https://b.test/store",
    )
    assert (shop.contact, shop.url, shop.currency, str(shop.zone)) == (
        *("help@b.test", "https://b.test/store", "CHF"),
        "Asia/Kolkata",
    )
    assert shop.bank_details == ("Nordlicht GmbH", "IBAN DE02", "BIC X")


@pytest.mark.parametrize(
    ("text", "found"), [("", ()), ("a@b.test", ("a@b.test",)), ("a@b.test , c@b.test", ("a@b.test", "c@b.test"))]
)
def test_who_is_told_of_new_orders(text: str, found: Any) -> None:
    assert EmailSettings(shop_notify=text).notified == found
