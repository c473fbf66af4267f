"""Secrets that a development installation makes for itself."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def kept_secret(path: Path) -> str:
    """The secret in this file (mode 0600), made at the first call. Processes that share the file share it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
    try:
        with suppress(FileExistsError):  # of several processes that start at once, the first one's secret counts
            os.link(draft, path)
    finally:
        draft.unlink()
    return path.read_text()
