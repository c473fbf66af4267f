"""The tests of the transports share the databases of the session."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("databases")
