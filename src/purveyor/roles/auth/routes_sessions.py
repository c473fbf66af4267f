"""The routes of sessions and passwords."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from msgspec import Meta

from purveyor.kit.errors import NotFound, TooManyRequests, Unauthorized, Unavailable
from purveyor.kit.http.routes import PathId, RouteGroup, Verify, answer, body, link
from purveyor.kit.http.web import BEARER, ApiResponse, bearer_token, header
from purveyor.kit.limits.networks import network_of
from purveyor.roles.auth import schemas
from purveyor.roles.auth.contract import (
    AccountBlocked,
    InvalidCredentials,
    Principal,
    RefreshTokenInvalid,
    ResetTokenInvalid,
    TooManyLogins,
    VerifyToken,
    WrongPassword,
)
from purveyor.roles.auth.devices import device_of
from purveyor.roles.auth.password_changes import PasswordChanges
from purveyor.roles.auth.schemas import (
    LIMIT_HEADERS,
    Accepted,
    NewPassword,
    OwnSessionView,
    VerifiedTokenView,
    own_session_view,
    verified_view,
)
from purveyor.roles.auth.sessions import Sessions, TokenPair

_TO_ACCOUNT = tuple(
    link(operation, user_id="$response.body#/user_id")
    for operation in (
        "get_profile",
        "change_profile",
        "list_addresses",
        "add_address",
        "export_person",
        "erase_person",
    )
)
_HOLDER = link("verify_token")
_NEXT_PAIR = link("refresh_tokens")
_MAIL_ON_ITS_WAY = "If an account with this address exists, we have sent it an email."

Email = Annotated[str, Meta(max_length=254)]
Password = Annotated[str, Meta(max_length=1000)]


class LoginBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Credentials. In a form the members are ``username`` and ``password``."""

    email: Email
    password: Password


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An access token that is not sent in the header."""

    token: str | None = None


class RefreshBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The latest refresh token."""

    refresh_token: str


class LogoutBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The session's refresh token, as an alternative to its access token."""

    refresh_token: str | None = None


class PasswordBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The current and the new password."""

    current_password: Password
    new_password: NewPassword


class ForgotBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The email address of the account."""

    email: Email


class ResetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token from the email, and the new password."""

    token: Annotated[str, Meta(max_length=200)]
    password: NewPassword


_NO_TOKEN, _NO_REFRESH_TOKEN = TokenBody(), LogoutBody()


def session_routes(sessions: Sessions) -> list[Any]:
    """Opening, renewing and ending sessions, and verifying their tokens."""
    group = RouteGroup("sessions", problems=(Unavailable,))
    signed_in = RouteGroup("sessions", verify=sessions.principal, problems=(Unavailable,))
    return [
        _login_route(sessions, group),
        _verify_route(sessions),
        _refresh_route(sessions, group),
        _logout_route(sessions, group),
        *_own_session_routes(sessions, signed_in),
    ]


def _login_route(sessions: Sessions, group: RouteGroup) -> Any:
    @group.post(
        "/login",
        operation_id="log_in",
        summary="Sign in",
        description=(
            "Accepts JSON, or a form with `username` and `password` as in OAuth 2.0. The access token is valid "
            "for `expires_in` seconds; use the refresh token to get the next one. A wrong password and an "
            "unknown address return the same error. Attempts are limited per account and per network address, "
            "with growing delays after many wrong passwords."
        ),
        headers=LIMIT_HEADERS,
        links=(_NEXT_PAIR, _HOLDER),
        form={"username": "email", "password": "password"},
        responses=answer(TokenPair, "The tokens of the new session.", schemas.PAIR),
        problems=(InvalidCredentials, AccountBlocked, TooManyLogins),
    )
    async def login(
        data: Annotated[LoginBody, body(schemas.LOGIN)], request: Request[Any, Any, Any]
    ) -> Response[TokenPair]:
        device = device_of(header(request, b"user-agent"))
        pair, limit = await sessions.log_in(data.email, data.password, network_of(request), device)
        return ApiResponse(pair, headers=limit.headers())

    return login


def _verify_route(sessions: Sessions) -> Any:
    @RouteGroup("sessions").post(
        "/verify-token",
        operation_id="verify_token",
        summary="Verify an access token",
        description='Send the token in the header, or in the body as `{"token": "..."}`.',
        links=_TO_ACCOUNT,
        responses=answer(VerifiedTokenView, "The user of the token.", schemas.VERIFIED),
        security=[*BEARER, {}],
    )
    async def verify_token(
        request: Request[Any, Any, Any], data: Annotated[TokenBody, body(schemas.TOKEN)] = _NO_TOKEN
    ) -> VerifiedTokenView:
        in_header = header(request, b"authorization").partition(" ")[0].lower() == "bearer"
        token = bearer_token(request) if in_header or data.token is None else data.token
        return verified_view(await sessions.verify(VerifyToken(token=token)))

    return verify_token


def _refresh_route(sessions: Sessions, group: RouteGroup) -> Any:
    @group.post(
        "/token/refresh",
        operation_id="refresh_tokens",
        summary="Refresh the tokens",
        description=(
            "A refresh token can be used once. The latest one can be repeated within 10 seconds, in case a "
            "response was lost. Any other reuse ends the whole session, because the token may have been stolen. "
            "A session lasts at most 30 days."
        ),
        links=(_NEXT_PAIR, _HOLDER),
        responses=answer(TokenPair, "The new tokens of the session.", schemas.PAIR),
        problems=(RefreshTokenInvalid,),
    )
    async def refresh(data: Annotated[RefreshBody, body(schemas.REFRESH)]) -> TokenPair:
        return await sessions.refresh(data.refresh_token)

    return refresh


def _logout_route(sessions: Sessions, group: RouteGroup) -> Any:
    @group.post(
        "/logout",
        operation_id="log_out",
        summary="Sign out",
        description=(
            "Send the access token in the header, or the refresh token in the body, which also works after the "
            "access token has expired. The refresh token is revoked, and access tokens of the session stop "
            "working within 5 seconds."
        ),
        response_description="The session has ended.",
        problems=(Unauthorized, RefreshTokenInvalid),
        security=[*BEARER, {}],
    )
    async def logout(
        request: Request[Any, Any, Any], data: Annotated[LogoutBody, body(schemas.REFRESH)] = _NO_REFRESH_TOKEN
    ) -> None:
        if data.refresh_token is None:
            await sessions.log_out(await sessions.principal(bearer_token(request)))
        else:
            await sessions.log_out_with(data.refresh_token)

    return logout


def _own_session_routes(sessions: Sessions, group: RouteGroup) -> list[Any]:
    @group.get(
        "/user/{user_id:str}/sessions",
        operation_id="list_sessions",
        summary="List active sessions",
        description="Newest first. Users see their own sessions; admins see anyone's.",
        links=(
            link("end_session", user_id="$request.path.user_id", session_id="$response.body#/0/id"),
            link("end_sessions", user_id="$request.path.user_id"),
        ),
        responses=answer(list[OwnSessionView], "The sessions.", schemas.SESSIONS),
        problems=(NotFound,),
    )
    async def sessions_of(user_id: PathId, request: Request[Principal, Any, Any]) -> list[OwnSessionView]:
        found, current = await sessions.list(request.user, user_id)
        return [own_session_view(session, current) for session in found]

    @group.delete(
        "/user/{user_id:str}/sessions/{session_id:str}",
        operation_id="end_session",
        summary="End a session",
        description="Signs out one device. Its access tokens stop working within 5 seconds.",
        response_description="The session has ended.",
        problems=(NotFound,),
    )
    async def end(user_id: PathId, session_id: PathId, request: Request[Principal, Any, Any]) -> None:
        await sessions.end_one(request.user, user_id, session_id)

    @group.delete(
        "/user/{user_id:str}/sessions",
        operation_id="end_sessions",
        summary="End all other sessions",
        description="Signs out every device but the one that sends the request.",
        response_description="The sessions have ended.",
        problems=(NotFound,),
    )
    async def end_others(user_id: PathId, request: Request[Principal, Any, Any]) -> None:
        await sessions.end_others(request.user, user_id)

    return [sessions_of, end, end_others]


def password_routes(passwords: PasswordChanges, verify: Verify) -> list[Any]:
    """Changing a known password and resetting a forgotten one."""
    group = RouteGroup("passwords", problems=(Unavailable,))
    signed_in = RouteGroup("passwords", verify=verify, problems=(Unavailable,))

    @signed_in.post(
        "/password",
        operation_id="change_password",
        summary="Change your password",
        description="Ends all other sessions. Attempts are limited like sign-ins.",
        headers=LIMIT_HEADERS,
        problems=(WrongPassword, TooManyLogins),
        response_description="The password was changed.",
    )
    async def change(
        data: Annotated[PasswordBody, body(schemas.PASSWORD)], request: Request[Principal, Any, Any]
    ) -> Response[None]:
        current, new = data.current_password, data.new_password
        limit = await passwords.change(request.user, current, new, network_of(request))
        return Response(None, headers=limit.headers())

    @group.post(
        "/password/forgot",
        operation_id="forget_password",
        summary="Request a password reset email",
        description=(
            "The response and its timing are the same whether or not an account with this address exists. An "
            "account gets at most 3 emails per hour, and requests are limited per network."
        ),
        problems=(TooManyRequests,),
        responses=answer(Accepted, "The request was accepted.", schemas.FORGOTTEN, status=202),
    )
    async def forgot(
        data: Annotated[ForgotBody, body(schemas.FORGOT)], request: Request[Any, Any, Any]
    ) -> Accepted:
        await passwords.forgot(data.email, network_of(request))
        return Accepted(_MAIL_ON_ITS_WAY)

    @group.post(
        "/password/reset",
        operation_id="reset_password",
        summary="Reset the password",
        description=(
            "Uses the token from the email, which is valid once and for 30 minutes. Ends all sessions of the "
            "account."
        ),
        problems=(ResetTokenInvalid, TooManyRequests),
        response_description="The password was changed.",
    )
    async def reset(data: Annotated[ResetBody, body(schemas.RESET)], request: Request[Any, Any, Any]) -> None:
        await passwords.reset(data.token, data.password, network_of(request))

    return [change, forgot, reset]
