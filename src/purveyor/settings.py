"""Settings: struct defaults < a TOML profile < ``.env`` < the environment; secrets are masked wherever shown.

A setting is a field of a frozen struct: the shared ones stand here, each role and each transport declares its own.
The environment variable is the field's name in capitals; empty means unset.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
import platformdirs

from purveyor.kit.errors import ConfigError
from purveyor.kit.secret_file import weakness_of

S = TypeVar("S", bound=msgspec.Struct)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Help = msgspec.Meta


class Secret:
    """A text that never shows itself: ``str`` and ``repr`` are masked, ``reveal`` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "****" if self._text else ""


class Url(str):
    """A URL or DSN; ``masked``, which is also its ``repr``, hides the password."""

    __slots__ = ()

    @property
    def masked(self) -> str:
        """The URL with ``****`` in place of the password, before the host or among the options."""
        before_host = re.sub(r"(://[^:/@]*):.*@", r"\1:****@", self)
        return re.sub(r"([?&][^=&]*passw[^=&]*=)[^&]*", r"\1****", before_host, flags=re.IGNORECASE)

    def __repr__(self) -> str:
        return repr(self.masked)


class Networks(tuple[Network, ...]):
    """A list of networks in CIDR notation, separated by commas or spaces."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Networks":
        """Raises ``ValueError`` that names the entry which is not a network."""
        return cls(map(_network, text.replace(",", " ").split()))

    def __str__(self) -> str:
        return ", ".join(map(str, self))


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        meant = "addresses or networks such as 10.0.0.0/8"
        with suppress(ValueError):  # an address inside a network
            meant = f"the network's own address, {ipaddress.ip_network(text, strict=False)}"
        raise ValueError(f"'{text}': expected {meant}") from error


def _as_browsers_send(origin: str) -> str:
    """Write an origin in lower case, without a slash and the scheme's own port (RFC 6454 section 6.2)."""
    origin = origin.lower().removesuffix("/")
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


_ORIGIN = re.compile(r"https?://(\*\.)?([\w.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)


class Origins(tuple[str, ...]):
    """A list of web origins such as ``https://store.example``, separated by commas or spaces."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Origins":
        """Raises ``ValueError`` that names the entry which is not an origin."""
        origins = [_as_browsers_send(origin) for origin in text.replace(",", " ").split()]
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"'{origin}': expected origins without a path, such as https://store.example")
        return cls(origins)

    def __str__(self) -> str:
        return ", ".join(self)


def origin_of(url: str) -> str:
    """The origin of an HTTP URL; empty without one."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}" if parts.netloc else ""


def base_path_of(url: str) -> str:
    """The path of a base URL without a slash at its end; empty for a URL at the root."""
    return urlsplit(url).path.rstrip("/")


def _default_data_dir() -> Path:
    return Path(platformdirs.user_data_dir("purveyor", appauthor=False, use_site_for_root=True))


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of every process, whatever roles it runs."""

    environment: Annotated[
        Literal["development", "production"], Help(description="production turns development features off")
    ] = "development"
    data_dir: Annotated[Path, Help(description="folder for the data of the embedded servers")] = msgspec.field(
        default_factory=_default_data_dir
    )
    database_url: Annotated[Url, Help(description="URL of PostgreSQL 14 or newer; empty: embedded server")] = Url()
    database_statement_cache: Annotated[
        int, Help(ge=0, description="prepared statements per connection; 0 for pgbouncer before 1.21")
    ] = 100
    redis_url: Annotated[Url, Help(description="Redis for cache and rate limits; empty: in-process")] = Url()
    service_secret: Annotated[
        Secret, Help(description="signs requests and events between roles; at least 32 bytes")
    ] = Secret()
    ask_timeout_s: Annotated[
        float, Help(gt=0, le=60, description="timeout in seconds for requests to another role")
    ] = 2.0
    startup_wait_s: Annotated[
        float, Help(ge=0, le=600, description="seconds to wait at startup for servers that do not respond")
    ] = 30.0
    trusted_proxies: Annotated[
        Networks, Help(description="networks (CIDR) of proxies whose X-Forwarded-For is trusted")
    ] = Networks()
    public_url: Annotated[
        Url, Help(description="base URL of the pages, a path allowed; empty: in development the process's own")
    ] = Url()
    cors_origins: Annotated[
        Origins, Help(description="origins that may use the API from a browser, or *; empty: none")
    ] = Origins()
    log_format: Annotated[
        Literal["", "json", "console"],
        Help(description="log format; empty: console on a terminal, otherwise json"),
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Help(description="minimum level of log messages")
    ] = "info"

    def __post_init__(self) -> None:
        require_scheme("DATABASE_URL", self.database_url, "postgresql", "postgres")
        require_scheme("REDIS_URL", self.redis_url, "redis", "rediss", "unix")
        require_scheme("PUBLIC_URL", self.public_url, "http", "https")
        if self.public_url and (not urlsplit(self.public_url).hostname or re.search(r"[\s?#]", self.public_url)):
            raise ConfigError("PUBLIC_URL: expected a base URL without query and fragment.")
        require_strong("SERVICE_SECRET", self.service_secret)

    @property
    def production(self) -> bool:
        """True if development conveniences are off."""
        return self.environment == "production"


def require_scheme(name: str, url: str, *schemes: str) -> None:
    """Raise ``ConfigError`` for a URL with another scheme, or whose host and port are none; without showing it."""
    if url and url.partition("://")[0] not in schemes:
        raise ConfigError(f"{name}: expected a URL that starts with {' or '.join(f'{s}://' for s in schemes)}.")
    try:
        for place in urlsplit(url).netloc.rpartition("@")[2].split(","):  # PostgreSQL's may have several
            _ = urlsplit(f"//{place}").port
    except ValueError:
        raise ConfigError(
            f"{name}: expected a host and a port up to 65535. Percent-encode special characters in the password."
        ) from None  # the cause may quote the password


def require_strong(name: str, secret: Secret) -> None:
    """Raise ``ConfigError`` for a secret that is set and is too short or easy to guess."""
    if secret and (weakness := weakness_of(secret.reveal())):
        raise ConfigError(f"{name}: {weakness}. Make one with: openssl rand -hex 32")


def url_settings(about: Mapping[str, str], *schemes: str) -> type[msgspec.Struct]:
    """A struct of URL settings that others declare: each name, such as ``NATS_URL``, with what it is for."""

    def check(loaded: msgspec.Struct) -> None:
        for name in about:
            require_scheme(name, getattr(loaded, name.lower()), *schemes)

    fields = [(name.lower(), Annotated[Url, Help(description=text)], Url()) for name, text in about.items()]
    return msgspec.defstruct(
        "UrlSettings", fields, frozen=True, kw_only=True, namespace={"__post_init__": check}, module=__name__
    )


class Entry(msgspec.Struct, frozen=True):
    """One setting as ``app config`` shows it."""

    name: str
    value: str
    source: str
    about: str


class Sources:
    """Sources of settings, read once at startup. Provides typed structs and the origin of each value."""

    def __init__(
        self,
        profile: Path | None = None,
        environ: Mapping[str, str] | None = None,
        dotenv: Path | None = Path(".env"),
    ) -> None:
        self._profile_name = profile.name if profile else ""
        self._of_compose = _names_in_compose(dotenv)
        self._layers: list[tuple[str, Mapping[str, Any]]] = [
            (
                "environment",
                {k: v for k, v in (os.environ if environ is None else environ).items() if v != ""},
            ),
            (".env", _read_dotenv(dotenv)),
            (self._profile_name, _read_profile(profile)),
        ]

    def find(self, name: str) -> tuple[Any, str]:
        """The raw value of a setting and its source; ``(None, "default")`` where it is not set."""
        for source, layer in self._layers:
            if (value := layer.get(name)) not in (None, ""):
                return value, source
        return None, "default"

    def starting_with(self, prefix: str) -> dict[str, str]:
        """The raw values of all names that begin so."""
        names = {name for _, layer in self._layers for name in layer if name.startswith(prefix)}
        return {name: str(value) for name in names if (value := self.find(name)[0]) is not None}

    def load(self, kind: type[S]) -> S:
        """Read one struct. Raises ``ConfigError`` that names the setting and what is allowed."""
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            raw, source = self.find(field.name.upper())
            if raw is not None:
                values[field.name] = _convert(field, raw, source)
        try:
            return kind(**values)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def entries(self, kinds: Sequence[type[msgspec.Struct]]) -> list[Entry]:
        """Every setting of these structs with its effective value, masked, and its source."""
        entries: dict[str, Entry] = {}
        for kind in kinds:
            loaded = self.load(kind)
            for field in msgspec.structs.fields(kind):
                name = field.name.upper()
                value = getattr(loaded, field.name)
                shown = value.masked if isinstance(value, Url) else "" if value is None else str(value)
                entries[name] = Entry(name, shown, self.find(name)[1], _about(field.type))
        return list(entries.values())

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise ``ConfigError`` for names in the profile that no setting has."""
        names = [name for name in self._layers[-1][1] if name not in known and not name.startswith("OTEL_")]
        if names:
            near = {name: _nearest(name, known).lower() for name in names}
            texts = [f"{name.lower()!r}{near[name] and f' (did you mean {near[name]!r}?)'}" for name in names]
            raise ConfigError(
                f"{self._profile_name}: there is no setting {', '.join(texts)}. Run app config for a list."
            )

    def unknown(self, known: Collection[str]) -> list["UnknownSetting"]:
        """Names in ``.env`` that no setting has, and names in the environment that are nearly a setting's."""
        (environment, environ), (dotenv, lines), _ = self._layers
        found = [UnknownSetting(name, environment, near) for name in environ if (near := _nearest(name, known))]
        found += [
            UnknownSetting(name, dotenv, _nearest(name, known))
            for name in lines
            if not (name in known or name in self._of_compose or _OF_OTHERS.fullmatch(name))
        ]
        return found


_OF_OTHERS = re.compile(r"(COMPOSE|OTEL)_\w+")
_ALIKE = 0.85
"""Least ratio of difflib for two names to be taken for the same, misspelled."""


class UnknownSetting(msgspec.Struct, frozen=True):
    """A name that no setting has."""

    name: str
    source: str
    suggestion: str

    def __str__(self) -> str:
        hint = f" Did you mean {self.suggestion}?" if self.suggestion else " Run app config for a list."
        return f"There is no setting {self.name} ({self.source}).{hint}"


def _names_in_compose(dotenv: Path | None) -> frozenset[str]:
    """The variables that the compose file beside ``.env`` reads from it."""
    compose = dotenv.with_name("compose.yaml") if dotenv else None
    if compose is None or not compose.is_file():
        return frozenset()
    return frozenset(re.findall(r"\$\{(\w+)", compose.read_text(encoding="utf-8", errors="replace")))


def _nearest(name: str, known: Collection[str]) -> str:
    """The setting that an unknown name is most like; empty if there is none, or the name is known."""
    if name in known:
        return ""
    return next(iter(difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=_ALIKE)), "")


def _convert(field: msgspec.structs.FieldInfo, raw: Any, source: str) -> Any:
    try:
        kind = getattr(field.type, "__origin__", field.type)
        if hasattr(kind, "parse"):  # Rate, Networks and Origins; msgspec would look for an object or an array
            return kind.parse(str(raw))
        if isinstance(raw, str) and getattr(kind, "__origin__", None) is Literal:
            raw = raw.lower()
        return msgspec.convert(raw, field.type, strict=False, dec_hook=_parse)
    except (msgspec.ValidationError, ValueError, RuntimeError) as error:
        reason = str(error).replace("`", "'").partition(" - at ")[0]
        allowed = _allowed(field)
        text = str(raw)
        shown = "" if "Secret" in str(field.type) else f"={text if text.isprintable() else repr(text)}"
        raise ConfigError(f"{field.name.upper()}{shown} ({source}): {allowed or reason}") from error


def _allowed(field: msgspec.structs.FieldInfo) -> str:
    """Describe the values that a type accepts; empty if the error already does."""
    kind = field.type.__origin__ if hasattr(field.type, "__metadata__") else field.type
    if getattr(kind, "__origin__", None) is Literal:
        return "allowed: " + ", ".join(str(choice) for choice in kind.__args__ if choice != "")
    meta = next(
        (m for m in getattr(field.type, "__metadata__", ()) if isinstance(m, msgspec.Meta)), msgspec.Meta()
    )
    if kind is bool:
        return "expected true or false"
    if kind in (int, float):
        least = f" from {meta.ge}" if meta.ge is not None else f" above {meta.gt}" if meta.gt is not None else ""
        most = "" if meta.le is None else f" to {meta.le}" if meta.ge is not None else f", at most {meta.le}"
        return f"expected a {'whole ' if kind is int else ''}number{least}{most}"
    return f"expected {meta.description}, such as {field.default}" if meta.pattern else ""


def _about(kind: Any) -> str:
    for meta in getattr(kind, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta.description
    return ""


def _parse(kind: type, raw: Any) -> Any:
    """Read the types that msgspec does not know."""
    text = str(raw)
    if kind is Secret:
        return Secret(text)
    if kind is Url:
        return Url(text.strip())
    if kind is Path:
        return Path(text).expanduser()
    raise TypeError(f"no reader for {kind}")


def _read_dotenv(path: Path | None) -> dict[str, str]:
    """``NAME=value`` lines; ``export`` before and quotes around are allowed, ``#`` starts a comment line."""
    if path is None or not path.is_file():
        return {}
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}.") from error
    values: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ConfigError(f"{path}, line {number}: expected NAME=value.")
        if quoted := re.fullmatch(r"""\s*(["'])(.*?)\1\s*(?:\s#.*)?""", value):
            value = quoted[2]
        else:
            value = re.sub(r"\s+#.*$", "", value).strip()
        values[name.strip()] = value
    return values


def _read_profile(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return {name.upper(): value for name, value in tomllib.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: {getattr(error, 'strerror', '') or error}.") from error
