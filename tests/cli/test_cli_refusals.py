"""What cannot work ends with one line on stderr that says what is wrong and what is allowed, and an exit code."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from app_process import Console

from purveyor.kit.errors import StartupError
from purveyor.process import bind

_SECRET = "0123456789abcdef-not-to-be-shown"
_WRONG: dict[str, tuple[tuple[str, ...], dict[str, str], tuple[str, ...]]] = {
    "no such role": (("serve", "--roles", "auth,billing"), {}, ("'billing'", "auth, orders, email, catalog")),
    "no role": (("serve", "--roles", ","), {}, ("auth, orders, email, catalog",)),
    "worker without roles": (("worker",), {}, ("--roles",)),
    "no such role to migrate": (("migrate", "--roles", "x"), {}, ("'x'", "auth")),
    "no such role to describe": (("openapi", "--roles", "x"), {}, ("'x'", "auth")),
    "no such command": (("sevre",), {}, ("sevre", "serve")),
    "no such option": (("serve", "--prot", "1"), {}, ("--prot", "--port")),
    "option without a value": (("serve", "--port"), {}, ("--port",)),
    "port that is none": (("serve", "--port", "eighty"), {}, ("--port", "integer")),
    "port out of range": (("serve", "--port", "70000"), {}, ("--port", "65535")),
    "no workers": (("serve", "--workers", "0"), {}, ("--workers",)),
    "missing neighbour": (
        ("serve", "--roles", "orders"),
        {},
        ("Role orders needs role auth", "--roles auth,orders", "AUTH_SERVICE"),
    ),
    "bad choice": (("config",), {"ENVIRONMENT": "staging"}, ("ENVIRONMENT", "development", "production")),
    "bad number": (("config",), {"PASSWORD_MIN_LENGTH": "7"}, ("PASSWORD_MIN_LENGTH", "8")),
    "bad rate": (("config",), {"RATE_LIMIT_ORDERS": "60/day"}, ("RATE_LIMIT_ORDERS", "N/minute")),
    "bad network": (("config",), {"TRUSTED_PROXIES": "proxy"}, ("TRUSTED_PROXIES", "proxy")),
    "bad URL": (("serve",), {"DATABASE_URL": "mysql://x"}, ("DATABASE_URL", "postgresql://")),
    "short secret": (("serve",), {"JWT_SECRET": _SECRET[:-1]}, ("JWT_SECRET", "32 bytes")),
    "no secret in production": (("serve",), {"ENVIRONMENT": "production"}, ("JWT_SECRET", "production")),
    "bad sender": (("serve",), {"EMAIL_FROM": "the shop"}, ("EMAIL_FROM", "Name <address>")),
    "bad mail server": (("worker", "--roles", "email"), {"SMTP_URL": f"smtp://me:{_SECRET}@x:0"}, ("SMTP_URL",)),
    "password of nobody": (("serve",), {"EMAIL_PASS": _SECRET}, ("EMAIL_PASS", "EMAIL_USER")),
    "no such file": (("serve", "--config", "none.toml"), {}, ("none.toml", "No such file")),
    "unknown name in the profile": (("config", "--config", "unknown.toml"), {}, ("unknown.toml", "'databse_url'")),
    "profile that is no TOML": (("config", "--config", "broken.toml"), {}, ("broken.toml", "line 1")),
    "bad access": (("user", "role", "a@example.com", "owner"), {}, ("owner", "customer", "admin")),
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


def test_help_is_no_error(console: Console) -> None:
    done = console("serve", "--help")

    assert (done.returncode, done.stderr) == (0, "")
    for option in ("--roles", "--host", "--port", "--workers", "--config"):
        assert option in done.stdout
