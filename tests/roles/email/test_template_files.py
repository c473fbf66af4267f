"""An operator's own templates: what they replace, and that none that cannot be used gets past the start."""

import shutil
from pathlib import Path

import pytest

from purveyor.kit.errors import ConfigError
from purveyor.roles.email.mail_models import KINDS
from purveyor.roles.email.rendering import Renderer
from purveyor.roles.email.role import EmailSettings, check
from purveyor.roles.email.template_check import SAMPLES, check_templates
from purveyor.roles.email.template_files import PACKAGED
from purveyor.settings import Settings, Sources


def own(folder: Path, name: str, *changes: tuple[str, str], like: str = "") -> Path:
    """A file of ours, or one that is ``like`` it, in the operator's folder, changed."""
    text = (PACKAGED / (like or name)).read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def own_nl(folder: Path, *changes: tuple[str, str]) -> Path:
    """English under the name of a language that is to be added, changed."""
    return own(folder, "messages/nl.toml", *changes, like="messages/en.toml")


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        check_templates(folder)
    return str(caught.value)


def line_of(path: Path, part: str) -> int:
    return 1 + path.read_text(encoding="utf-8").partition(part)[0].count("\n")


def test_a_copy_of_ours_changes_nothing(tmp_path: Path) -> None:
    shutil.copytree(PACKAGED, tmp_path / "mails")
    (tmp_path / "mails" / "messages" / "._de.toml").write_bytes(b"\xff what a file manager leaves behind")
    check_templates(tmp_path / "mails")
    for kind, letter in SAMPLES.items():
        for code in ("de", "en", "es", "fr"):
            rendered = Renderer(overrides=tmp_path / "mails").render(kind, letter, code)
            assert rendered == Renderer().render(kind, letter, code)


def test_a_file_of_the_same_name_takes_the_place_of_ours(tmp_path: Path) -> None:
    own(tmp_path, "layout.txt", ("{{ greeting }}", "*** {{ greeting }} ***"))
    own(tmp_path, "messages/de.toml", ('total = "Gesamtbetrag"', 'total = "Summe <netto>"'))
    check_templates(tmp_path)
    renderer = Renderer(overrides=tmp_path)
    for kind, letter in SAMPLES.items():
        greeting = "Hello Zoë Müller," if letter.customer else "Hello,"
        assert renderer.render(kind, letter, "en").text.startswith(f"*** {greeting} ***")
    mail = renderer.render("order.created", SAMPLES["order.created"], "de")
    assert "Summe <netto>: 1.294,48" in mail.text
    assert "Summe &lt;netto&gt;" in mail.html


def test_a_language_can_be_added(tmp_path: Path) -> None:
    own_nl(tmp_path, ('total = "Total"', 'total = "Totaal"'))
    check_templates(tmp_path)
    renderer = Renderer(overrides=tmp_path)
    assert list(renderer.languages) == ["de", "en", "es", "fr", "nl"]
    assert "Totaal: " in renderer.render("order.created", SAMPLES["order.created"], "nl-BE").text
    assert "Total: " in renderer.render("order.created", SAMPLES["order.created"], "en").text


@pytest.mark.parametrize("name", ["order_created.html", "Order.html", "messages/english.toml", "notes/order.txt"])
def test_a_file_that_takes_the_place_of_none_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    message = refused(tmp_path)
    assert message.startswith(f"MAIL_TEMPLATES: {name}: ")
    assert "order.html" in message


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") == f"MAIL_TEMPLATES={tmp_path / 'none'}: there is no such folder."
    settings = Sources(environ={"MAIL_TEMPLATES": str(tmp_path / "none")}, dotenv=None).load(EmailSettings)
    with pytest.raises(ConfigError, match="no such folder"):
        check(settings, False)


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        (
            "parts.html",
            "{% for label, value in rows if value %}",
            "{% for label, value rows %}",
            "expected token 'in'",
        ),
        ("order.txt", "{{ line.title }}", "{{ line.title }", "unexpected '}'"),
        ("order.txt", "{{ line.title }}", "{{ line.name }}", "has no attribute 'name'"),
        ("layout.html", "{{ outro }}", "{{ farewell }}", "'farewell' is undefined"),
        ("reset.txt", "{{ expires }}", "{{ expires / 2 }}", "unsupported operand"),
    ],
)
def test_a_template_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, name: str, old: str, new: str, why: str
) -> None:
    path = own(tmp_path, name, (old, new))
    message = refused(tmp_path)
    assert message.startswith(f"MAIL_TEMPLATES: {name}, line {line_of(path, new)}: ")
    assert why in message


@pytest.mark.parametrize(
    ("name", "old", "fact"),
    [
        ("reset.txt", "{{ token }}", "the token"),
        ("reset.html", "{{ token }}", "the token"),
        ("order.txt", "{{ total }}", "the total"),
        ("order.html", "{{ items(lines, total, words) }}", "the line of product 3"),
    ],
)
def test_a_mail_has_to_tell_what_it_is_about(tmp_path: Path, name: str, old: str, fact: str) -> None:
    own(tmp_path, name, (old, ""))
    message = refused(tmp_path)
    assert message.startswith(f"MAIL_TEMPLATES: {name}: ")
    assert message.endswith(f"does not show {fact}.")


@pytest.mark.parametrize(
    ("old", "new", "where", "why"),
    [
        ("order {number}", "order", 'subject = "We have received your order"', "{number} is missing"),
        ("Hello {name},", "Hello {nmae},", "greeting =", "{name} is missing"),
        ("Hello {name},", "Hello {name} {id},", "greeting =", "there is no {id} here"),
        ("Hello {name},", "Hello {name.__class__},", "greeting =", "{name} is missing"),
        ("Hello {name},", "Hello {name},}", "greeting =", "Single '}'"),
        ('total = "Total"', 'totl = "Total"', "[order]", "it is missing"),
        ('total = "Total"', 'total = "Total"\ntax = "Tax"', "tax =", "there is no such entry"),
        ('total = "Total"', "total = 1", "total =", "it must be a string"),
        ("We have received your order {number}", "order {number}\\r\\nBcc: x@y", 'subject = "order', "one line"),
    ],
)
def test_a_language_file_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, where: str, why: str
) -> None:
    path = own_nl(tmp_path, (old, new))
    message = refused(tmp_path)
    assert message.startswith(f"MAIL_TEMPLATES: messages/nl.toml, line {line_of(path, where)}: ")
    assert why in message


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('colon = ":"', "colon = ", "at line 19"),
        ('"November", "December",', '"November",', "12"),
        ("group_from = 4", 'group_from = "four"', "int"),
    ],
)
def test_a_language_file_that_is_no_such_file_is_named(tmp_path: Path, old: str, new: str, why: str) -> None:
    own_nl(tmp_path, (old, new))
    message = refused(tmp_path)
    assert message.startswith("MAIL_TEMPLATES: messages/nl.toml")
    assert why in message


def test_an_order_mails_number_may_stand_wherever_the_language_wants_it(tmp_path: Path) -> None:
    own_nl(tmp_path, ('heading = "We have received your order"', 'heading = "Order {number} at {shop}"'))
    check_templates(tmp_path)
    own_nl(tmp_path, ('heading = "Reset your password"', 'heading = "Order {number}"'))
    assert "there is no {number} here" in refused(tmp_path)


@pytest.mark.parametrize(
    "url", ["ftp://shop.example", "https://", "https://shop.example/#/x", "https://shop.example?x=1"]
)
def test_a_public_url_is_the_base_of_pages(url: str) -> None:
    with pytest.raises(ConfigError, match="PUBLIC_URL"):
        Sources(environ={"PUBLIC_URL": url}, dotenv=None).load(Settings)


def test_every_kind_has_its_templates() -> None:
    names = {path.name for path in PACKAGED.glob("*.*")}
    assert {f"{letter.template}.{form}" for letter in KINDS.values() for form in ("txt", "html")} <= names
