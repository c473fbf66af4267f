"""``app drill``: fault injection under load on private servers."""

import asyncio
import secrets
import signal
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from purveyor.cli.options import read_sources
from purveyor.kit.errors import ConfigError, StartupError
from purveyor.settings import Settings

if TYPE_CHECKING:  # part of the extra "drill"
    from rich.console import Console

    from purveyor_drill.report import Report, Run
    from purveyor_drill.schedule import Action

_SERVER_MISSING = 69
"""EX_UNAVAILABLE of sysexits.h: a required server is not installed."""
_GIVEN = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "NATS_URL", "MONGODB_URI")
_OF_THE_EXTRA = ("purveyor_drill", "aiosmtpd", "pymongo")

_Shape = Annotated[Literal["embedded", "monolith", "split"], typer.Option(help="Shape to test.")]
_Seconds = Annotated[float, typer.Option(help="Duration of the load.", min=5, max=86_400)]
_Rate = Annotated[float, typer.Option(help="Orders per second.", min=0.1, max=1000)]
_Seed = Annotated[int | None, typer.Option(help="Seed of the load and the faults.", show_default="random")]
_Policy = Annotated[Literal["resend", "park"], typer.Option(help="Value of MAIL_DOUBTFUL.")]
_Ledger = Annotated[
    Literal["postgres", "mongodb"] | None,
    typer.Option(help="Where the mail ledger is kept.", show_default="mongodb if mongod is installed"),
]
_Broker = Annotated[Literal["rabbitmq", "nats"], typer.Option(help="What carries the events on servers.")]
_Only = Annotated[
    str, typer.Option(help="Inject only these faults, such as kill,freeze.", show_default="all faults")
]
_Report = Annotated[
    Path | None,
    typer.Option(help="Folder for report, journal and logs.", show_default="drill-TIME-SEED"),
]
_UseSettings = Annotated[
    bool,
    typer.Option(
        "--use-settings",
        help="Use the servers of the settings, with the application stopped. Test data is left there.",
    ),
]


def drill(
    *,
    shape: _Shape = "embedded",
    seconds: _Seconds = 60,
    rate: _Rate = 50,
    seed: _Seed = None,
    mail_doubtful: _Policy = "resend",
    ledger: _Ledger = None,
    broker: _Broker = "rabbitmq",
    only: _Only = "",
    report: _Report = None,
    use_settings: _UseSettings = False,
) -> None:
    """Inject faults under load and check that nothing is lost and that no duplicate goes unrecorded.

    Processes are killed and frozen and connections are cut, while orders are placed and changed and mails sent.
    Starts its own servers and a mail server that delivers nothing. Ctrl-C ends the load early and still checks the
    result. Exit codes: 0 all invariants hold, 1 an invariant is violated, 69 a server is not installed.
    """
    _require_package()
    from purveyor_drill.report import Run
    from purveyor_drill.testbed import default_ledger

    chosen_seed = secrets.randbelow(1_000_000) if seed is None else seed
    options = Run(
        shape=shape,
        seconds=seconds,
        rate=rate,
        seed=chosen_seed,
        policy=mail_doubtful,
        ledger=ledger or default_ledger(),
        broker=broker,
        only=_actions(only),
        use_settings=use_settings,
    )
    given = _given_servers(use_settings, shape)
    folder = report or Path(f"drill-{time.strftime('%Y%m%d-%H%M%S')}-{chosen_seed}")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"--report {folder}: the folder is not empty. Choose a new one.")
    _run(options, folder, given)


def _require_package() -> None:
    try:
        import_module("purveyor_drill.runner")
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in _OF_THE_EXTRA:
            raise
        raise ConfigError(
            f'The drill is not installed ({package} is missing). Run: pip install "purveyor[drill]"'
        ) from missing


def _given_servers(use_settings: bool, shape: str) -> dict[str, str] | None:
    """The server URLs of the settings for ``--use-settings``. Raises ``ConfigError`` in production."""
    sources = read_sources(None)
    if sources.load(Settings).production:
        raise ConfigError("ENVIRONMENT=production: the drill kills processes and does not run in production.")
    if not use_settings:
        return None
    given = {name: str(value) for name in _GIVEN if (value := sources.find(name)[0])}
    if "DATABASE_URL" not in given:
        raise ConfigError("--use-settings: DATABASE_URL is not set.")
    if shape == "embedded":
        raise ConfigError("--use-settings: shape embedded uses no servers. Choose --shape monolith or split.")
    return given


def _actions(text: str) -> "tuple[Action, ...]":
    from purveyor_drill.schedule import ACTIONS

    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in ACTIONS]:
        raise ConfigError(f"--only {unknown[0]}: allowed are {', '.join(ACTIONS)}.")
    return tuple(action for action in ACTIONS if action in names)


def _run(options: "Run", folder: Path, given: dict[str, str] | None) -> None:
    import uvloop
    from rich.console import Console

    from purveyor_drill.page import write
    from purveyor_drill.servers.process import StartFailed
    from purveyor_drill.terminal import show
    from purveyor_drill.testbed import Missing

    console = Console(highlight=False)
    console.print(f"seed {options.seed}", soft_wrap=True)
    try:
        result = uvloop.run(_drill(options, folder.resolve(), given, console))
    except Missing as missing:
        typer.echo(f"app: Not installed: {missing}", err=True)
        raise typer.Exit(_SERVER_MISSING) from missing
    except (StartFailed, ValueError) as failure:
        raise StartupError(str(failure)) from failure
    show(result, list(write(result, folder)), console)
    if not result.proven:
        raise typer.Exit(1)


def _end_early_on_signal(stop: asyncio.Event) -> None:
    """End the load on the first SIGINT or SIGTERM, and the drill on the second."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)

    def end_load() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, end_load)


async def _drill(options: "Run", folder: Path, given: dict[str, str] | None, console: "Console") -> "Report":
    from purveyor_drill.runner import drill
    from purveyor_drill.terminal import ProgressLine

    stop = asyncio.Event()
    _end_early_on_signal(stop)
    with ProgressLine(console, options.seconds) as progress:
        return await drill(options, folder=folder, observe=progress, stop=stop, given=given)
