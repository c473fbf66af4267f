"""What must hold while the network misbehaves and processes die."""

import pytest

pytest.register_assert_rewrite(
    "faults.crash_audit", "faults.crash_installation", "faults.crash_rows", "faults.installations"
)
