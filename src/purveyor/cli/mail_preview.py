"""``app mail preview``: every email with example data, in the shop's own settings and templates."""

import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from purveyor.cli.options import ConfigOption, read_sources
from purveyor.cli.output import out, table
from purveyor.kit.errors import ConfigError
from purveyor.settings import Settings

if TYPE_CHECKING:
    from purveyor.roles.email.rendering import Rendered

Kind = Annotated[str, typer.Argument(help="Kind of email, such as order.created. Empty: all.", show_default=False)]


def preview(
    kind: Kind = "",
    language: Annotated[
        str, typer.Option(help="Language, such as de. Empty: SHOP_LANGUAGE.", show_default=False)
    ] = "",
    *,
    html: Annotated[bool, typer.Option("--html", help="Print the HTML instead of the text.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Write KIND.LANGUAGE.txt and .html into this folder.", show_default=False),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the HTML in a browser.")] = False,
    kinds: Annotated[bool, typer.Option("--kinds", help="List the kinds and their subjects.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show emails with example data, rendered with the settings and your own templates."""
    mails = list(_rendered(kind, language, config))
    if kinds:
        shown = table("Kind", "Subject", whole=["Kind"])
        for name, _, mail in mails:
            shown.add_row(name, mail.subject)
        out.print(shown)
        return
    if output is not None or open_:
        _write(mails, output or Path(tempfile.mkdtemp(prefix="purveyor-mails-")), open_=open_)
        return
    for place, (_, _, mail) in enumerate(mails):
        if html:
            typer.echo(mail.html)
            continue
        typer.echo(("\n" + "=" * 72 + "\n" if place else "") + f"Subject: {mail.subject}\n\n{mail.text}", nl=False)


def _rendered(kind: str, language: str, config: Path | None) -> "Iterator[tuple[str, str, Rendered]]":
    """Kind, language and content of each email. Raises ``ConfigError``."""
    from purveyor.roles.email.language import best
    from purveyor.roles.email.rendering import Renderer
    from purveyor.roles.email.role import EmailSettings, check, shop_of
    from purveyor.roles.email.template_check import samples

    sources = read_sources(config)
    settings = sources.load(EmailSettings)
    check(settings, production=False)
    shop = shop_of(settings, sources.load(Settings).public_url.rstrip("/"))
    renderer = Renderer(shop, settings.mail_templates)
    letters = samples(shop)
    if kind and kind not in letters:
        raise ConfigError(f"There is no email of kind {kind!r}. Allowed: {', '.join(letters)}.")
    if language and best(language, renderer.languages) != language.partition("-")[0].lower():
        raise ConfigError(f"There is no language {language!r}. Allowed: {', '.join(sorted(renderer.languages))}.")
    code = best(language or settings.shop_language, renderer.languages)
    for name, letter in letters.items():
        if kind in ("", name):
            yield name, code, renderer.render(name, letter, code)


def _write(mails: "list[tuple[str, str, Rendered]]", folder: Path, *, open_: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, code, mail in mails:
        page = folder / f"{name}.{code}.html"
        page.write_text(mail.html, encoding="utf-8")
        page.with_suffix(".txt").write_text(f"Subject: {mail.subject}\n\n{mail.text}", encoding="utf-8")
        if open_:
            webbrowser.open(page.resolve().as_uri())
    out.print(f"{len(mails)} emails written to {folder}.")
