"""Rendering of subject, text and HTML of each kind of mail in the customer's language."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined, select_autoescape

from purveyor.roles.email.language import Language, best
from purveyor.roles.email.mail_models import KINDS, Letter, Shop, one_line
from purveyor.roles.email.template_files import PACKAGED, load_languages


class Rendered(msgspec.Struct, frozen=True):
    """A rendered mail without headers."""

    subject: str
    text: str
    html: str


class Renderer:
    """Renders the packaged templates, or those of the same name in the ``overrides`` folder.

    Templates are code, so clients must not be able to write to ``overrides``. Raises ``ConfigError`` for invalid
    language files there.
    """

    def __init__(self, shop: Shop | None = None, overrides: Path | None = None) -> None:
        self._shop = shop or Shop()
        self.languages: Mapping[str, Language] = load_languages(overrides)
        folders = [overrides, PACKAGED] if overrides else [PACKAGED]
        self.environment = Environment(
            loader=ChoiceLoader([FileSystemLoader(folder) for folder in folders]),
            autoescape=select_autoescape(("html",), default=False),
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, kind: str, letter: Letter, language: str) -> Rendered:
        """Render a mail in the language of a tag like ``de-AT``, for an unknown tag in English.

        Without a tag it is in the shop's language.

        Raises ``ValueError`` for an unknown kind, a kind that does not match the letter, and invalid amounts.
        """
        if kind not in KINDS:
            raise ValueError(f"no mail of kind {kind!r}; there are: {', '.join(KINDS)}")
        if not isinstance(letter, KINDS[kind]):
            raise ValueError(f"a mail of kind {kind} is not made of a {type(letter).__name__}")  # noqa: TRY004
        view = self._view(kind, letter, best(language or self._shop.language, self.languages))
        text, html = (
            self.environment.get_template(f"{letter.template}.{form}").render(view) for form in ("txt", "html")
        )
        return Rendered(subject=view["subject"], text=text, html=html)

    def _view(self, kind: str, letter: Letter, code: str) -> dict[str, Any]:
        """Return the variables of the templates as finished strings."""
        words = self.languages[code]
        texts, labels = words.mail[kind], words.labels
        name = one_line(letter.customer)
        shop = self._shop
        view = letter.view(words, shop)
        sentences = {
            part: getattr(texts, part).format(shop=shop.name, number=view.get("number", ""))
            for part in texts.__struct_fields__
        }
        return {
            **sentences,
            "contact": shop.contact,
            **view,
            "greeting": labels.greeting.format(name=name) if name else labels.greeting_nameless,
            "at": words.date.format(letter.at, shop.zone),
            "labels": labels,
            "language": code,
            "shop": shop.name,
            "shop_url": shop.url,
            "legal_url": shop.legal_url,
            "logo_url": shop.logo_url,
        }
