"""Access tokens: what is accepted, and everything that is not; the secret that signs them."""

import asyncio
import base64
import hashlib
import hmac
import json
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from purveyor.host import Host, choose_roles
from purveyor.kit.errors import ConfigError, TokenInvalid
from purveyor.kit.ids import new_id
from purveyor.roles.auth import tokens as module
from purveyor.roles.auth.model import User
from purveyor.roles.auth.tokens import Tokens, development_secret
from purveyor.settings import Sources

SECRET = "a secret of at least thirty-two bytes"
LIVES_S = 86_400
"""Longer than any run of the tests: many of its tokens are made when this file is read."""
TOKENS = Tokens(SECRET, LIVES_S)
USER = User(
    id=new_id(),
    email="ada@example.com",
    name="Ada Lovelace",
    phone="",
    language="de",
    access="staff",
    created_at=datetime.now(UTC),
)
SESSION = new_id()
VERSION = 3
_GONE: Any = object()
_TYPE = "at+jwt"


def segment(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, claims: Any, secret: str = SECRET, digest: Callable[..., Any] = hashlib.sha256) -> str:
    """A token with a right signature over whatever it says."""
    text = f"{segment(header)}.{segment(claims)}"
    return f"{text}.{segment(hmac.digest(secret.encode(), text.encode(), digest))}"


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    whole = {
        "iss": "purveyor",
        "aud": "purveyor",
        "sub": str(USER.id),
        "iat": now,
        "exp": now + LIVES_S,
        "jti": "x",
    }
    whole |= {"sid": str(SESSION), "ver": VERSION}
    return {name: value for name, value in (whole | changes).items() if value is not _GONE}


def header(**changes: Any) -> dict[str, Any]:
    whole = {"alg": "HS256", "typ": _TYPE}
    return {name: value for name, value in (whole | changes).items() if value is not _GONE}


def test_a_token_says_who_its_holder_is() -> None:
    before = int(time.time())
    read = TOKENS.read(TOKENS.sign(USER, SESSION, VERSION))

    assert (read.user_id, read.session_id, read.version) == (USER.id, SESSION, VERSION)
    holder = read.holder
    assert (holder.sub, holder.user_id) == (str(USER.id), str(USER.id))
    assert (holder.email, holder.name, holder.access) == (USER.email, USER.name, "staff")
    assert holder.active
    assert before + LIVES_S <= holder.exp <= time.time() + LIVES_S


def test_a_token_holds_no_more_than_it_must() -> None:
    payload = TOKENS.sign(USER, SESSION, VERSION).split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(payload + "=="))

    assert set(said) == {
        *("iss", "aud", "sub", "email", "name", "role", "language", "email_verified", "iat", "exp", "jti"),
        *("sid", "ver"),
    }


def test_no_two_tokens_are_the_same() -> None:
    assert TOKENS.sign(USER, SESSION, VERSION) != TOKENS.sign(USER, SESSION, VERSION)


def test_the_forger_below_makes_good_tokens() -> None:
    assert TOKENS.read(signed(header(), claims())).user_id == USER.id


def test_clocks_may_differ_by_half_a_minute() -> None:
    now = int(time.time())

    assert TOKENS.read(signed(header(), claims(exp=now - 20)))
    assert TOKENS.read(signed(header(), claims(iat=now + 20)))


def test_token_that_was_read_before_is_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, token = Tokens(SECRET, LIVES_S), TOKENS.sign(USER, SESSION, VERSION)
    first = tokens.read(token)
    monkeypatch.setattr(module, "jwt", None)

    assert tokens.read(token) is first
    with pytest.raises(AttributeError):
        tokens.read(signed(header(), claims()))


def test_token_that_was_read_before_expires_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(SECRET, 100)
    token = tokens.sign(USER, SESSION, VERSION)
    ends = tokens.read(token).expires_at + module._LEEWAY_S
    monkeypatch.setattr(time, "time", lambda: ends - 0.001)
    assert tokens.read(token).user_id == USER.id
    monkeypatch.setattr(time, "time", lambda: float(ends))
    for _ in range(2):
        with pytest.raises(TokenInvalid):
            tokens.read(token)


def test_refused_token_is_not_remembered() -> None:
    tokens = Tokens(SECRET, LIVES_S)
    for text in (signed(header(), claims(), secret="another secret of thirty-two bytes"), "no token"):
        with pytest.raises(TokenInvalid):
            tokens.read(text)
    assert tokens._checked.cache_info().currsize == 0


def test_only_the_tokens_read_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_KNOWN", 2)
    tokens = Tokens(SECRET, LIVES_S)
    first, second, third = (tokens.sign(USER, SESSION, VERSION) for _ in range(3))
    for token in (first, second, first, third):
        tokens.read(token)

    assert tokens._checked.cache_info().currsize == 2
    monkeypatch.setattr(module, "jwt", None)
    assert tokens.read(first)
    assert tokens.read(third)


_NOW = int(time.time())
_HEADERS: dict[str, Any] = {
    "alg other HMAC, same secret": header(alg="HS512"),
    "alg of public keys": header(alg="RS256"),
    "alg unknown": header(alg="HS257"),
    "alg in lower case": header(alg="hs256"),
    "alg missing": header(alg=_GONE),
    "alg of another type": header(alg=["HS256"]),
    "typ missing": header(typ=_GONE),
    "typ of any JWT": header(typ="JWT"),
    "typ of a refresh token": header(typ="rt+jwt"),
    "typ of another type": header(typ=1),
    "crit unknown": header(crit=["urn:example:must-know"], **{"urn:example:must-know": 1}),
    "crit known to JWT": header(crit=["exp"], exp=_NOW + LIVES_S),
    "b64 off": header(crit=["b64"], b64=False),
    "kid of another type": header(kid=1),
    "header no object": ["HS256"],
    "header no JSON": b"HS256",
    "header empty": b"",
    "header not UTF-8": b'{"alg":"HS256","typ":"at+jwt","x":"\xff"}',
    "header nested deeply": b"[" * 100_000 + b"]" * 100_000,
}
_CLAIMS: dict[str, Any] = {
    "exp missing": claims(exp=_GONE),
    "exp past": claims(exp=_NOW - 60),
    "exp null": claims(exp=None),
    "exp text": claims(exp="soon"),
    "exp digits as text": claims(exp=str(_NOW + LIVES_S)),
    "exp infinite": claims(exp=float("inf")),
    "exp not a number": claims(exp=float("nan")),
    "exp a list": claims(exp=[_NOW + LIVES_S]),
    "iat missing": claims(iat=_GONE),
    "iat future": claims(iat=_NOW + LIVES_S),
    "iat text": claims(iat="now"),
    "iat infinite": claims(iat=float("inf")),
    "nbf future": claims(nbf=_NOW + LIVES_S),
    "nbf infinite": claims(nbf=float("inf")),
    "sub missing": claims(sub=_GONE),
    "sub empty": claims(sub=""),
    "sub a number": claims(sub=1),
    "sub no id": claims(sub="ada"),
    "sid missing": claims(sid=_GONE),
    "sid empty": claims(sid=""),
    "sid no id": claims(sid="1"),
    "ver missing": claims(ver=_GONE),
    "ver text": claims(ver="3"),
    "ver nought": claims(ver=0),
    "ver not whole": claims(ver=1.5),
    "iss missing": claims(iss=_GONE),
    "iss other": claims(iss="purveyor.evil"),
    "iss a list": claims(iss=["purveyor"]),
    "aud missing": claims(aud=_GONE),
    "aud other": claims(aud="another-shop"),
    "aud a number": claims(aud=1),
    "jti missing": claims(jti=_GONE),
    "jti a number": claims(jti=7),
    "role a number": claims(role=1),
    "name an object": claims(name={"first": "Ada"}),
    "claims no object": ["sub"],
    "claims no JSON": b"sub",
    "claims empty": b"",
}


@pytest.mark.parametrize("bad", _HEADERS.values(), ids=_HEADERS)
def test_a_header_of_another_kind_is_refused(bad: Any) -> None:
    with pytest.raises(TokenInvalid):
        TOKENS.read(signed(bad, claims()))


@pytest.mark.parametrize("bad", _CLAIMS.values(), ids=_CLAIMS)
def test_claims_that_are_wrong_are_refused_though_signed(bad: Any) -> None:
    with pytest.raises(TokenInvalid):
        TOKENS.read(signed(header(), bad))


@pytest.mark.parametrize("name", ["none", "None", "nOnE", "NONE", ""])
@pytest.mark.parametrize("signature", ["", "AA"])
def test_a_token_without_a_signature_is_refused(name: str, signature: str) -> None:
    with pytest.raises(TokenInvalid):
        TOKENS.read(f"{segment(header(alg=name))}.{segment(claims())}.{signature}")


_GOOD = TOKENS.sign(USER, SESSION, VERSION)
_HEAD, _BODY, _SIGNATURE = _GOOD.split(".")
_TEXTS = {
    "empty": "",
    "dots": "..",
    "no token": "Bearer",
    "not ASCII": "tökén",
    "lone surrogate": "\ud800",
    "NUL": "\0" * 10,
    "1 MB": "x" * 1_000_000,
    "1 MB header": f"{'x' * 1_000_000}.{_BODY}.{_SIGNATURE}",
    "1 MB of claims, signed": signed(header(), claims(pad="x" * 1_000_000)),
    "no signature": f"{_HEAD}.{_BODY}",
    "signature stripped": f"{_HEAD}.{_BODY}.",
    "signature cut": _GOOD[:-1],
    "signature of other claims": f"{_HEAD}.{segment(claims(role='admin'))}.{_SIGNATURE}",
    "signed with another secret": signed(header(), claims(), secret="another secret of thirty-two bytes"),
    "signed with an empty secret": signed(header(), claims(), secret=""),
    "signed with SHA-512": signed(header(), claims(), digest=hashlib.sha512),
    "HS512, rightly signed": signed(header(alg="HS512"), claims(), digest=hashlib.sha512),
    "four parts": f"{_GOOD}.{_SIGNATURE}",
    "space before": f" {_GOOD}",
    "line break after": f"{_GOOD}\n",
    "padding after": f"{_GOOD}=",
    "junk inside the signature": f"{_GOOD[:-5]}!{_GOOD[-5:]}",
}


@pytest.mark.parametrize("text", _TEXTS.values(), ids=_TEXTS)
def test_what_is_no_token_of_ours_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid):
        TOKENS.read(text)


@pytest.mark.parametrize("name", [name for name in _TEXTS if "1 MB" in name])
def test_what_is_too_long_is_refused_unread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "jwt", None)
    with pytest.raises(TokenInvalid):
        TOKENS.read(_TEXTS[name])


@given(position=st.integers(0, len(_GOOD) - 1), character=st.characters(codec="latin-1"))
@example(position=len(_GOOD) - 1, character=chr(ord(_GOOD[-1]) + 1))  # it decodes to the same 32 bytes
def test_any_changed_byte_makes_it_invalid(position: int, character: str) -> None:
    changed = _GOOD[:position] + character + _GOOD[position + 1 :]
    if changed == _GOOD:
        return

    with pytest.raises(TokenInvalid):
        TOKENS.read(changed)


@given(st.integers(0, len(_GOOD) - 1))
def test_any_cut_token_is_invalid(length: int) -> None:
    with pytest.raises(TokenInvalid):
        TOKENS.read(_GOOD[:length])


@given(st.text(alphabet=st.characters(), max_size=60))
def test_no_text_ends_otherwise_than_as_an_invalid_token(text: str) -> None:
    with pytest.raises(TokenInvalid):
        TOKENS.read(text)


def test_every_refusal_looks_the_same() -> None:
    answers = set()
    for bad in ("", _GOOD[:-1], signed(header(), claims(exp=_NOW - 60)), signed(header(typ="JWT"), claims())):
        with pytest.raises(TokenInvalid) as refusal:
            TOKENS.read(bad)
        answers.add((refusal.value.code, refusal.value.detail, str(refusal.value.headers)))

    assert len(answers) == 1


def test_the_development_secret_is_kept_for_the_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    secret = development_secret(folder)

    assert len(secret.encode()) >= 32
    assert development_secret(folder) == secret
    assert [path.name for path in folder.iterdir()] == ["jwt-secret"]
    assert stat.S_IMODE((folder / "jwt-secret").stat().st_mode) == 0o600
    assert development_secret(tmp_path) != secret


_MAKE_SECRET = """
import sys
from pathlib import Path
from purveyor.roles.auth.tokens import development_secret
print("ready", flush=True)
sys.stdin.readline()
print(development_secret(Path(sys.argv[1])))
"""


async def test_processes_that_start_at_once_sign_with_the_same_secret(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MAKE_SECRET, str(tmp_path)]
    pipe = subprocess.PIPE
    starting = (asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(4))
    processes = await asyncio.gather(*starting)
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"\n") for process in processes))

    assert len({said for said, _ in outputs}) == 1
    assert outputs[0][0].decode().strip() == (tmp_path / "jwt-secret").read_text()


@pytest.mark.parametrize(
    "settings",
    [
        {"ENVIRONMENT": "production"},
        {"ENVIRONMENT": "production", "JWT_SECRET": ""},
        {"ENVIRONMENT": "production", "JWT_SECRET": "x" * 31},
        {"ENVIRONMENT": "development", "JWT_SECRET": "x" * 31},
        {"ENVIRONMENT": "production", "JWT_SECRET": "x" * 32},
    ],
)
def test_a_process_does_not_start_on_a_weak_secret(tmp_path: Path, settings: dict[str, str]) -> None:
    sources = Sources(environ={"DATA_DIR": str(tmp_path), **settings}, dotenv=None)

    with pytest.raises(ConfigError, match="JWT_SECRET") as refusal:
        Host(choose_roles(["auth"]), sources)

    assert "xxx" not in str(refusal.value)


def test_a_secret_is_as_long_as_its_bytes(tmp_path: Path) -> None:
    environ = {
        "DATA_DIR": str(tmp_path),
        "ENVIRONMENT": "production",
        "JWT_SECRET": "".join(map(chr, range(0x100, 0x120, 2))),
    }
    environ |= {"SERVICE_SECRET": "a secret for tests that is long enough"}

    Host(choose_roles(["auth"]), Sources(environ=environ, dotenv=None))
