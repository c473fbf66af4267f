"""A fault that cannot be injected is recorded with its error and does not end the drill."""

from pathlib import Path

import pytest

from purveyor_drill.injector import Injector
from purveyor_drill.schedule import Fault
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.testbed import Testbed


class Broken:
    """Proxies that give an error instead of an answer."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def set_fault(self, port: int, fault: str | None) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "told"),
    [(TimeoutError(), "TimeoutError"), (ConnectionError("refused"), "refused"), (StartFailed("no\nlog"), "no")],
)
async def test_error_of_a_fault_is_recorded(error: Exception, told: str, tmp_path: Path) -> None:
    testbed = Testbed(tmp_path, "resend", {}, given=False, links={"link to smtp": 1}, proxies=Broken(error))
    injector = Injector(testbed, mails_at_data=None)

    await injector.inject(Fault(at_s=0, action="refuse", target="link to smtp", lasts_s=0))

    assert [fault.error for fault in injector.injected] == [told]
