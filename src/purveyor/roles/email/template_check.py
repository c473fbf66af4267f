"""The check of an operator's own templates at start: every mail is made once, and has to tell what it is about."""

import re
import traceback
from html import unescape
from pathlib import Path

from jinja2 import TemplateError, TemplateSyntaxError

from purveyor.kit.errors import ConfigError
from purveyor.roles.email.letters import Letter, OrderMail, ResetMail
from purveyor.roles.email.rendering import Renderer
from purveyor.roles.email.samples import SAMPLES
from purveyor.roles.email.template_files import own_files


def check_templates(overrides: Path) -> None:
    """Raises ``ConfigError`` that names the file, and the line where there is one, of what cannot be used.

    Refused are files that take the place of none, files that cannot be read, and mails without what they are
    there to tell: the customer's name, an order's number, lines and total, the token.
    """
    names = own_files(overrides)
    renderer = Renderer(overrides=overrides)
    for name in names:
        if not name.endswith(".toml"):
            _compile(renderer, name)
    for language in renderer.languages:
        for kind, letter in SAMPLES.items():
            _try(renderer, overrides, kind, letter, language)


def _compile(renderer: Renderer, name: str) -> None:
    try:
        renderer.environment.get_template(name)
    except TemplateSyntaxError as error:
        raise ConfigError(f"MAIL_TEMPLATES: {error.name or name}, line {error.lineno}: {error.message}") from error
    except (TemplateError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"MAIL_TEMPLATES: {name}: {error}.") from error


def _try(renderer: Renderer, overrides: Path, kind: str, letter: Letter, language: str) -> None:
    try:
        rendered = renderer.render(kind, letter, language)
    except Exception as error:  # a template can raise anything at all
        where = _place(error, overrides) or f"{letter.template}.txt, {letter.template}.html"
        raise ConfigError(f"MAIL_TEMPLATES: {where}: {error} (mail {kind}, language {language}).") from error
    for form, body in (("txt", rendered.text), ("html", unescape(rendered.html))):
        words = _words(body)
        for fact, shown in _facts(renderer, letter, language).items():
            if _words(shown) not in words:
                where = f"{letter.template}.{form}"
                raise ConfigError(f"MAIL_TEMPLATES: {where}: mail {kind} in {language} does not show {fact}.")


def _facts(renderer: Renderer, letter: Letter, language: str) -> dict[str, str]:
    """What has to be in the text and in the HTML."""
    facts = {"the customer's name": letter.customer}
    if isinstance(letter, OrderMail):
        money = renderer.languages[language].money
        facts["the order's number"] = str(letter.order_number)
        facts["the total"] = money.format(letter.total, letter.currency)
        for line in letter.lines:
            facts[f"the line of product {line.product_id}"] = money.format(line.amount, letter.currency)
    elif isinstance(letter, ResetMail):
        facts["the token"] = letter.token
    return facts


def _words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _place(error: Exception, overrides: Path) -> str:
    """The file and line of a template in which an error came up; empty: in none of the operator's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(overrides):
            return f"{path.relative_to(overrides).as_posix()}, line {frame.lineno}"
    return ""
