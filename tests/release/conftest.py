import sys
from pathlib import Path

import pytest

from release_build.archive import join, pack

_INTERPRETER = f"""#!/bin/sh
if [ "$2" = -c ]; then
    if [ -n "${{OVERTAKEN-}}" ]; then mkdir -p "$5/bin" && cp "$0" "$5/bin"; fi
    exec {sys.executable} "$@"
fi
echo "arguments: $*; certificates: ${{SSL_CERT_FILE-none}}"
"""
"""It stands in for the interpreter of a release and runs no product. OVERTAKEN: another start unpacks first."""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program as scripts/release makes it, with next to nothing in it."""
    folder = tmp_path_factory.mktemp("release")
    (folder / "tree/bin").mkdir(parents=True)
    interpreter = folder / "tree/bin/python3"
    interpreter.write_text(_INTERPRETER)
    interpreter.chmod(0o755)
    pack(folder / "tree", folder / "payload.tar.gz", epoch=0)
    join(folder / "payload.tar.gz", folder / "program", "1.2.3", megabytes=1)
    return folder / "program"
