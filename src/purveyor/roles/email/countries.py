"""Names of countries in the languages of CLDR."""

from collections.abc import Mapping
from functools import cache

from purveyor.roles.email.language import FALLBACK


def country_name(code: str, language: str) -> str:
    """Return the name of an ISO 3166-1 country, or the code if it is unknown.

    The name is English if CLDR does not have the language.
    """
    return _names(language).get(code.upper(), code)


@cache
def _names(language: str) -> Mapping[str, str]:
    from babel import Locale, UnknownLocaleError  # most processes never write an address

    try:
        locale = Locale(language)
    except UnknownLocaleError:
        locale = Locale(FALLBACK)
    return locale.territories
