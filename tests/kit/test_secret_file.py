"""Signing secrets: what is too weak, and generated ones that were damaged or are readable by others."""

import secrets
from pathlib import Path

import pytest

from purveyor.kit.errors import ConfigError
from purveyor.kit.secret_file import kept_secret, weakness_of

WEAK = {
    "": "must have at least 32 bytes",
    "x9!Lw0pQz7": "must have at least 32 bytes",
    "a" * 32: "repeats itself",
    "a" * 64: "repeats itself",
    "changeme" * 4: "repeats itself",
    "ab" * 16 + "a": "easy to guess",
    "abcdefghijklmnopqrstuvwxyz012345": "easy to guess",
    "a" * 31 + "b": "easy to guess",
    "00000000000000001111111111111111": "easy to guess",
}


@pytest.mark.parametrize("secret", WEAK)
def test_weak_secret_is_refused_with_the_reason(secret: str) -> None:
    assert WEAK[secret] in weakness_of(secret)


def test_random_secrets_and_sentences_are_strong() -> None:
    for _ in range(200):
        assert weakness_of(secrets.token_hex(16)) == weakness_of(secrets.token_urlsafe(32)) == ""
    assert weakness_of("a secret of at least thirty-two bytes") == ""


@pytest.mark.parametrize("damaged", ["", "a", "\x00" * 64, "short but random 9f3k"])
def test_damaged_file_is_refused_and_kept(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "secret"
    kept_secret(path)
    path.write_text(damaged)
    with pytest.raises(ConfigError, match="Delete it"):
        kept_secret(path)

    assert path.read_text() == damaged


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    first = kept_secret(path)
    assert kept_secret(path) == first
    path.chmod(mode)
    with pytest.raises(ConfigError, match="other users can read"):
        kept_secret(path)
