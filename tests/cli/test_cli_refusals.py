"""What cannot work ends with one line on stderr that says what is wrong and what is allowed, and an exit code."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from app_process import APP, Console, environment

from collector import collecting
from purveyor.kit.errors import StartupError
from purveyor.process import bind

_SECRET = "0123456789abcdef-not-to-be-shown"
_WRONG: dict[str, tuple[tuple[str, ...], dict[str, str], tuple[str, ...]]] = {
    "no such role": (("serve", "--roles", "auth,billing"), {}, ("'billing'", "auth, orders, email, catalog")),
    "no role": (("serve", "--roles", ","), {}, ("auth, orders, email, catalog",)),
    "worker without roles": (("worker",), {}, ("--roles",)),
    "no such role to migrate": (("migrate", "--roles", "x"), {}, ("'x'", "auth")),
    "no such role to describe": (("openapi", "--roles", "x"), {}, ("'x'", "auth")),
    "no such command": (("sevre",), {}, ("'sevre'. Did you mean 'serve'", "? Available commands: ", "serve")),
    "no such option": (("serve", "--prot", "1"), {}, ("--prot", "--port")),
    "option without a value": (("serve", "--port"), {}, ("--port",)),
    "port that is none": (("serve", "--port", "eighty"), {}, ("--port", "integer")),
    "port out of range": (("serve", "--port", "70000"), {}, ("--port", "65535")),
    "host that is none": (("serve", "--host", "no.such.host.invalid"), {}, ("--host 'no.such.host.invalid'",)),
    "empty host": (("serve", "--host", ""), {}, ("--host ''",)),
    "bad setting of several": (("serve", "--workers", "2"), {"JWT_SECRET": "short"}, ("JWT_SECRET",)),
    "no workers": (("serve", "--workers", "0"), {}, ("--workers",)),
    "missing neighbour": (
        ("serve", "--roles", "orders"),
        {},
        ("Role orders needs role auth", "--roles auth,orders", "AUTH_SERVICE"),
    ),
    "bad choice": (("config",), {"ENVIRONMENT": "staging"}, ("ENVIRONMENT", "development", "production")),
    "bad number": (("config",), {"PASSWORD_MIN_LENGTH": "7"}, ("PASSWORD_MIN_LENGTH", "8")),
    "bad currency": (("config",), {"CURRENCY": "eur"}, ("CURRENCY='eur'", "ISO 4217", "such as EUR")),
    "unknown currency": (("serve",), {"CURRENCY": "XYZ"}, ("CURRENCY='XYZ'", "ISO 4217", "such as EUR")),
    "unknown time zone": (("serve",), {"SHOP_TIME_ZONE": "Europe/Berlim"}, ("SHOP_TIME_ZONE", "Europe/Berlin?")),
    "bad contact": (("serve",), {"SHOP_CONTACT": "nobody"}, ("SHOP_CONTACT", "not an email address")),
    "no such mail": (("mail", "preview", "order.lost"), {}, ("order.lost", "order.created", "user.erased")),
    "no such language": (("mail", "preview", "--language", "tlh"), {}, ("tlh", "de, en, es, fr")),
    "bad rate": (("config",), {"RATE_LIMIT_ORDERS": "60/day"}, ("RATE_LIMIT_ORDERS", "N/minute")),
    "bad network": (("config",), {"TRUSTED_PROXIES": "proxy"}, ("TRUSTED_PROXIES", "proxy")),
    "bad URL": (("serve",), {"DATABASE_URL": "mysql://x"}, ("DATABASE_URL", "postgresql://")),
    "short secret": (("serve",), {"JWT_SECRET": _SECRET[:-1]}, ("JWT_SECRET", "32 bytes")),
    "half a login for mails": (("doctor",), {"EMAIL_USER": "shop@example.com"}, ("EMAIL_PASS",)),
    "roles apart in production": (
        ("serve", "--roles", "auth"),
        {"ENVIRONMENT": "production", "JWT_SECRET": _SECRET},
        ("SERVICE_SECRET", "production", "here auth; elsewhere orders, email, shop", "32 bytes"),
    ),
    "short service secret": (("serve",), {"SERVICE_SECRET": _SECRET[:-1]}, ("SERVICE_SECRET", "32 bytes")),
    "bad address of a role": (
        ("config",),
        {"EMAIL_SERVICE": "email:8000"},
        ("EMAIL_SERVICE", "http://"),
    ),
    "shop without its peers": (
        ("serve", "--roles", "auth,orders,shop"),
        {},
        ("needs role email", "EMAIL_SERVICE"),
    ),
    "bad address of a broker": (("config",), {"RABBITMQ_URL": "nats://x"}, ("RABBITMQ_URL", "amqp://")),
    "bad address of NATS": (
        ("doctor",),
        {"NATS_URL": f"amqp://me:{_SECRET}@x"},
        ("NATS_URL", "nats://", "tls://"),
    ),
    "two brokers": (
        ("serve",),
        {"RABBITMQ_URL": f"amqp://me:{_SECRET}@x", "NATS_URL": f"nats://me:{_SECRET}@x"},
        ("RABBITMQ_URL", "NATS_URL", "not both"),
    ),
    "no secret in production": (("serve",), {"ENVIRONMENT": "production"}, ("JWT_SECRET", "production")),
    "bad sender": (("serve",), {"EMAIL_FROM": "the shop"}, ("EMAIL_FROM", "Name <address>")),
    "bad mail server": (("worker", "--roles", "email"), {"SMTP_URL": f"smtp://me:{_SECRET}@x:0"}, ("SMTP_URL",)),
    "password of nobody": (("serve",), {"EMAIL_PASS": _SECRET}, ("EMAIL_PASS", "EMAIL_USER")),
    "no such file": (("serve", "--config", "none.toml"), {}, ("none.toml", "No such file")),
    "unknown name in the profile": (
        ("config", "--config", "unknown.toml"),
        {},
        ("unknown.toml", "'databse_url' (did you mean 'database_url'?)"),
    ),
    "profile that is no TOML": (("config", "--config", "broken.toml"), {}, ("broken.toml", "line 1")),
    "URL with half a bracket": (("demo", "--url", "http://[::1"), {}, ("--url", "http://127.0.0.1:8000")),
    "URL with no such port": (("demo", "--url", "http://127.0.0.1:99999"), {}, ("--url",)),
    "no URL": (("demo", "--url", "notaurl"), {}, ("--url notaurl",)),
    "bad access": (("user", "role", "a@example.com", "owner"), {}, ("'role': 'owner' is not one of", "admin")),
    "bad outcome": (("mail", "resolve", "x", "lost"), {}, ("lost", "sent", "resend")),
}


@pytest.fixture(scope="module", autouse=True)
def profiles(folder: Path) -> None:
    (folder / "unknown.toml").write_text('databse_url = "postgresql://x"\n')
    (folder / "broken.toml").write_text("database_url =\n")


def one_line(stderr: str) -> str:
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("app: ")
    return lines[0]


@pytest.mark.parametrize(("arguments", "settings", "words"), _WRONG.values(), ids=_WRONG)
def test_wrong_use_is_told_in_one_line_with_exit_code_2(
    console: Console, arguments: tuple[str, ...], settings: dict[str, str], words: tuple[str, ...]
) -> None:
    done = console(*arguments, settings=settings)
    said = one_line(done.stderr)

    assert done.returncode == 2
    assert done.stdout == ""
    assert [word for word in words if word not in said] == [], said
    assert _SECRET[:-1] not in said


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        (("serve",), signal.SIGTERM, 0),
        (("serve",), signal.SIGINT, 0),
        (("worker", "--roles", "email"), signal.SIGTERM, 0),
        (("roles",), signal.SIGINT, 130),
    ],
    ids=str,
)
def test_a_signal_before_anything_has_started_ends_without_a_word(
    folder: Path, command: tuple[str, ...], number: int, code: int
) -> None:
    """The signal comes while the imports are under way."""
    early = (
        "import os, sys, purveyor.__main__ as app\n"
        "class Import:\n"
        f"    def find_spec(self, name, *_): name == 'typer' and os.kill(os.getpid(), {int(number)})\n"
        f"sys.meta_path.insert(0, Import()); sys.argv = {['app', *command]!r}; app.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", early],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_busy_port_is_told_in_one_line_with_exit_code_1(console: Console, taken: int) -> None:
    done = console("serve", "--roles", "catalog", "--port", str(taken))
    said = one_line(done.stderr)

    assert done.returncode == 1
    assert f"Port {taken} " in said
    assert f"--port {taken + 1}" in said


def test_the_port_of_a_worker_has_an_option_of_its_own(console: Console, taken: int) -> None:
    done = console("worker", "--roles", "email", "--health-port", str(taken))

    assert done.returncode == 1
    assert f"for example --health-port {taken + 1}." in one_line(done.stderr)


def test_the_port_that_is_proposed_is_one() -> None:
    with socket.socket() as last:
        with suppress(OSError):  # when it is somebody else's, it is busy too
            last.bind(("127.0.0.1", 65535))
            last.listen()
        with pytest.raises(StartupError, match="for example --port 65534"):
            bind("127.0.0.1", 65535)


def test_doctor_says_which_server_is_down(console: Console) -> None:
    """Nobody listens on port 1; the password is nobody's business."""
    settings = {"DATABASE_URL": f"postgresql://app:{_SECRET}@127.0.0.1:1/shop"}
    done = console("doctor", "--roles", "auth", settings=settings)
    down = [line for line in done.stdout.splitlines() if line.startswith("down")]

    assert done.returncode == 1
    assert len(down) == 1
    assert "127.0.0.1:1/shop" in down[0]
    assert "Traceback" not in done.stderr
    assert _SECRET not in done.stdout + done.stderr


def test_doctor_names_everything_that_is_down_once_with_what_to_do(console: Console) -> None:
    settings = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/shop",
        "REDIS_URL": "redis://127.0.0.1:1",
        "RABBITMQ_URL": "amqp://127.0.0.1:1",
        "MONGODB_URI": "mongodb://127.0.0.1:1/mails",
        "SMTP_URL": "smtp://127.0.0.1:1",
        "PRODUCTS_API": "http://127.0.0.1:1",
        "AUTH_SERVICE": "http://127.0.0.1:1",
    }
    done = console("doctor", "--roles", "orders,email", settings=settings)
    ill = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]

    assert done.returncode == 1
    assert sorted(re.sub(r"\(external\):.*correct", "->", line) for line in ill) == [
        "down  auth at 127.0.0.1:1 -> AUTH_SERVICE.",
        "down  mail delivery -> SMTP_URL.",
        "down  mail ledger -> MONGODB_URI.",
        "down  postgres orders, event backlog -> DATABASE_URL.",
        "down  products -> PRODUCTS_API.",
        "down  rabbitmq -> RABBITMQ_URL.",
        "down  redis -> REDIS_URL.",
    ]


def test_doctor_fails_for_a_configured_server_that_the_roles_can_do_without(console: Console) -> None:
    done = console("doctor", "--roles", "catalog,auth", settings={"REDIS_URL": "redis://127.0.0.1:1"})

    assert done.returncode == 1
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("down")] == ["redis"]


@pytest.mark.parametrize(
    ("away", "protocol", "line"),
    [
        (False, "", "ok    traces (external): the collector takes them"),
        (True, "", "warn  traces (external): the collector does not take them."),
        (
            False,
            "grpc",
            "warn  Traces are not exported: OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf",
        ),
    ],
)
def test_doctor_says_if_traces_can_be_exported(console: Console, away: bool, protocol: str, line: str) -> None:
    with collecting() as collector:
        collector.is_away = away
        settings = collector.variables | {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        done = console("doctor", "--roles", "catalog", settings=settings)

    assert done.returncode == 0
    assert [shown for shown in done.stdout.splitlines() if shown.startswith(line)]


def test_doctor_and_serve_name_misspelled_settings(console: Console, folder: Path, taken: int) -> None:
    settings = {"CURENCY": "EUR", "UNRELATED": "x"}
    doctor = console("doctor", "--roles", "catalog", "--json", settings=settings)
    process = subprocess.run(
        [*APP, "serve", "--roles", "catalog", "--port", str(taken)],
        env=environment(folder, settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    expected = "There is no setting CURENCY (environment). Did you mean CURRENCY?"
    findings = json.loads(doctor.stdout)["findings"]
    assert [each["detail"] for each in findings if each["status"] == "warn"] == [expected]
    assert [json.loads(line)["event"] for line in process.stderr.splitlines() if "CURENCY" in line] == [expected]
    assert "UNRELATED" not in process.stderr


def test_doctor_says_what_one_dead_server_takes_away_on_one_line(console: Console) -> None:
    done = console("doctor", "--roles", "auth", settings={"DATABASE_URL": "postgresql://127.0.0.1:1/shop"})
    down = [line for line in done.stdout.splitlines() if line.startswith("down")]

    assert len(down) == 1
    assert down[0].startswith("down  postgres auth, events (external): PostgreSQL at 127.0.0.1:1/shop does not")


def test_output_that_finds_no_room_is_told_in_one_line(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*APP, "roles"],
            env=environment(folder),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left" in one_line(done.stderr)


ADD = ("user", "add", "ada@example.com", "--name", "Ada")
NOT_UTF8 = "The password on standard input is not valid UTF-8."


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        (ADD, b"\xff\xfe secret pass\n", 2, NOT_UTF8),
        (
            (*ADD, "--password-stdin"),
            b"secret \xe9 pass\n",
            2,
            "The password on standard input is not valid UTF-8.",
        ),
        (ADD, None, 2, "Standard input is closed. Send the password there."),
        (("trace", b"\xff"), b"", 1, "There is no order \\udcff."),
    ],
)
def test_bytes_that_are_no_text_are_told_in_one_line(
    folder: Path, arguments: tuple[str | bytes, ...], stdin: bytes | None, code: int, said: str
) -> None:
    closes = [sys.executable, "-c", "import os, sys; os.close(0); os.execv(sys.argv[1], sys.argv[1:])"]
    done = subprocess.run(
        [*(closes if stdin is None else ()), *APP, *arguments],
        env=environment(folder),
        input=stdin or b"",
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, one_line(done.stderr.decode())) == (code, f"app: {said}")


def test_a_password_may_begin_with_a_byte_order_mark_and_end_with_crlf(console: Console, tmp_path: Path) -> None:
    settings = {"DATA_DIR": str(tmp_path)}
    short = console(*ADD, stdin="\ufeff1234567\r\n", settings=settings)  # 7 characters

    assert "/password" in one_line(short.stderr)


def test_output_that_is_closed_is_no_error(folder: Path) -> None:
    closes = "import os, sys; os.close(1); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", closes, *APP, "roles"],
        env=environment(folder),
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_help_is_no_error(console: Console, command: str) -> None:
    done = console(command, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    for option in ("--roles", "--host", "--port", "--workers", "--config"):
        assert option in done.stdout
