"""The template of a role, installed beside Purveyor, passes what the built-in roles pass, in every shape."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from installed import ROOT, TEMPLATE, environment, install

from real_servers import SERVERS, require_servers
from waiting import PATIENCE_S

_SUITE = "tests/plugins/role_suite.py"
_CONTRACTS = ("tests/architecture/test_registry.py", "tests/architecture/test_contract_types.py")
_DOCUMENTS = ("tests/architecture/test_openapi.py", "tests/contracts")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the installed template."""
    target = tmp_path_factory.mktemp("template") / "installed"
    install(TEMPLATE, target)
    return target


def run_tests(template: Path, folder: Path, *arguments: str, cwd: Path = ROOT) -> None:
    """Run tests where the template is installed, on the servers of this run."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    settings = {**inherited, "TEST_SERVERS": SERVERS.owner.address()}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(folder / "inner")]
    done = subprocess.run(
        [*command, *arguments],
        env=environment(template, settings),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=15 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_role_works_in_every_shape(template: Path, tmp_path: Path) -> None:
    """In one run, since each takes seconds to begin."""
    run_tests(template, tmp_path, _SUITE)
    require_servers()  # the run inside skips the shapes that need them: say so here, where it is seen


def test_role_fits_the_others_like_a_built_in_one(template: Path, tmp_path: Path) -> None:
    run_tests(template, tmp_path, *_CONTRACTS, *_DOCUMENTS)


def test_template_imports_only_what_the_contract_version_covers() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = guide.partition("## A role in a package of its own\n")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`([a-z._]+)`", section))
    covered = listed | {f"purveyor.kit.{name}" for name in listed}
    sources = [path.read_text(encoding="utf-8") for path in (TEMPLATE / "src").rglob("*.py")]
    imported = {name for text in sources for name in re.findall(r"from (purveyor\.[a-z._]+) import", text)}

    assert "purveyor.kit.role" in imported
    assert {
        name for name in imported - covered if not re.fullmatch(r"purveyor\.roles\.\w+\.(contract|client)", name)
    } == set()


def test_own_tests_of_the_template_pass(template: Path, tmp_path: Path) -> None:
    run_tests(template, tmp_path, cwd=TEMPLATE)
