"""Where servers listen, read from their URLs."""

from urllib.parse import urlsplit, urlunsplit

_DEFAULT_PORTS = {
    "postgresql": 5432,
    "postgres": 5432,
    "redis": 6379,
    "amqp": 5672,
    "mongodb": 27017,
    "smtp": 25,
}


def address_of(url: str) -> tuple[str, int]:
    """The host and port of a server's URL, with the scheme's own port where it names none.

    Raises ``ValueError`` for a scheme that a proxy cannot stand in front of: one with TLS, whose certificate
    names another host, or one that stands for several servers.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"a drill cannot reach {parts.scheme}:// through its proxy; give a plain URL")
    return parts.hostname or "127.0.0.1", parts.port or _DEFAULT_PORTS[parts.scheme]


def by_way_of(url: str, port: int) -> str:
    """The same URL, but to this port of 127.0.0.1."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))
