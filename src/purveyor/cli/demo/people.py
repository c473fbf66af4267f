"""Demo customers: names, addresses and order notes in four languages."""

import random
import re
import unicodedata
from typing import NamedTuple


class _Country(NamedTuple):
    code: str
    language: str
    first: tuple[str, ...]
    last: tuple[str, ...]
    cities: tuple[tuple[str, str], ...]
    street: str
    phone: str


_COUNTRIES = (
    _Country(
        "GB",
        "en",
        ("Amelia", "Oliver", "Isla", "George", "Freya", "Arthur", "Maya", "Theo", "Niamh", "Kofi"),
        ("Hughes", "Patel", "O'Brien", "Turner", "Okafor", "Fletcher", "Singh", "Whitaker", "Reid", "Moss"),
        (("Leeds", "LS1 1UR"), ("Bristol", "BS1 4DJ"), ("Cardiff", "CF10 1EP"), ("Glasgow", "G1 1XQ")),
        "{number} High Street",
        "+44 113 496 {digits}",
    ),
    _Country(
        "DE",
        "de",
        ("Lena", "Jürgen", "Sabine", "Felix", "Änne", "Emre", "Greta", "Moritz", "Katja", "Björn"),
        ("Müller", "Schröder", "Yilmaz", "Weiß", "Krause", "Brandt", "Köhler", "Vogel", "Lindner", "Groß"),
        (("Berlin", "10115"), ("Köln", "50667"), ("Leipzig", "04109"), ("München", "80331")),
        "Gartenstraße {number}",
        "+49 30 230{digits}",
    ),
    _Country(
        "ES",
        "es",
        ("Lucía", "Mateo", "Inés", "Íñigo", "Carmen", "Álvaro", "Noa", "Sergio", "Begoña", "Hugo"),
        ("García", "Muñoz", "Ibáñez", "Ruiz", "Ferrer", "Castaño", "Vidal", "Ortega", "Peña", "Sáez"),
        (("Madrid", "28001"), ("Sevilla", "41001"), ("Bilbao", "48001"), ("València", "46001")),
        "Calle Mayor {number}",
        "+34 91 123 {digits}",
    ),
    _Country(
        "FR",
        "fr",
        ("Chloé", "Hugo", "Zoé", "Léo", "Anaïs", "Noé", "Maëlle", "Idir", "Agnès", "Loïc"),
        ("Lefèvre", "Benali", "Garnier", "François", "Moreau", "Rivière", "Diallo", "Noël", "Dubois", "Perrin"),
        (("Lyon", "69001"), ("Nantes", "44000"), ("Lille", "59000"), ("Marseille", "13001")),
        "{number} rue des Lilas",
        "+33 1 70 18 {digits}",
    ),
)
_NOTES = (
    "Please leave it with the neighbours.",
    "Bitte nicht klingeln, das Baby schläft.",
    "Es un regalo: sin factura en el paquete, por favor.",
    "Le code de la porte est 27B.",
    "Ring twice, the bell is slow.",
)
CANCEL_REASONS = ("ordered twice", "found it cheaper", "takes too long", "changed my mind", "wrong size")
PAYMENT_METHODS = ("cash_on_delivery", "card", "card", "bank_transfer")


class Person(NamedTuple):
    """Request bodies of a customer's registration and address."""

    registration: dict[str, str]
    address: dict[str, str | bool]


def person(chance: random.Random, number: int, run: str, password: str) -> Person:
    """Make up a customer. ``run`` makes email addresses unique across runs."""
    country = chance.choice(_COUNTRIES)
    name = f"{chance.choice(country.first)} {chance.choice(country.last)}"
    city, postal_code = chance.choice(country.cities)
    phone = country.phone.format(digits=f"{chance.randrange(10_000):04d}")
    return Person(
        registration={
            "email": f"{_ascii(name)}.{run}{number}@example.com",
            "password": password,
            "name": name,
            "phone": phone,
            "language": country.language,
        },
        address={
            "recipient": name,
            "line1": country.street.format(number=chance.randint(1, 180)),
            "city": city,
            "postal_code": postal_code,
            "country": country.code,
            "is_default": True,
        },
    )


def note(chance: random.Random) -> str | None:
    """A note for one order in eight."""
    return chance.choice(_NOTES) if chance.random() < 1 / 8 else None


def _ascii(name: str) -> str:
    """The name in the ASCII letters of an email address."""
    plain = unicodedata.normalize("NFKD", name).replace("ß", "ss").encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]+", ".", plain.lower()).strip(".")
