"""The setting ``KAFKA_OUTLET``: bootstrap servers, and how to reach them."""

import re
from typing import Literal
from urllib.parse import parse_qsl, unquote

import msgspec

from purveyor.kit.errors import ConfigError
from purveyor.settings import Secret

_SERVER = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", re.ASCII)
_SECURITY = {"kafka": False, "kafka+ssl": True}
"""True for schemes with TLS."""
_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


class KafkaTarget(msgspec.Struct, frozen=True, kw_only=True):
    """The bootstrap servers, and how to reach them. Without a user there is no log-in."""

    servers: tuple[str, ...] = ()
    tls: bool = False
    user: str = ""
    password: Secret = Secret()
    mechanism: str = _MECHANISMS[0]

    @property
    def protocol(self) -> Protocol:
        """Kafka's ``security.protocol``."""
        if self.user:
            return "SASL_SSL" if self.tls else "SASL_PLAINTEXT"
        return "SSL" if self.tls else "PLAINTEXT"

    @classmethod
    def parse(cls, text: str) -> "KafkaTarget":
        """Read ``host:port,...`` or a URL. Raises ``ConfigError``, which shows no password."""
        scheme, is_url, rest = text.rpartition("://")
        if is_url and scheme not in _SECURITY:
            raise ConfigError(f"KAFKA_OUTLET: expected host:port, kafka:// or kafka+ssl://, not {scheme}://.")
        login, has_login, places = rest.rpartition("@")
        places, _, options = places.partition("?")
        servers = tuple(places.rstrip("/").replace(",", " ").split())
        for server in servers:
            if not _SERVER.fullmatch(server):
                raise ConfigError(
                    f"KAFKA_OUTLET: expected host:port, several separated by commas, not {server!r}."
                )
        user, _, password = login.partition(":")
        if has_login and not (is_url and user and password):
            raise ConfigError("KAFKA_OUTLET: expected kafka+ssl://user:password@host:port.")
        return cls(
            servers=servers,
            tls=_SECURITY.get(scheme, False),
            user=unquote(user),
            password=Secret(unquote(password)),
            mechanism=_mechanism(options),
        )


def _mechanism(options: str) -> str:
    named = dict(parse_qsl(options, keep_blank_values=True))
    found = named.pop("mechanism", _MECHANISMS[0])
    if named:
        raise ConfigError(f"KAFKA_OUTLET: the only option is mechanism, not {', '.join(named)}.")
    if found not in _MECHANISMS:
        raise ConfigError(f"KAFKA_OUTLET: mechanism must be one of {', '.join(_MECHANISMS)}.")
    return found
