"""Every command beside a running shop of two processes that share nothing but their DATA_DIR."""

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from app_process import APP, Console, environment

from purveyor.cli.output import out, table
from purveyor.registry import ROLES
from purveyor_drill.servers.process import free_port
from waiting import PATIENCE_S, wait_until

PASSWORD = "correct horse"
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


def start(folder: Path, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a process, and wait until it says that it is ready."""
    with log.open("wb") as stderr:
        process = subprocess.Popen([*APP, *arguments], env=environment(folder), cwd=folder, stderr=stderr)
    wait_until(lambda: '"ready"' in log.read_text() or process.poll() is not None)
    assert process.poll() is None, log.read_text()
    return process


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(PATIENCE_S)
    finally:
        process.kill()


@dataclass
class Shop:
    url: str
    order_id: str
    order_number: int
    event_id: str = ""

    def call(self, path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.loads(answer.read())


def until(console: Console, wanted: str, *arguments: str) -> str:
    """What a command prints once it says what it is to say; a mail takes its time."""

    def said() -> str:
        done = console(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout if wanted in done.stdout else ""

    return wait_until(said)


@pytest.fixture(scope="module")
def running(console: Console, folder: Path) -> Iterator[Shop]:
    """An order was placed with an idempotency key, and its mail has arrived."""
    port = free_port()
    logs = folder / "front.log", folder / "mails.log"
    front = start(folder, logs[0], "serve", "--roles", "auth,orders", "--port", str(port))
    mails = start(folder, logs[1], "worker", "--roles", "email", "--workers", "2")
    try:
        running = Shop(f"http://127.0.0.1:{port}", "", 0)
        person = {"email": "ada@example.com", "password": PASSWORD}
        running.call("/register", {**person, "name": "Ada Lovelace"})
        token = running.call("/login", person)["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "the-key"}
        order = running.call("/api/orders/", {"items": [{"product_id": 1, "quantity": 2}]}, **headers)
        running.order_id, running.order_number = order["id"], order["order_number"]
        # Not the first that was sent: a new customer is welcomed too.
        number = f" {running.order_number} "
        listed = until(console, number, "mail", "list", "--state", "sent").splitlines()
        running.event_id = _ID.findall(next(line for line in listed if number in line))[0]
        yield running
    finally:
        codes = stop(mails), stop(front)
    assert codes == (0, 0), [log.read_text() for log in logs]
    assert all("Traceback" not in log.read_text() for log in logs)


def test_a_worker_serves_the_mails_of_another_process(running: Shop, console: Console) -> None:
    line = next(row for row in console("mail", "list").stdout.splitlines() if running.event_id in row)

    assert str(running.order_number) in line
    assert "ada@example.com" in line
    assert "250" in line


def test_mail_list_by_state(running: Shop, console: Console) -> None:
    assert running.event_id in console("mail", "list", "--state", "sent").stdout
    assert console("mail", "list", "--state", "failed").stdout == "No emails found.\n"


def test_mail_show(running: Shop, console: Console) -> None:
    shown = console("mail", "show", running.event_id).stdout

    assert re.search(r"^state +sent", shown, re.MULTILINE)
    assert "Subject: " in shown
    assert str(running.order_number) in shown
    assert "To: Ada Lovelace <ada@example.com>" in shown
    assert "\nHello Ada Lovelace,\n" in shown
    assert "=3D" not in shown

    source = console("mail", "show", running.event_id, "--source").stdout
    assert source.startswith("Date: ")
    assert "Content-Transfer-Encoding: quoted-printable" in source

    found = json.loads(console("mail", "show", running.event_id, "--json").stdout)
    assert found["record"]["event_id"] == running.event_id
    assert "Ada Lovelace <ada@example.com>" in dict(found["headers"])["To"]
    assert found["text"].startswith("Hello Ada Lovelace,")
    assert found["message"].split() == source.split()


def test_mail_resend_and_resolve(running: Shop, console: Console) -> None:
    refused = console("mail", "resolve", running.event_id, "sent")
    resent = console("mail", "resend", running.event_id)

    assert refused.returncode == 1, "only a doubtful mail is to be settled"
    assert refused.stderr.startswith("app: ")
    assert len(refused.stderr.splitlines()) == 1
    assert resent.returncode == 0, resent.stderr
    assert "ada@example.com" in resent.stdout
    until(console, running.event_id, "mail", "list", "--state", "sent")


def test_events_list_show_and_replay(running: Shop, console: Console) -> None:
    waiting, published = console("events", "list"), console("events", "list", "--all")
    shown = console("events", "show", running.event_id)
    replayed = console("events", "replay", running.event_id)

    assert waiting.stdout == "No events are waiting, and there are no dead letters.\n"
    assert re.search(rf"{running.event_id} +order\.created +published", published.stdout)
    assert f'"order_number":{running.order_number}' in shown.stdout
    assert "ada@example.com" in shown.stdout
    assert (replayed.returncode, replayed.stdout) == (0, f"Event {running.event_id} will be delivered again.\n")


@pytest.mark.parametrize("by", ["order_id", "order_number"])
def test_trace(running: Shop, console: Console, by: str) -> None:
    name = str(getattr(running, by))
    traced = until(console, "confirmed by the transport", "trace", name)  # it was replayed just now

    for step in (
        f"order {running.order_number}, {running.order_id}",
        "order stored",
        "the-key",
        "order.created in the outbox",
        "confirmed by the transport",
        "mail in the ledger",
        "mail sent",
    ):
        assert step in traced


def test_json_of_mails_events_and_traces(running: Shop, console: Console) -> None:
    mails = json.loads(console("mail", "list", "--json").stdout)
    event = json.loads(console("events", "show", running.event_id, "--json").stdout)["events"][0]
    traced = json.loads(console("trace", running.order_id, "--json").stdout)

    assert running.event_id in {mail["event_id"] for mail in mails}
    assert event["body"]["order_number"] == running.order_number
    assert (traced["order_number"], traced["order_id"]) == (running.order_number, running.order_id)
    assert "order stored" in {step["what"] for step in traced["steps"]}


def test_status_counts_the_last_hour(running: Shop, console: Console) -> None:
    screen, found = console("status"), json.loads(console("status", "--json").stdout)

    assert screen.returncode == 0, screen.stderr
    assert len(screen.stdout.splitlines()) <= 24
    assert found["last_hour"]["order.created"] >= 1
    assert found["last_hour"]["emails sent"] >= 1
    assert (found["dead_letters"], found["mails_failed"]) == (0, {})


def test_what_people_write_is_shown_as_it_is(running: Shop, console: Console) -> None:
    """Square brackets mean something to the library that prints."""
    person = {"email": "bob@example.com", "password": PASSWORD}
    running.call("/register", {**person, "name": "Bob [/b] X"})
    headers = {"Authorization": f"Bearer {running.call('/login', person)['access_token']}"}
    order = running.call("/api/orders/", {"items": [{"product_id": 1, "quantity": 1}]}, **headers)
    running.call(f"/api/orders/{order['id']}/cancel", {"reason": "[red]late[/red] [/]"}, **headers)

    assert "[red]late[/red] [/]" in console("trace", order["id"]).stdout
    listed = until(console, "order.cancelled", "events", "list", "--all")
    cancelled = next(line for line in listed.splitlines() if "order.cancelled" in line)
    shown = console("events", "show", cancelled.split()[0])
    assert "Bob [/b] X" in shown.stdout, shown.stderr


def test_foreign_text_commands_no_terminal_and_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    foreign = "blocked [/policy] :x: \x1b[2J\x9b31m\nok"
    shown = table("Reply")
    shown.add_row(foreign)
    out.print(shown)
    out.print(foreign)

    expected = r"blocked [/policy] :x: \x1b[2J\x9b31m\nok"
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == ["Reply", expected, expected]


@pytest.mark.parametrize(
    "arguments",
    [
        ("trace", "1"),
        ("events", "show", "no-id"),
        ("events", "replay", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("mail", "show", "no-id"),
        ("user", "role", "nobody@example.com", "admin"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_told_in_one_line(
    running: Shop, console: Console, arguments: tuple[str, ...]
) -> None:
    done = console(*arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"app: There is no .*\n", done.stderr)


def test_users_are_made_and_promoted_from_the_console(running: Shop, console: Console) -> None:
    add = ("user", "add", "Grace@Example.com", "--name", "Grace Hopper", "--password-stdin")
    added, again = (console(*add, "--role", "staff", stdin=f"{PASSWORD}\n") for _ in range(2))
    weak = console("user", "add", "x@example.com", "--name", "X", "--password-stdin", stdin="password\n")
    changed = console("user", "role", "grace@example.com", "admin")

    assert re.fullmatch(rf"Created grace@example\.com with role staff, ID {_ID.pattern}\.\n", added.stdout)
    assert (again.returncode, again.stdout) == (1, "")
    assert "An account with this email address already exists" in again.stderr
    assert (weak.returncode, len(weak.stderr.splitlines())) == (1, 1)
    assert "/password" in weak.stderr
    assert changed.stdout == "grace@example.com now has role admin.\n"
    token = running.call("/login", {"email": "grace@example.com", "password": PASSWORD})["access_token"]
    assert running.call("/verify-token", {}, Authorization=f"Bearer {token}")["role"] == "admin"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_in_a_pipe_is_asked_for_once(running: Shop, console: Console, end: str) -> None:
    email = f"piped{len(end)}@printer.local"
    add = ("user", "add", email, "--name", "Mary Somerville")
    nothing = console(*add)
    added = console(*add, stdin=f"{PASSWORD}{end}")

    assert (nothing.returncode, nothing.stdout, len(nothing.stderr.splitlines())) == (1, "", 1)
    assert "/password" in nothing.stderr
    assert (added.returncode, added.stderr) == (0, "")
    assert re.fullmatch(rf"Created {re.escape(email)} with role customer, ID {_ID.pattern}\.\n", added.stdout)
    assert running.call("/login", {"email": email, "password": PASSWORD})["access_token"]


def test_demo_makes_orders_in_every_state_it_says(running: Shop, console: Console) -> None:
    done = console("demo", "--url", running.url, "--users", "12", "--orders", "40", "--seed", "7")
    assert done.returncode == 0, done.stderr
    email, password = re.search(r"^Staff: +(\S+) +password (\S+)$", done.stdout, re.MULTILINE).groups()  # type: ignore[union-attr]
    token = running.call("/login", {"email": email, "password": password})["access_token"]
    orders = running.call("/api/orders/?limit=100", Authorization=f"Bearer {token}")["orders"]

    assert "Created 12 customers and 40 orders." in done.stdout
    assert len(orders) >= 40
    assert {order["status"] for order in orders} == {"pending", "confirmed", "shipped", "delivered", "cancelled"}
    assert {order["payment_status"] for order in orders} == {"unpaid", "paid"}


def test_demo_without_a_server_or_with_half_a_login_is_told_in_one_line(console: Console) -> None:
    nobody = console("demo", "--url", f"http://127.0.0.1:{free_port()}", "--users", "1", "--orders", "0")
    half = console("demo", "--staff", "grace@example.com")

    assert (nobody.returncode, half.returncode) == (1, 2)
    assert nobody.stderr.startswith("app: There is no server at http://127.0.0.1:")
    assert half.stderr == "app: --staff: expected EMAIL:PASSWORD.\n"


def test_demo_says_that_the_server_has_another_database(running: Shop, console: Console, tmp_path: Path) -> None:
    done = console("demo", "--url", running.url, "--users", "1", settings={"DATA_DIR": str(tmp_path)})

    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert f"The server at {running.url} uses another database" in done.stderr


def test_the_schema_is_up_to_date(running: Shop, console: Console) -> None:
    assert console("migrate").stdout == "All schemas are up to date.\n"


def test_doctor_finds_everything_well(running: Shop, console: Console) -> None:
    done = console("doctor")

    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}
    assert "postgres orders (embedded)" in done.stdout


def test_roles_are_listed(console: Console) -> None:
    listed = console("roles").stdout

    assert [name for name in ROLES if not re.search(rf"^{name} ", listed, re.MULTILINE)] == []
    assert re.search(r"^orders .* order\.created, .* auth +purveyor \d\S* *$", listed, re.MULTILINE)


def test_config_tells_values_and_their_sources_but_no_secret(console: Console, folder: Path) -> None:
    secret = "canary-" * 6
    (folder / "shop.toml").write_text('rate_limit_orders = "5/second"\nlog_level = "debug"\n')
    settings = {
        "JWT_SECRET": secret,
        "EMAIL_PASS": secret,
        "LOG_LEVEL": "warning",
        "SMTP_URL": f"smtps://shop:{secret}@mail.example.com:465",
        "ORDERS_DATABASE_URL": f"postgresql://shop:{secret}@db.example.com/orders",
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={secret}",
    }
    shown = console("config", "--config", "shop.toml", settings=settings)

    assert shown.returncode == 0, shown.stderr
    assert secret not in shown.stdout
    for row in (
        r"JWT_SECRET +\*\*\*\* +environment",
        r"EMAIL_PASS +\*\*\*\* +environment",
        r"SMTP_URL +smtps://shop:\*\*\*\*@mail\.example\.com:465 +environment",
        r"ORDERS_DATABASE_URL +postgresql://shop:\*\*\*\*@db\.example\.com/orders +environment",
        r"OTEL_EXPORTER_OTLP_HEADERS +\*\*\*\* +environment",
        r"LOG_LEVEL +warning +environment",
        r"RATE_LIMIT_ORDERS +5/second +shop\.toml",
        r"RATE_LIMIT_LOGIN +10/minute +default",
    ):
        assert re.search(rf"^{row}", shown.stdout, re.MULTILINE), row


def test_openapi_needs_no_server_and_no_settings(console: Console) -> None:
    whole = json.loads(console("openapi", settings={"DATABASE_URL": "postgresql://127.0.0.1:1/x"}).stdout)
    part = json.loads(console("openapi", "--roles", "catalog", "--indent", "0").stdout)

    assert {"/register", "/api/orders", "/catalog/products"} <= set(whole["paths"])
    assert set(part["paths"]) < set(whole["paths"])
    assert "/register" not in part["paths"]
