"""The option with which the broken builds are run: they take minutes, and real servers."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broken-builds", action="store_true", help="run the drill on builds that are broken on purpose"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "broken_build: needs --broken-builds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--broken-builds", default=False):
        unwanted = [item for item in items if "broken_build" in item.keywords]
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if "broken_build" not in item.keywords]
