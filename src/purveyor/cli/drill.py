"""``app drill``: fault injection under load on private servers."""

import asyncio
import secrets
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from purveyor.cli.options import read_sources
from purveyor.kit.errors import ConfigError, StartupError
from purveyor.settings import Settings

if TYPE_CHECKING:  # imports all server libraries
    from purveyor_drill.report import Report
    from purveyor_drill.testbed import Policy, ShapeName

_MISSING = 69
"""EX_UNAVAILABLE of sysexits.h: a required server is not installed."""
_GIVEN = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "MONGODB_URI")
_SHAPES = ("embedded", "monolith", "split")
_POLICIES = ("resend", "park")
_LEDGERS = ("postgres", "mongodb")


_Shape = Annotated[str, typer.Option(help="Shape to test: embedded, monolith or split.")]
_Seconds = Annotated[float, typer.Option(help="Duration of the load.", min=5, max=86_400)]
_Rate = Annotated[float, typer.Option(help="Orders per second.", min=0.1, max=1000)]
_Seed = Annotated[int | None, typer.Option(help="Seed of the load and the faults.", show_default=False)]
_Policy = Annotated[str, typer.Option(help="Value of MAIL_DOUBTFUL: resend or park.")]
_Ledger = Annotated[
    str,
    typer.Option(help="postgres or mongodb (default if mongod is installed).", show_default=False),
]
_Only = Annotated[str, typer.Option(help="Inject only these faults, such as kill,freeze.", show_default=False)]
_Report = Annotated[Path | None, typer.Option(help="Folder for report, journal and logs.", show_default=False)]
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
    ledger: _Ledger = "",
    only: _Only = "",
    report: _Report = None,
    use_settings: _UseSettings = False,
) -> None:
    """Inject faults under load and check that nothing is lost.

    Processes are killed and frozen and connections are cut; no order, event or email may be lost or duplicated.
    Starts its own servers and a mail server that delivers nothing. Ctrl-C ends the load early and still checks
    the result. Exit codes: 0 all invariants hold, 1 an invariant is violated, 69 a server is not installed.
    """
    _choice("--shape", shape, _SHAPES)
    _choice("--mail-doubtful", mail_doubtful, _POLICIES)
    if ledger:
        _choice("--ledger", ledger, _LEDGERS)
    chosen_seed = secrets.randbelow(1_000_000) if seed is None else seed
    folder = report or Path(f"drill-{time.strftime('%Y%m%d-%H%M%S')}-{chosen_seed}")
    wanted = {"shape": shape, "seconds": seconds, "rate": rate, "seed": chosen_seed, "policy": mail_doubtful}
    wanted |= {"ledger": ledger, "only": _actions(only), "given": _given(use_settings, shape)}
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"--report {folder}: the folder is not empty. Choose a new one.")
    _run(folder, **wanted)


def _given(use_settings: bool, shape: str) -> dict[str, str] | None:
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


def _choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{option} {value}: allowed are {', '.join(allowed)}.")


def _actions(text: str) -> tuple[str, ...]:
    from purveyor_drill.schedule import ACTIONS

    actions = tuple(name.strip() for name in text.split(",") if name.strip())
    for action in actions:
        _choice("--only", action, ACTIONS)
    return actions


def _run(folder: Path, **wanted: Any) -> None:
    import uvloop
    from rich.console import Console

    from purveyor_drill.report import write
    from purveyor_drill.servers.process import StartFailed
    from purveyor_drill.terminal import show
    from purveyor_drill.testbed import Missing

    console = Console(highlight=False)
    console.print(f"seed {wanted['seed']}", soft_wrap=True)
    try:
        result = uvloop.run(_drill(folder.resolve(), console, **wanted))
    except Missing as missing:
        typer.echo(f"app: Not installed: {missing}", err=True)
        raise typer.Exit(_MISSING) from missing
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


async def _drill(
    folder: Path,
    console: Any,
    *,
    shape: "ShapeName",
    seconds: float,
    rate: float,
    seed: int,
    policy: "Policy",
    ledger: Any,
    only: Any,
    given: dict[str, str] | None,
) -> "Report":
    from purveyor_drill.load import LoadPlan
    from purveyor_drill.run import drill
    from purveyor_drill.terminal import ProgressLine
    from purveyor_drill.testbed import usual_ledger

    stop = asyncio.Event()
    _end_early_on_signal(stop)
    with ProgressLine(console, seconds) as progress:
        return await drill(
            shape,
            LoadPlan(seconds=seconds, rate=rate, seed=seed),
            policy=policy,
            ledger=ledger or usual_ledger(),
            folder=folder,
            observe=progress,
            stop=stop,
            only=only,
            given=given,
        )
