"""Signing secrets: how strong they must be, and the generated ones of a development installation."""

import math
import os
import secrets
import stat
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from purveyor.kit.errors import ConfigError

MIN_SECRET_BYTES = 32
"""The shortest key for HS256 (RFC 7518 section 3.2)."""
_MIN_BITS = 60.0
"""Minimum entropy, estimated by character frequency. 32 random hexadecimal digits have 110 bits on average."""
_MOST_IN_ORDER = 0.5


def weakness_of(secret: str) -> str:
    """Say what is wrong with a secret; empty if it can be a key."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        return f"must have at least {MIN_SECRET_BYTES} bytes"
    if secret in (secret + secret)[1:-1]:
        return "repeats itself, so it is easy to guess"
    bits = sum(-count * math.log2(count / len(secret)) for count in Counter(secret).values())
    in_order = sum(abs(ord(one) - ord(next_one)) <= 1 for one, next_one in pairwise(secret))
    if bits < _MIN_BITS or in_order > _MOST_IN_ORDER * len(secret):
        return "is easy to guess"
    return ""


def kept_secret(path: Path) -> str:
    """Read the secret from this file (mode 0600), which the first call creates.

    Raises ``ConfigError`` for a file that is damaged or that others can read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_new(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path}: other users can read this secret. Delete the file to get a new one.")
    secret = path.read_text(encoding="utf-8", errors="replace").strip()
    if weakness := weakness_of(secret):
        raise ConfigError(f"{path}: the secret {weakness}. The file is damaged. Delete it to get a new one.")
    return secret


def _write_new(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):  # the first of several starting processes wins
            os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # a power cut must not leave an empty file under the name
    finally:
        os.close(folder)
