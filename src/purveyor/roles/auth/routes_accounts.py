"""The routes of accounts: open one, see and change the profile, take the data away, delete it all."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, patch, post
from msgspec import UNSET, Meta, UnsetType

from purveyor.kit.errors import NotFound, Unavailable
from purveyor.kit.examples import answer, body, link, notes
from purveyor.kit.parameters import PathId
from purveyor.kit.text import Line, Phone
from purveyor.kit.web import ApiResponse, problem_responses
from purveyor.roles.auth import examples
from purveyor.roles.auth.contract import EmailTaken, Principal
from purveyor.roles.auth.errors import LastAdmin
from purveyor.roles.auth.model import LANGUAGE
from purveyor.roles.auth.service import Auth, Registration
from purveyor.roles.auth.service_privacy import Privacy
from purveyor.roles.auth.views import (
    AccountView,
    ExportView,
    NewPassword,
    ProfileView,
    account_view,
    export_view,
    profile_view,
)

_RETRY_AFTER_S = 2

LanguageText = Annotated[
    str,
    Meta(
        max_length=40,
        description="RFC 5646; empty: en",
        extra_json_schema={"pattern": f"^({LANGUAGE.pattern})?$"},
    ),
]


class RegisterBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new account."""

    email: Annotated[str, Meta(max_length=254, extra_json_schema={"format": "email"})]
    password: NewPassword
    name: Line
    phone: Phone | None = None
    language: LanguageText | None = None


class ProfileChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Members that are not sent stay as they are; ``null`` empties."""

    name: Line | UnsetType = UNSET
    phone: Phone | UnsetType | None = UNSET
    language: LanguageText | UnsetType | None = UNSET


def register_route(auth: Auth) -> Any:
    """The one route of accounts that needs no token."""

    @post(
        "/register",
        tags=["accounts"],
        operation_id="register",
        summary="Open an account",
        opt=notes(
            headers={"Location": "the profile"},
            links=(
                link("get_profile", user_id="$response.body#/id"),
                link("log_in", body={"email": "$request.body#/email", "password": "$request.body#/password"}),
            ),
        ),
        description=(
            "The address is folded to lower case and counts once, however it is written. A welcome goes out by "
            "mail. The password may hold any characters; it must not be one of the most common ones."
        ),
        responses=answer(AccountView, "The new account; `Location` is its profile.", examples.ACCOUNT, status=201)
        | problem_responses(EmailTaken, Unavailable),
    )
    async def register(data: Annotated[RegisterBody, body(examples.REGISTER)]) -> Response[AccountView]:
        user = await auth.register(
            Registration(
                email=data.email,
                password=data.password,
                name=data.name,
                phone=data.phone or "",
                language=data.language or "",
            )
        )
        return Response(account_view(user), headers={"Location": f"/user/{user.id}"})

    return register


def profile_routes(auth: Auth, protected: dict[str, Any]) -> list[Any]:
    """Reading and changing a profile; ``protected`` is what every route for signed-in people says."""

    @get(
        "/user/{user_id:str}",
        operation_id="get_profile",
        summary="A profile with its addresses",
        description="One's own; staff see everybody's. Somebody else's does not exist for others.",
        responses=answer(ProfileView, "The profile.", examples.PROFILE) | problem_responses(NotFound, Unavailable),
        tags=["accounts"],
        **protected,
    )
    async def profile(user_id: PathId, request: Request[Principal, Any, Any]) -> ProfileView:
        return profile_view(*await auth.profile(request.user, user_id))

    @patch(
        "/user/{user_id:str}",
        operation_id="change_profile",
        summary="Change one's own profile",
        description="Members that are not sent stay as they are. Access tokens show it from the next one on.",
        responses=answer(AccountView, "The account as it is now.", examples.CHANGED)
        | problem_responses(NotFound, Unavailable),
        tags=["accounts"],
        **protected,
    )
    async def change(
        user_id: PathId,
        data: Annotated[ProfileChange, body(examples.CHANGE)],
        request: Request[Principal, Any, Any],
    ) -> AccountView:
        return account_view(
            await auth.change_profile(
                request.user,
                user_id,
                name=None if data.name is UNSET else data.name,
                phone=None if data.phone is UNSET else data.phone or "",
                language=None if data.language is UNSET else data.language or "",
            )
        )

    return [profile, change]


def privacy_routes(privacy: Privacy, protected: dict[str, Any]) -> list[Any]:
    """Everything that is held on a person, and its erasure."""

    @get(
        "/user/{user_id:str}/export",
        operation_id="export_person",
        summary="Everything that is held on a person",
        description=(
            "One's own; admins get anybody's. It is gathered from all roles, which may take some seconds: 202 "
            "with `Retry-After` says that some is still to come; the same request again, within the hour, goes "
            "on with it. After an hour what was gathered is thrown away."
        ),
        responses=answer(ExportView, "All of it.", examples.EXPORT)
        | answer(ExportView, "What has come so far: ask again.", examples.PARTIAL_EXPORT, status=202)
        | problem_responses(NotFound, Unavailable),
        tags=["privacy"],
        **protected,
    )
    async def export(user_id: PathId, request: Request[Principal, Any, Any]) -> Response[ExportView]:
        view = export_view(await privacy.export(request.user, user_id))
        if view.complete:
            return ApiResponse(view)
        return ApiResponse(view, status_code=202, headers={"Retry-After": str(_RETRY_AFTER_S)})

    @delete(
        "/user/{user_id:str}",
        operation_id="erase_person",
        summary="Delete an account with everything that is held on the person",
        response_description="The account is gone.",
        description=(
            "One's own, or as an admin any. The account, its addresses and its sessions are gone at once; the "
            "other roles erase their part within seconds. Of orders the amounts stay, without the person."
        ),
        responses=problem_responses(NotFound, LastAdmin, Unavailable),
        tags=["privacy"],
        **protected,
    )
    async def erase(user_id: PathId, request: Request[Principal, Any, Any]) -> None:
        await privacy.erase(request.user, user_id)

    return [export, erase]
