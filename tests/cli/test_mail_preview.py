"""``app mail preview``: every email as it would be sent, without a server."""

from pathlib import Path

import pytest
from app_process import Console

SHOP = {"SHOP_NAME": "Nordlicht", "PUBLIC_URL": "https://shop.test", "SHOP_TIME_ZONE": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((), ["Subject: We have received your order 10482", "Subject: Your account was deleted", "CET"]),
        (
            ("order.shipped", "--language", "de"),
            ["Subject: Ihre Bestellung 10482 ist unterwegs", "https://shop.test/"],
        ),
        (("order.created", "--html"), ["<!doctype html>", "Nordlicht", "Torstra\u00dfe 12"]),
        (("--kinds",), ["order.refunded", "shop.new_order", "user.password_changed"]),
    ],
)
def test_emails_are_shown_with_the_settings_of_the_shop(
    console: Console, arguments: tuple[str, ...], shown: list[str]
) -> None:
    done = console("mail", "preview", *arguments, settings=SHOP)
    assert done.returncode == 0, done.stderr
    assert [text for text in shown if text not in done.stdout] == []


def test_emails_are_written_to_files(console: Console, tmp_path: Path) -> None:
    done = console(
        "mail", "preview", "order.paid", "--language", "fr-CA", "--output", str(tmp_path), settings=SHOP
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["order.paid.fr.html", "order.paid.fr.txt"]
    assert "Commande 10482" in (tmp_path / "order.paid.fr.txt").read_text(encoding="utf-8")
