"""The house rules of the source: sizes, docstrings, where SQL may stand."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import purveyor
from purveyor.registry import ROLES, TRANSPORTS

SOURCE = Path(purveyor.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
MAX_MODULE = 600
MAX_FUNCTION = 60

_SQL = re.compile(
    r"\bselect\s.+\sfrom\s|\binsert\s+into\s|\bupdate\s+[\w.{}]+\s+set\s|\bdelete\s+from\s|\bcreate\s+table\s",
    re.IGNORECASE | re.DOTALL,
)
_SQL_MAY_STAND_IN = re.compile(
    r"kit/(db|events)/|transports/|roles/\w+/(store(_\w+)?|sessions|password_changes|revocations|privacy)\.py"
    r"|roles/auth/(admission|confirmation|email_addresses)\.py"
    r"|roles/orders/(bulk|figures|notes|search|undo)\.py"
    r"|roles/email/ledger/postgres\w*\.py"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def nested(node: ast.AST) -> Iterator[Function]:
    """The functions directly inside, not those inside of these."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield child
        else:
            yield from nested(child)


def lines(node: Function) -> int:
    """Lines of a function, without those of functions inside it: each of them is measured for itself."""
    inner = sum(_span(child) for child in nested(node))
    return _span(node) - inner


def _span(node: Function) -> int:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return (node.end_lineno or node.lineno) - first + 1


def texts(module: ast.Module) -> Iterator[str]:
    """Every string of a module that is no docstring; of an f-string its fixed parts, with ``{}`` between."""
    prose = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def long_functions(module: ast.Module) -> list[str]:
    functions = [node for node in ast.walk(module) if isinstance(node, Function)]
    return [f"{node.name}: {lines(node)} lines" for node in functions if lines(node) > MAX_FUNCTION]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_is_below_the_fuse_and_has_a_docstring(path: Path) -> None:
    opening = ast.get_docstring(tree(path))

    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE
    assert opening, "no docstring"
    assert opening.splitlines()[0].endswith((".", "?", ":"))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_functions_are_short(path: Path) -> None:
    assert long_functions(tree(path)) == []


def test_sql_stands_only_in_stores_ledgers_the_kit_and_the_transports() -> None:
    found = [name(path) for path in MODULES if any(_SQL.search(text) for text in texts(tree(path)))]

    assert {"roles/auth/store.py", "roles/orders/store.py", "kit/events/outbox.py"} <= set(found)
    assert [path for path in found if not _SQL_MAY_STAND_IN.match(path)] == []


def test_statements_name_only_their_own_roles_schema() -> None:
    """No statement crosses schemas: each role may have a database of its own."""
    roles = sorted(path.name for path in (SOURCE / "roles").iterdir() if (path / "migrations").is_dir())
    for role in roles:
        others = "|".join([*(other for other in roles if other != role), "events"])
        foreign = re.compile(rf"\b(?:from|join|into|update|references|table)\s+(?:{others})\.", re.IGNORECASE)
        files = [*(SOURCE / "roles" / role).rglob("*.py"), *(SOURCE / "roles" / role).rglob("*.sql")]
        assert [name(path) for path in files if foreign.search(path.read_text(encoding="utf-8"))] == []


def test_the_measures_find_what_they_are_for() -> None:
    body = "\n".join(f"    x = {number}" for number in range(MAX_FUNCTION))
    inner = "\n".join(f"        x = {number}" for number in range(MAX_FUNCTION - 1))

    assert long_functions(ast.parse(f"def long():\n{body}")) == ["long: 61 lines"]
    assert long_functions(ast.parse(f"def outer():\n    def inner():\n{inner}\n    return inner")) == []
    assert list(texts(ast.parse('"""select a from b."""\nx = f"update {y}.t set a = 1"'))) == [
        "update {}.t set a = 1",
        "update ",
        ".t set a = 1",
    ]
    assert _SQL.search("update {}.t set a = 1")
    assert not _SQL.search("Select the one that you want")


_SHELL = (
    *("host.py", "process.py", "settings.py", "plugins.py", "api_info.py"),
    *("transports/__init__.py", "transports/http.py"),
)


@pytest.mark.parametrize("file", _SHELL)
def test_shell_names_no_role_and_no_transport(file: str) -> None:
    """Both are data: a new one touches its own folder and the registry."""
    module = tree(SOURCE / file)
    names = {*ROLES, *(transport.name for transport in TRANSPORTS)} - {"postgres"}  # the database's name, too
    imported = [node.module or "" for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    words = {word for text in texts(module) for word in re.findall(r"[a-z]+", text.lower())}

    assert [
        name for name in imported if re.match(r"purveyor\.(roles|transports\.(postgres|rabbitmq|nats))", name)
    ] == []
    assert words & names == set()
