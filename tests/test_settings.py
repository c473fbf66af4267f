"""Where settings come from and in which order, what is said of a bad one, and that no secret shows."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from purveyor.host import choose_transport, declared_settings
from purveyor.kit.errors import ConfigError
from purveyor.kit.limits.memory import Rate
from purveyor.registry import ROLES
from purveyor.settings import Networks, Secret, Settings, Sources, Url, base_path_of, origin_of


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of each type."""

    text: Annotated[str, Meta(description="any text")] = "default"
    size: Annotated[int, Meta(ge=1, le=9, description="from 1 to 9")] = 5
    wait_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    on: bool = False
    choice: Literal["a", "b"] = "a"
    rate: Rate = Rate(60, 60)
    key: Secret = Secret()
    service_url: Url = Url()
    folder: Annotated[Path, Meta(description="a place")] = Path("somewhere")
    networks: Networks = Networks()


CANARY = "canary-5ecret"


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Write ``.env`` and ``profile.toml``, and read the settings with them and an environment."""

    def sources(toml: str | None = None, dotenv: str | None = None, **environ: str) -> Sources:
        profile, env = tmp_path / "profile.toml", tmp_path / ".env"
        if toml is not None:
            profile.write_text(toml, encoding="utf-8")
        if dotenv is not None:
            env.write_text(dotenv, encoding="utf-8")
        return Sources(profile if toml is not None else None, environ, env)

    return sources


def refused(sources: Sources, kind: type[msgspec.Struct] = Sample) -> str:
    """The one line that a bad setting is refused with."""
    with pytest.raises(ConfigError) as error:
        sources.load(kind)
    line = str(error.value)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert CANARY not in line
    return line


def load_all(sources: Sources) -> list[msgspec.Struct]:
    """Every setting there is, as a process reads it."""
    choose_transport(sources)
    return [sources.load(kind) for kind in declared_settings(ROLES.values())]


# --- precedence


@pytest.mark.parametrize(
    ("toml", "dotenv", "environ", "expected"),
    [
        (None, None, {}, ("default", "default")),
        ('text = "toml"', None, {}, ("toml", "profile.toml")),
        ('text = "toml"', "TEXT=dotenv", {}, ("dotenv", ".env")),
        ('text = "toml"', "TEXT=dotenv", {"TEXT": "environ"}, ("environ", "environment")),
        ('text = "toml"', None, {"TEXT": "environ"}, ("environ", "environment")),
        ('text = "toml"', "TEXT=dotenv", {"TEXT": ""}, ("dotenv", ".env")),
        ('text = "toml"', "TEXT=", {"TEXT": ""}, ("toml", "profile.toml")),
        ('text = ""', "TEXT=", {"TEXT": ""}, ("default", "default")),
        ('text = "toml"', "OTHER=1", {"OTHER": "2"}, ("toml", "profile.toml")),
    ],
)
def test_the_order_and_that_empty_is_unset(
    files: Any, toml: str | None, dotenv: str | None, environ: dict[str, str], expected: tuple[str, str]
) -> None:
    sources = files(toml, dotenv, **environ)
    (entry,) = [entry for entry in sources.entries([Sample]) if entry.name == "TEXT"]

    assert (sources.load(Sample).text, sources.find("TEXT")[1]) == expected
    assert (entry.value, entry.source) == expected


def test_every_type_is_read_from_text_and_from_toml(files: Any) -> None:
    texts = {
        "TEXT": "x",
        "SIZE": "9",
        "WAIT_S": "0.5",
        "ON": "true",
        "CHOICE": "b",
        "RATE": "5/second",
        "KEY": "k",
        "SERVICE_URL": " http://x ",
        "FOLDER": "~/there",
        "NETWORKS": "10.0.0.0/8, fd00::/8",
    }
    toml = (
        'text = "x"\nsize = 9\nwait_s = 0.5\non = true\nchoice = "b"\nrate = "5/second"\nkey = "k"\n'
        'service_url = "http://x"\nfolder = "~/there"\nnetworks = "10.0.0.0/8 fd00::/8"\n'
    )
    expected = Sample(
        text="x",
        size=9,
        wait_s=0.5,
        on=True,
        choice="b",
        rate=Rate(5, 1),
        service_url=Url("http://x"),
        folder=Path.home() / "there",
        networks=Networks.parse("10.0.0.0/8,fd00::/8"),
    )
    for loaded in (files(**texts).load(Sample), files(toml).load(Sample)):
        assert loaded.key.reveal() == "k"
        assert msgspec.structs.replace(loaded, key=expected.key) == expected


def test_false_and_zero_in_a_profile_are_values(files: Any) -> None:
    class Switch(msgspec.Struct, frozen=True):
        on: bool = True
        count: int = 7

    assert files("on = false\ncount = 0").load(Switch) == Switch(on=False, count=0)


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SIZE=3\nTEXT=dotenv\n")
    monkeypatch.setenv("TEXT", "environ")

    loaded = Sources().load(Sample)
    assert (loaded.size, loaded.text) == (3, "environ")


# --- bad values


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SIZE", "0", "expected a whole number from 1 to 9"),
        ("SIZE", "10", "expected a whole number from 1 to 9"),
        ("SIZE", "x", "expected a whole number from 1 to 9"),
        ("SIZE", "1.5", "whole number"),
        ("WAIT_S", "0", "expected a number above 0, at most 60"),
        ("WAIT_S", "nan", "above 0"),
        ("WAIT_S", "inf", "at most 60"),
        ("WAIT_S", "2s", "number above 0"),
        ("ON", "maybe", "expected true or false"),
        ("CHOICE", "c", "allowed: a, b"),
        ("RATE", "60", "N/second, N/minute or N/hour"),
        ("RATE", "0/minute", "from 1"),
        ("NETWORKS", "10.0.0.1/8", "own address, 10.0.0.0/8"),
        ("NETWORKS", "10.0.0.0/8, office", "'office'"),
        ("FOLDER", "~nobody-of-that-name/x", "home directory"),
        ("SIZE", "1\n2", "whole number"),
        ("SIZE", "\x1b[2J", "whole number"),
        ("CHOICE", "c\r\nSIZE=1", "allowed: a, b"),
    ],
)
def test_a_bad_value_is_one_line_with_the_name_the_source_and_what_is_allowed(
    files: Any, name: str, value: str, allowed: str
) -> None:
    line = refused(files(**{name: value}))

    assert line.startswith(f"{name}=")
    assert "(environment)" in line
    assert allowed in line
    if value.isprintable():
        assert value in line


@pytest.mark.parametrize("toml", ["size = 10", 'size = "many"', "size = [1]", "size = 1.5", "size = 2020-01-01"])
def test_a_bad_value_in_a_profile_names_the_profile(files: Any, toml: str) -> None:
    line = refused(files(toml))

    assert line.startswith("SIZE=")
    assert "(profile.toml)" in line


def test_a_bad_value_in_dotenv_names_it(files: Any) -> None:
    assert "(.env)" in refused(files(None, "SIZE=none"))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("ENVIRONMENT", "staging", "allowed: development, production"),
        ("LOG_LEVEL", "loud", "allowed: debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "allowed: json, console"),
        ("ASK_TIMEOUT_S", "0", "above 0"),
        ("STARTUP_WAIT_S", "601", "from 0 to 600"),
        ("DATABASE_STATEMENT_CACHE", "-1", "from 0"),
        ("TRUSTED_PROXIES", "all", "'all'"),
        ("DATABASE_URL", f"mysql://u:{CANARY}@h/d", "postgresql://"),
        ("DATABASE_URL", CANARY, "postgresql://"),
        ("REDIS_URL", f"http://:{CANARY}@h", "redis://"),
        ("RABBITMQ_URL", f"amqp:{CANARY}", "amqp://"),
        ("AUTH_SERVICE", f"ftp://u:{CANARY}@h", "http://"),
        ("RABBITMQ_URL", f"amqp://u:{CANARY}@[::", "a host and a port"),
        ("RABBITMQ_URL", f"amqp://u:{CANARY}@h:99999/", "a host and a port"),
        ("RABBITMQ_URL", f"amqp://u:{CANARY}#@h/", "ercent-encode"),
        ("NATS_URL", f"nats://{CANARY}@h", "A token is not supported"),
        ("NATS_MONITOR_URL", "https://h:8222", "http://"),
        ("DATABASE_URL", f"postgresql://u:{CANARY}@[::", "a host and a port"),
        ("DATABASE_URL", f"postgresql://u:{CANARY}@h:5432,i:99999/d", "a host and a port"),
        ("REDIS_URL", f"redis://:{CANARY}@h:x/", "a host and a port"),
        ("AUTH_SERVICE", f"http://u:{CANARY}@[::", "a host and a port"),
        ("SERVICE_SECRET", f"{CANARY}-short", "at least 32 bytes"),
        ("PUBLIC_URL", "shop.example", "http://"),
        ("CORS_ORIGINS", "https://a.test https://b.test/path", "'https://b.test/path'"),
        ("CORS_ORIGINS", "front.test", "https://store.example"),
        ("CORS_ORIGINS", "https://user@a.test", "https://store.example"),
        ("CORS_ORIGINS", "null", "https://store.example"),
    ],
)
def test_the_settings_of_every_process(files: Any, name: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_all(files(**{name: value}))

    assert str(error.value).startswith(name)
    assert allowed in str(error.value)
    assert CANARY not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://u:p@one:5432,[::1]:5433,three/d?sslmode=require"),
        ("DATABASE_URL", "postgresql:///d?host=/run/postgresql"),
        ("DATABASE_URL", "postgres://u:p@%2Frun%2Fpostgresql/d"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("RABBITMQ_URL", "amqps://u:p%40%23@[::1]:5671/%2F"),
        ("NATS_URL", "nats://u:p%40@one:4222,two:4222,nats://v:q@[::1]:4222"),
        ("AUTH_SERVICE", "http://auth"),
    ],
)
def test_urls_of_every_form(files: Any, name: str, value: str) -> None:
    loaded = load_all(files(**{name: value}))
    assert [getattr(each, name.lower()) for each in loaded if hasattr(each, name.lower())] == [value]


_THREE = ("https://a.test", "http://localhost:5173", "https://*.b.test")


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://Front.test/", ("https://front.test",)),
        ("https://a.test, http://localhost:5173  https://*.b.test", _THREE),
        ("https://a.test:443/ http://a.test:80", ("https://a.test", "http://a.test")),
        ("https://a.test:80 http://a.test:443", ("https://a.test:80", "http://a.test:443")),
        ("*", ("*",)),
        ("https://[::1]:8000", ("https://[::1]:8000",)),
    ],
)
def test_origins_are_read_from_a_list(files: Any, text: str, origins: tuple[str, ...]) -> None:
    assert files(CORS_ORIGINS=text).load(Settings).cors_origins == origins


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://x.test/store/", "https://x.test", "/store"),
        ("http://u:p@X.test:8000", "http://x.test:8000", ""),
        ("https://x.test/", "https://x.test", ""),
        ("", "", ""),
    ],
)
def test_origin_and_path_of_a_url(url: str, origin: str, path: str) -> None:
    assert (origin_of(url), base_path_of(url)) == (origin, path)


def test_a_choice_may_be_written_in_capitals(files: Any) -> None:
    loaded = files(LOG_LEVEL="WARNING", LOG_FORMAT="JSON", ENVIRONMENT="Production").load(Settings)

    assert (loaded.log_level, loaded.log_format, loaded.environment) == ("warning", "json", "production")


# --- secrets


SECRET_URLS = [
    f"postgresql://user:{CANARY}@host/db",
    f"postgresql://user:{CANARY}@ss@host/db",
    f"postgresql://user:a@{CANARY}@host/db",
    f"postgresql://user:a/{CANARY}@host/db",
    f"postgresql://user:a:{CANARY}@host/db",
    f"rediss://:{CANARY}@host:6380/0",
    f"postgresql:///db?host=/run&user=u&password={CANARY}",
    f"postgresql://host/db?password={CANARY}&application_name=x",
]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_a_password_in_a_url_is_masked_wherever_it_is_shown(files: Any, url: str) -> None:
    sources = files(SERVICE_URL=url, KEY=CANARY)
    loaded = sources.load(Sample)
    entries = {entry.name: entry.value for entry in sources.entries([Sample])}

    assert loaded.service_url == url, "the driver gets it whole"
    assert CANARY not in repr(loaded)
    assert CANARY not in str(loaded)
    assert CANARY not in entries["SERVICE_URL"]
    assert "****" in entries["SERVICE_URL"]
    assert "host" in entries["SERVICE_URL"], "and what is no secret is still there"


@pytest.mark.parametrize("url", ["postgresql://host:5432/db", "http://127.0.0.1:8001", "amqp://guest@host//", ""])
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert Url(url).masked == url


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret(CANARY)

    assert secret.reveal() == CANARY
    assert {str(secret), repr(secret), f"{secret}", "%s" % secret} == {"****"}  # noqa: UP031 - as logging does
    assert secret
    assert not Secret()
    assert str(Secret()) == ""
    assert CANARY not in repr([secret, {"key": secret}])


def test_a_secret_is_masked_in_the_entries_and_may_be_anything(files: Any) -> None:
    sources = files(f'key = "{CANARY}"')
    entries = {entry.name: entry for entry in sources.entries([Sample])}

    assert entries["KEY"].value == "****"
    assert CANARY not in repr(entries)
    assert entries["SIZE"].about == "from 1 to 9"
    assert entries["SIZE"].value == "5"


# --- profiles


KNOWN = {"SIZE", "TEXT", "LOG_LEVEL", "CURRENCY", "AUTH_SERVICE", "DATA_DIR", "ORTHERS_DATABASE_URL"}


def test_a_name_that_no_setting_has_is_refused_in_a_profile_only(files: Any) -> None:
    sources = files("siez = 3\nCURENCY = 'EUR'", "SIEZ=3", SIEZ="3")
    message = r"^profile\.toml: there is no setting 'siez', 'curency' \(did you mean 'currency'\?\)\."
    with pytest.raises(ConfigError, match=message):
        sources.refuse_unknown(KNOWN)

    files('text = "x"\nlog_level = "info"\northers_database_url = "x"').refuse_unknown(KNOWN)
    files("otel_traces_sampler_arg = 0.01").refuse_unknown(KNOWN)


def test_names_of_others_are_found_by_how_they_begin(files: Any) -> None:
    sources = files("otel_a = 0.5\notel_b = 2", "OTEL_B=3\nOTHER=1", OTEL_C="", OTEL_D="4")

    assert sources.starting_with("OTEL_") == {"OTEL_A": "0.5", "OTEL_B": "3", "OTEL_D": "4"}


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("CURENCY", "CURRENCY"),
        ("currency", "CURRENCY"),
        ("DATADIR", "DATA_DIR"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("AUTH_SERVICE_URL", "AUTH_SERVICE"),
        ("AUTH_SERVICE_HOST", ""),  # Kubernetes sets it for a service of that name
        ("XDG_DATA_DIRS", ""),
        ("PATH", ""),
        ("CURRENCY", ""),
    ],
)
def test_a_name_in_the_environment_that_is_nearly_a_setting_is_found(
    files: Any, name: str, suggestion: str
) -> None:
    found = files(**{name: "x"}).unknown(KNOWN)

    assert [(each.name, each.source, each.suggestion) for each in found] == (
        [(name, "environment", suggestion)] if suggestion else []
    )


def test_every_unknown_name_in_dotenv_is_found_but_those_of_compose(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CURENCY=x\nMY_OWN=1\nHTTP_PORT=80\nCOMPOSE_PROFILES=x\nSIZE=3\n")
    (tmp_path / "compose.yaml").write_text("ports: ['${HTTP_PORT:-8080}:8000']\n")

    assert [str(each) for each in Sources(environ={}, dotenv=tmp_path / ".env").unknown(KNOWN)] == [
        "There is no setting CURENCY (.env). Did you mean CURRENCY?",
        "There is no setting MY_OWN (.env). Run app config for a list.",
    ]


@pytest.mark.parametrize(
    "content",
    [b"size = ", b"= 1", b"size = 1\nsize = 2", b"\xff\xfe", b'text = "\xff"', b"[[[", b"size\n"],
)
def test_a_profile_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    profile = tmp_path / "bad.toml"
    profile.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        Sources(profile, {}, None)

    assert str(error.value).startswith("--config ")
    assert "bad.toml" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--config .*none\.toml: No such file"):
        Sources(tmp_path / "none.toml", {}, None)
    with pytest.raises(ConfigError, match=r"^--config .*: Is a directory"):
        Sources(tmp_path, {}, None)


# --- .env


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("TEXT=x", "x"),
        ("  TEXT = x  ", "x"),
        ("export TEXT=x", "x"),
        ("TEXT='x y'", "x y"),
        ('TEXT=" x "', " x "),
        ('TEXT="x # y"', "x # y"),
        ('TEXT="x" # why', "x"),
        ("TEXT='x'   # it's why", "x"),
        ("TEXT=x # why", "x"),
        ("TEXT=x#y", "x#y"),
        ("TEXT=#x", "#x"),
        ("TEXT=a=b=c", "a=b=c"),
        ("TEXT='x\"", "'x\""),
        ("TEXT='", "'"),
        ("TEXT=$HOME", "$HOME"),
        ("TEXT=grüße", "grüße"),
        ("# TEXT=y\n\nTEXT=x\n#", "x"),
        ("TEXT=y\nTEXT=x", "x"),
        ("TEXT=x\r\nSIZE=1\r\n", "x"),
        ("\ufeffTEXT=x", "x"),
        ("TEXT=", "default"),
        ("TEXT=''", "default"),
        ("TEXT=   # nothing", "default"),
    ],
)
def test_a_line_of_dotenv(files: Any, line: str, value: str) -> None:
    assert files(None, line).load(Sample).text == value


@pytest.mark.parametrize("line", ["TEXT", "=x", "a b=x", "1A=x", "SIZE=1\nwhat is this", "A-B=x", "<<<<<<< HEAD"])
def test_a_line_of_dotenv_that_is_none(files: Any, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        files(None, f"{line} ")

    assert f"line {line.count(chr(10)) + 1}: expected NAME=value." in str(error.value)
    assert "what is this" not in str(error.value)


def test_a_dotenv_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"TEXT=\xff\xfe")
    with pytest.raises(ConfigError) as error:
        Sources(None, {}, path)

    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_no_dotenv_is_no_matter(tmp_path: Path) -> None:
    assert Sources(None, {}, tmp_path / ".env").load(Sample) == Sources(None, {}, None).load(Sample)


@given(st.dictionaries(st.sampled_from(["TEXT", "SIZE", "ON", "RATE", "NETWORKS", "CHOICE", "WAIT_S"]), st.text()))
def test_any_value_is_read_or_refused_by_its_name(environ: dict[str, str]) -> None:
    try:
        Sources(None, environ, None).load(Sample)
    except ConfigError as error:
        line = str(error)
    else:
        return
    assert line.partition("=")[0] in environ
    assert len(line.splitlines()) == 1
