"""The coalescer: order, groups and their bound, errors, cancelled callers."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from purveyor.kit.coalescer import Coalescer, Gathering, alone_after_failure
from purveyor.kit.errors import Unavailable

caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Server:
    """What the groups run on: notes them, fails or waits when told."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.errors: dict[int, Exception] = {}
        self.broken: Exception | None = None
        self.missing = 0
        self.saw = ""
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, calls: Sequence[int]) -> Sequence[str | Exception]:
        self.groups.append(list(calls))
        self.saw = caller.get()
        await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        return [self.errors.get(call, f"answer {call}") for call in calls[self.missing :]]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def coalescer(server: Server) -> Coalescer[int, str]:
    return Coalescer(server.run, max_size=3)


def begin(coalescer: Coalescer[int, str], *calls: int) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(coalescer.call(call)) for call in calls]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def begin_behind_a_closed_gate(
    server: Server, coalescer: Coalescer[int, str], *later: int
) -> list[asyncio.Task[str]]:
    """Call 0 is running, the later ones wait behind it."""
    server.gate.clear()
    tasks = begin(coalescer, 0)
    await settle()
    tasks += begin(coalescer, *later)
    await settle()
    assert server.groups == [[0]]
    return tasks


async def test_call_on_an_idle_coalescer_runs_alone(server: Server, coalescer: Coalescer[int, str]) -> None:
    assert [await coalescer.call(call) for call in (1, 2)] == ["answer 1", "answer 2"]
    assert server.groups == [[1], [2]]


async def test_calls_during_a_group_become_the_next_groups_in_order(
    server: Server, coalescer: Coalescer[int, str]
) -> None:
    tasks = await begin_behind_a_closed_gate(server, coalescer, 1, 2, 3, 4)
    server.gate.set()
    assert await asyncio.gather(*tasks) == [f"answer {call}" for call in range(5)]
    assert server.groups == [[0], [1, 2, 3], [4]]


async def test_error_reaches_only_its_caller(server: Server, coalescer: Coalescer[int, str]) -> None:
    server.errors[1] = KeyError("one")
    first, second, third = await asyncio.gather(*begin(coalescer, 0, 1, 2), return_exceptions=True)
    assert (first, third) == ("answer 0", "answer 2")
    assert isinstance(second, KeyError)


async def test_failed_group_fails_its_callers_and_not_the_next(
    server: Server, coalescer: Coalescer[int, str]
) -> None:
    tasks = await begin_behind_a_closed_gate(server, coalescer, 1)
    server.broken = OSError("lost")
    server.gate.set()
    assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [OSError, OSError]
    server.broken = None
    assert await coalescer.call(2) == "answer 2"


async def test_missing_answer_fails_the_group(server: Server, coalescer: Coalescer[int, str]) -> None:
    server.missing = 1
    found = await asyncio.gather(*begin(coalescer, 0, 1), return_exceptions=True)
    assert [str(each) for each in found] == ["2 calls were run and 1 answered"] * 2


async def test_cancelled_caller_withdraws_its_waiting_call_only(
    server: Server, coalescer: Coalescer[int, str]
) -> None:
    running, withdrawn, waiting = await begin_behind_a_closed_gate(server, coalescer, 1, 2)
    withdrawn.cancel()
    await settle()
    server.gate.set()
    assert [await running, await waiting] == ["answer 0", "answer 2"]
    assert withdrawn.cancelled()
    assert server.groups == [[0], [2]]


async def test_cancelled_callers_leave_a_running_group_to_finish(
    server: Server, coalescer: Coalescer[int, str]
) -> None:
    tasks = await begin_behind_a_closed_gate(server, coalescer, 1, 2)
    for task in tasks:
        task.cancel()
    await settle()
    assert all(task.cancelled() for task in tasks)
    server.gate.set()
    assert await coalescer.call(3) == "answer 3"
    assert server.groups == [[0], [3]]


async def test_caller_cancelled_after_its_error_leaves_no_complaint(
    server: Server, coalescer: Coalescer[int, str]
) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    (task,) = await begin_behind_a_closed_gate(server, coalescer)
    server.broken = OSError("lost")
    server.gate.set()
    while coalescer._runners:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    del task
    assert complaints == []


async def test_group_sees_no_context_of_its_callers(server: Server, coalescer: Coalescer[int, str]) -> None:
    caller.set("ann")
    await coalescer.call(1)
    assert server.saw == "nobody"


async def test_close_cancels_running_and_waiting_calls(server: Server, coalescer: Coalescer[int, str]) -> None:
    tasks = await begin_behind_a_closed_gate(server, coalescer, 1)
    await coalescer.aclose()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)


async def test_close_cancels_a_call_whose_group_has_not_begun(
    server: Server, coalescer: Coalescer[int, str]
) -> None:
    (task,) = begin(coalescer, 1)
    await asyncio.sleep(0)
    await coalescer.aclose()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert server.groups == []


async def test_call_joins_running_groups_up_to_their_maximum(server: Server) -> None:
    coalescer: Coalescer[int, str] = Coalescer(server.run, max_size=3, max_running=2)
    server.gate.clear()
    tasks = begin(coalescer, 0)
    await settle()
    tasks += begin(coalescer, 1, 2)
    await settle()
    tasks += begin(coalescer, 3, 4)
    await settle()
    assert server.groups == [[0], [1, 2]]
    server.gate.set()
    assert await asyncio.gather(*tasks) == [f"answer {call}" for call in range(5)]
    assert server.groups == [[0], [1, 2], [3, 4]]
    assert coalescer.is_idle


async def test_more_calls_than_one_group_takes_start_several(server: Server) -> None:
    coalescer: Coalescer[int, str] = Coalescer(server.run, max_size=3, max_running=2)
    server.gate.clear()
    tasks = begin(coalescer, *range(7))
    await settle()
    assert server.groups == [[0, 1, 2], [3, 4, 5]]
    server.gate.set()
    assert await asyncio.gather(*tasks) == [f"answer {call}" for call in range(7)]


async def test_coalescer_works_again_after_it_was_closed(server: Server, coalescer: Coalescer[int, str]) -> None:
    tasks = await begin_behind_a_closed_gate(server, coalescer, 1)
    await coalescer.aclose()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.gate.set()
    assert await coalescer.call(2) == "answer 2"


@pytest.mark.parametrize(
    ("calls", "expected", "groups"),
    [
        ([1, 2], ["answer 1", "answer 2"], [[1, 2]]),
        ([1, -2, 3], ["answer 1", ValueError, "answer 3"], [[1, -2, 3], [1], [-2], [3]]),
        ([-1], [ValueError], [[-1]]),
        ([1, 0, -2], [Unavailable] * 3, [[1, 0, -2]]),
        ([-1, 2, 0, 3], [ValueError, "answer 2", Unavailable, Unavailable], [[-1, 2, 0, 3], [-1], [2], [0]]),
    ],
    ids=["no failure", "one bad call", "bad call that is alone", "server away", "server away between the calls"],
)
async def test_calls_of_a_failed_group_are_repeated_alone_unless_the_server_is_away(
    calls: list[int], expected: list[object], groups: list[list[int]]
) -> None:
    ran: list[list[int]] = []

    @alone_after_failure
    async def run(group: Sequence[int]) -> Sequence[str | Exception]:
        ran.append(list(group))
        if 0 in group and -1 not in group:
            raise Unavailable("away")
        if min(group) < 0:
            raise ValueError(min(group))
        return [f"answer {call}" for call in group]

    coalescer: Coalescer[int, str] = Coalescer(run, max_size=10)
    outcomes = await asyncio.gather(*begin(coalescer, *calls), return_exceptions=True)
    assert [outcome if isinstance(outcome, str) else type(outcome) for outcome in outcomes] == expected
    assert ran == groups


async def test_gathering_lets_those_go_on_together_who_joined_since_the_first() -> None:
    gathering, order = Gathering(0.01), []

    async def go(name: str) -> None:
        await gathering.join()
        order.append(name)

    first = [asyncio.create_task(go("first")), asyncio.create_task(go("second"))]
    given_up = asyncio.create_task(go("never"))
    await asyncio.sleep(0)
    given_up.cancel()
    await first[0]
    await asyncio.sleep(0)
    assert order == ["first", "second"]
    await go("third")
    assert order == ["first", "second", "third"]
