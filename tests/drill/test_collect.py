"""What is read from logs and mails, without any server."""

from pathlib import Path

from purveyor_drill.collect import secrets_in

NEEDLES = {"the password": b"canary-password", "an access token": b"eyJhbGciOi"}


def test_a_secret_is_found_wherever_it_is_in_a_log(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    for before in (0, 1, 1_048_570, 3_000_000):
        log.write_bytes(b"x" * before + b"login with canary-password\n" + b"y" * 1000)
        assert secrets_in(log, NEEDLES) == ["the password"]


def test_a_log_without_secrets_or_without_anything_is_clean(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    for content in (b"", b"canary-pass word\neyJhbGci\n" * 100_000):
        log.write_bytes(content)
        assert secrets_in(log, NEEDLES) == []
