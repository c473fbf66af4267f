"""The checker is proven on builds that are broken on purpose: each is found out, and the real one passes.

Only with ``--broken-builds``, which scripts/drill gives.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from purveyor_drill.checker import check
from purveyor_drill.load import LoadPlan
from purveyor_drill.observations import Observations
from purveyor_drill.processes import ProcessSpec
from purveyor_drill.runner import run
from purveyor_drill.schedule import Fault
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.servers.smtp import Rule
from purveyor_drill.testbed import PROGRAM, Testbed, open_testbed

BROKEN = Path(__file__).parent / "broken"
PROCESSES = (
    ProcessSpec("front", "serve", "auth,orders,catalog"),
    ProcessSpec("mails-1", "worker", "email"),
    ProcessSpec("mails-2", "worker", "email"),
)
RABBIT = ("DATABASE_URL", "RABBITMQ_URL")
POSTGRES = ("DATABASE_URL",)


def fault(at_s: float, action: str, target: str, lasts_s: float = 0.3) -> Fault:
    return Fault(at_s=at_s, action=action, target=target, lasts_s=lasts_s)


@dataclass(frozen=True)
class Provocation:
    """What brings one defect to light, and the invariants of which one must then be violated."""

    seconds: float
    faults: Sequence[Fault]
    servers: Sequence[str]
    found_by: frozenset[str]


DEFECTS = {
    "no_outbox": Provocation(8, [fault(2, "kill", "rabbitmq", 2.0)], RABBIT, frozenset({"I4"})),
    "no_confirm": Provocation(8, [fault(2, "kill", "rabbitmq", 4.0)], RABBIT, frozenset({"I4"})),
    "ack_first": Provocation(
        8,
        [fault(3, "freeze", "postgres", 2.0), fault(4.2, "kill", "mails-1"), fault(4.2, "kill", "mails-2")],
        RABBIT,
        frozenset({"I4"}),
    ),
    "no_inbox": Provocation(9, [fault(2, "freeze", "rabbitmq", 6.5)], RABBIT, frozenset({"I4", "I6"})),
    "record_after_send": Provocation(
        8,
        [fault(at, "kill", name) for at, name in ((2, "mails-1"), (2.7, "mails-2"), (6, "mails-1"))],
        POSTGRES,
        frozenset({"I5"}),
    ),
    "high_water_mark": Provocation(
        6, [fault(0.5, "latency", "link to database", 5.0)], POSTGRES, frozenset({"I3", "I4"})
    ),
    "ignored_condition": Provocation(12, [], POSTGRES, frozenset({"I12"})),
    "blind_update": Provocation(12, [], POSTGRES, frozenset({"I12"})),
}


async def drill(
    folder: Path, seconds: float, faults: Sequence[Fault], servers: Sequence[str], build: str
) -> Observations:
    """Bursts of orders, and an SMTP server that takes its time, so that every crash meets pending work."""

    def plan(running: Testbed) -> Sequence[Fault]:
        running.sink.script(Rule(at="dot", delay_s=0.25, times=None))
        return faults

    testbed = open_testbed(
        "monolith",
        logs=folder / "logs",
        processes=PROCESSES,
        servers=servers,
        program=(sys.executable, str(BROKEN / f"{build}.py")) if build else PROGRAM,
    )
    return await run(
        testbed,
        LoadPlan(seconds=seconds, rate=24, seed=1, burst=6),
        folder=folder,
        observe=lambda _: None,
        stop=asyncio.Event(),
        plan=plan,
        customers=4,
        settle_s=12 if build else 60,
    )


@pytest.mark.broken_build
@pytest.mark.parametrize("build", DEFECTS)
async def test_a_broken_build_is_found_out(build, tmp_path):
    provoked = DEFECTS[build]
    if "RABBITMQ_URL" in provoked.servers and (reason := RabbitServer.available()):
        pytest.skip(f"no rabbitmq: {reason}")
    observed = await drill(tmp_path, provoked.seconds, provoked.faults, provoked.servers, build)
    violated = {verdict.code for verdict in check(observed) if not verdict.holds}
    assert violated & provoked.found_by, f"violated: {violated or 'nothing'}"


@pytest.mark.broken_build
async def test_the_real_build_passes_the_same_faults(tmp_path):
    if reason := RabbitServer.available():
        pytest.skip(f"no rabbitmq: {reason}")
    faults: list[Fault] = []
    offset_s = 0.0
    for provoked in DEFECTS.values():
        faults += [
            Fault(at_s=one.at_s + offset_s, action=one.action, target=one.target, lasts_s=one.lasts_s)
            for one in provoked.faults
        ]
        offset_s += provoked.seconds
    observed = await drill(tmp_path, offset_s, faults, RABBIT, "")
    violated = {verdict.code: verdict.examples for verdict in check(observed) if not verdict.holds}
    assert not violated
    assert len(observed.injected) >= len(faults) - 2
