"""Which tests of a parallel run (``-n``) go to one process, and what is begun first."""

import re

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from shapes import SHAPES

_FOLDERS = ("browser", "cli", "gateway")
"""Their modules share what a conftest of theirs starts once."""
_COMPUTES = (
    *("split", "embedded", "wire", "monolith", "tests/openapi/test_schemathesis.py"),
    *("tests/acceptance/test_neighbours.py", "cli", "browser", "processes"),
)
"""What keeps the processors busy, in the order in which it is begun; the rest waits for most of its time."""
_SHAPE = re.compile(rf"tests/acceptance/.*\[({'|'.join(SHAPES)})[-\]]")


class Sharing(LoadScopeScheduling):
    """What shares a running shop or browser goes to one process, and so does a module.

    Not by marks (``--dist loadgroup``): pytest-xdist 3.8 loses them with pytest 9.2. Every second process prefers
    what computes and the others what waits, so that the processors are never without work, nor all overloaded.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        computes = [scope for scope in _COMPUTES if scope in self.workqueue]
        waits = [scope for scope in self.workqueue if scope not in _COMPUTES]
        preferred = computes + waits if self.nodes.index(node) % 2 == 0 else waits + computes
        self.workqueue.move_to_end(preferred[0], last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        if shape := _SHAPE.match(nodeid):
            return shape[1]
        module = nodeid.partition("::")[0]
        folder = module.split("/")[1]
        return folder if folder in _FOLDERS else module
