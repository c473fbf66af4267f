"""A whole drill: a house, load and faults on it, the facts, the verdict."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from purveyor_drill.collect import SETTLE_S, preflight
from purveyor_drill.load import LoadPlan
from purveyor_drill.observations import Facts
from purveyor_drill.report import Report, Run, judge
from purveyor_drill.runner import Conductor, Observer, Progress
from purveyor_drill.schedule import ACTIONS, Action, Fault, schedule
from purveyor_drill.testbed import House, Ledger, Policy, ShapeName, house, servers_of

CUSTOMERS = 20


async def drill(
    shape: ShapeName,
    load: LoadPlan,
    *,
    policy: Policy,
    ledger: Ledger,
    folder: Path,
    observe: Observer,
    stop: asyncio.Event,
    only: Sequence[Action] = (),
    given: Mapping[str, str] | None = None,
) -> Report:
    """Drill a shape and judge it; the journal and the logs of its processes are then in ``folder``.

    Raises ``Missing`` for a server that is not to be had, ``StartFailed`` for what does not come up.
    """
    planned: list[Fault] = []

    def plan(running: House) -> Sequence[Fault]:
        planned.extend(schedule(load.seed, load.seconds, running.targets(), only or ACTIONS))
        return planned

    servers = tuple(given) if given is not None else servers_of(shape, ledger)
    made = house(shape, logs=folder / "logs", policy=policy, given=given, servers=servers, look_first=preflight)
    observe(Progress(stage=f"starting shape {shape}"))
    facts = await gather(made, load, folder=folder, observe=observe, stop=stop, plan=plan)
    run = Run(
        shape=shape,
        seconds=load.seconds,
        rate=load.rate,
        seed=load.seed,
        policy=policy,
        ledger=ledger,
        only=tuple(only),
        use_settings=given is not None,
    )
    return judge(run, planned, facts)


async def gather(
    made: AbstractAsyncContextManager[House],
    load: LoadPlan,
    *,
    folder: Path,
    observe: Observer,
    stop: asyncio.Event,
    plan: Callable[[House], Sequence[Fault]],
    customers: int = CUSTOMERS,
    settle_s: float = SETTLE_S,
) -> Facts:
    """Start a house, run load and the faults planned for it, and gather the facts. Raises as ``drill``."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with made as running:
        faults = plan(running)
        conductor = Conductor(running, observe, stop, settle_s)
        return await conductor.run(load, faults, folder / "journal.jsonl", customers)
