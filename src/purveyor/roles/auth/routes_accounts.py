"""The routes of accounts: registration, profiles, addresses, personal data, access levels."""

from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response
from litestar.openapi.spec import Link
from litestar.params import QueryParameter
from msgspec import UNSET, Meta, UnsetType

from purveyor.kit.errors import Forbidden, NotFound, TooManyRequests, Unavailable
from purveyor.kit.http.routes import (
    DEFAULT_LIMIT,
    Cursor,
    Limit,
    PathId,
    RouteGroup,
    Verify,
    answer,
    body,
    link,
    read_cursor,
    read_limit,
)
from purveyor.kit.http.web import ApiResponse
from purveyor.kit.limits.networks import network_of
from purveyor.kit.text import Line, Phone, clean_phone
from purveyor.roles.auth import model, schemas
from purveyor.roles.auth.contract import (
    AddressBody,
    ConfirmationTokenInvalid,
    EmailTaken,
    LastAdmin,
    Principal,
    TooManyLogins,
    WrongPassword,
)
from purveyor.roles.auth.email_addresses import EmailAddresses
from purveyor.roles.auth.model import UserFilter
from purveyor.roles.auth.privacy import Privacy
from purveyor.roles.auth.schemas import (
    LIMIT_HEADERS,
    Accepted,
    Access,
    AccountView,
    AddressView,
    ExportView,
    NewPassword,
    ProfileView,
    UserPage,
    UserView,
    account_view,
    address_view,
    export_view,
    profile_view,
    user_view,
)
from purveyor.roles.auth.service import Auth, Registration

_RETRY_AFTER_S = 2
_RETAINED = 'open-orders; data="name, address, email"; days=14'
_CONFIRMATION_SENT = "We have sent an email to this address. Open the link in it to confirm the address."
LanguageText = Annotated[
    str,
    Meta(
        max_length=40,
        description="RFC 5646 language tag; the default is en",
        extra_json_schema={"pattern": f"^({model.LANGUAGE.pattern})?$"},
    ),
]


class RegisterBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new account."""

    email: Annotated[str, Meta(max_length=254, extra_json_schema={"format": "email"})]
    password: NewPassword
    name: Line
    phone: Phone | None = None
    language: LanguageText | None = None
    checks: ClassVar = {
        "email": model.normal_email,
        "password": lambda text, pointer: model.check_password(text, model.PASSWORD_MIN_LENGTH, pointer),
        "name": model.clean_name,
        "phone": clean_phone,
        "language": model.clean_language,
    }


class ProfileChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Omitted members stay unchanged; ``null`` clears a member."""

    name: Line | UnsetType = UNSET
    phone: Phone | UnsetType | None = UNSET
    language: LanguageText | UnsetType | None = UNSET
    checks: ClassVar = {"name": model.clean_name, "phone": clean_phone, "language": model.clean_language}


def register_route(auth: Auth) -> Any:
    """Creating an account, the only route of accounts without a token."""
    group = RouteGroup("accounts", problems=(Unavailable,))

    @group.post(
        "/register",
        operation_id="register",
        summary="Create an account",
        description=(
            "Email addresses are case-insensitive and unique. A welcome email is sent. The password may contain "
            "any characters, but must not be one of the most common passwords. Registrations are limited per "
            "network and per mailbox."
        ),
        headers={"Location": "Path of the profile"},
        links=(
            link("get_profile", user_id="$response.body#/id"),
            link("log_in"),
        ),
        responses=answer(AccountView, "The new account. `Location` is its profile.", schemas.ACCOUNT, status=201),
        problems=(EmailTaken, TooManyRequests),
    )
    async def register(
        data: Annotated[RegisterBody, body(schemas.REGISTER)], request: Request[Any, Any, Any]
    ) -> Response[AccountView]:
        user = await auth.register(
            Registration(
                email=data.email,
                password=data.password,
                name=data.name,
                phone=data.phone or "",
                language=data.language or "",
            ),
            network=network_of(request),
        )
        return Response(account_view(user), headers={"Location": f"/user/{user.id}"})

    return register


class EmailBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new email address, and the current password."""

    email: Annotated[str, Meta(max_length=254, extra_json_schema={"format": "email"})]
    password: Annotated[str, Meta(max_length=1000)]
    checks: ClassVar = {"email": model.normal_email}


class ConfirmBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token from the email."""

    token: Annotated[str, Meta(max_length=200)]


def email_routes(emails: EmailAddresses, verify: Verify) -> list[Any]:
    """Confirming and changing the email address."""
    group = RouteGroup("accounts", problems=(Unavailable,))
    signed_in = RouteGroup("accounts", verify=verify, problems=(NotFound, Unavailable))

    @group.post(
        "/email/confirm",
        operation_id="confirm_email",
        summary="Confirm an email address",
        description=(
            "Uses the token from the email that was sent after registration or a change of the address. It is "
            "valid once and for 3 days. A new address replaces the old one, whose owner gets a notice."
        ),
        problems=(ConfirmationTokenInvalid, EmailTaken, TooManyRequests),
        response_description="The address is confirmed.",
    )
    async def confirm(
        data: Annotated[ConfirmBody, body(schemas.CONFIRM)], request: Request[Any, Any, Any]
    ) -> None:
        await emails.confirm(data.token, network_of(request))

    @signed_in.post(
        "/user/{user_id:str}/email",
        operation_id="change_email",
        summary="Change your email address",
        description=(
            "Sends an email with a token to the address. The address changes when `POST /email/confirm` gets the "
            "token. Send the current address to get a new token for it. Attempts are limited like sign-ins."
        ),
        headers=LIMIT_HEADERS,
        responses=answer(Accepted, "The confirmation was sent.", schemas.EMAIL_SENT, status=202),
        problems=(WrongPassword, EmailTaken, TooManyLogins, TooManyRequests),
    )
    async def change(
        user_id: PathId, data: Annotated[EmailBody, body(schemas.EMAIL)], request: Request[Principal, Any, Any]
    ) -> Response[Accepted]:
        limit = await emails.change(request.user, user_id, data.email, data.password, network_of(request))
        return ApiResponse(Accepted(_CONFIRMATION_SENT), headers=limit.headers())

    return [confirm, change]


def profile_routes(auth: Auth, verify: Verify) -> list[Any]:
    """Reading and changing a profile."""
    group = RouteGroup("accounts", verify=verify, problems=(Unavailable,))

    @group.get(
        "/user/{user_id:str}",
        operation_id="get_profile",
        summary="Get a profile with its addresses",
        description="Customers see their own profile; staff see all. Profiles of other users return 404.",
        responses=answer(ProfileView, "The profile.", schemas.PROFILE),
        problems=(NotFound,),
    )
    async def profile(user_id: PathId, request: Request[Principal, Any, Any]) -> ProfileView:
        return profile_view(*await auth.profile(request.user, user_id))

    @group.patch(
        "/user/{user_id:str}",
        operation_id="change_profile",
        summary="Update your profile",
        description="Omitted members stay unchanged. The next access token contains the new values.",
        responses=answer(AccountView, "The updated account.", schemas.CHANGED),
        problems=(NotFound,),
    )
    async def change(
        user_id: PathId,
        data: Annotated[ProfileChange, body(schemas.CHANGE)],
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


def privacy_routes(privacy: Privacy, verify: Verify) -> list[Any]:
    """Export and erasure of personal data."""
    group = RouteGroup("privacy", verify=verify, problems=(NotFound, Unavailable))

    @group.get(
        "/user/{user_id:str}/export",
        operation_id="export_person",
        summary="Export personal data",
        description=(
            "Users export their own data; admins can export anyone's. Collecting the data from all roles can take "
            "a few seconds. Until it is complete the response is 202 with `Retry-After`; repeat the request to "
            "continue. Collected data is discarded after one hour."
        ),
        responses=answer(ExportView, "The complete export.", schemas.EXPORT)
        | answer(ExportView, "The export so far. Repeat the request.", schemas.PARTIAL_EXPORT, status=202),
    )
    async def export(user_id: PathId, request: Request[Principal, Any, Any]) -> Response[ExportView]:
        view = export_view(await privacy.export(request.user, user_id))
        if view.complete:
            return ApiResponse(view)
        return ApiResponse(view, status_code=202, headers={"Retry-After": str(_RETRY_AFTER_S)})

    @group.delete(
        "/user/{user_id:str}",
        operation_id="erase_person",
        summary="Delete an account and its personal data",
        description=(
            "Users delete their own account; admins can delete any. The account, its addresses and its sessions "
            "are deleted immediately; other roles erase their data within seconds. Orders keep their amounts "
            "without personal data. An open order keeps the name, postal address and email address until 14 days "
            "after it is delivered or cancelled. With `cancel_open_orders=true`, open orders that can be "
            "cancelled are."
        ),
        headers={"Retained-Data": "What is kept for open orders, and for how many days after they are closed"},
        problems=(LastAdmin,),
        response_description="The account was deleted.",
    )
    async def erase(
        user_id: PathId,
        request: Request[Principal, Any, Any],
        *,
        cancel_open_orders: Annotated[
            bool, QueryParameter(description="Cancel open orders where possible")
        ] = False,
    ) -> Response[None]:
        await privacy.erase(request.user, user_id, cancel_open_orders=cancel_open_orders)
        return Response(None, headers={"Retained-Data": _RETAINED})

    return [export, erase]


_COLLECTION = "/user/{user_id:str}/addresses"
_SINGLE = "/user/{user_id:str}/addresses/{address_id:str}"


def _to_address(address_id: str) -> tuple[Link, ...]:
    return tuple(
        link(operation, user_id="$request.path.user_id", address_id=address_id)
        for operation in ("get_address", "replace_address", "delete_address")
    )


def address_routes(auth: Auth, verify: Verify) -> list[Any]:
    """Reading and changing the addresses of an account."""
    group = RouteGroup("addresses", verify=verify, problems=(NotFound, Unavailable))
    return [*_reading_routes(auth, group), *_writing_routes(auth, group)]


def _reading_routes(auth: Auth, group: RouteGroup) -> list[Any]:
    @group.get(
        _COLLECTION,
        operation_id="list_addresses",
        summary="List addresses",
        description="Oldest first. Customers see their own addresses; staff see all.",
        links=_to_address("$response.body#/0/id"),
        responses=answer(list[AddressView], "The addresses.", schemas.ADDRESSES),
    )
    async def addresses(user_id: PathId, request: Request[Principal, Any, Any]) -> list[AddressView]:
        return [address_view(one) for one in await auth.addresses(request.user, user_id)]

    @group.get(
        _SINGLE,
        operation_id="get_address",
        summary="Get an address",
        description="Customers see their own addresses; staff see all.",
        responses=answer(AddressView, "The address.", schemas.ADDRESS),
    )
    async def address(user_id: PathId, address_id: PathId, request: Request[Principal, Any, Any]) -> AddressView:
        return address_view(await auth.address(request.user, user_id, address_id))

    return [addresses, address]


def _writing_routes(auth: Auth, group: RouteGroup) -> list[Any]:
    @group.post(
        _COLLECTION,
        operation_id="add_address",
        summary="Add an address",
        description="An account has at most 50 addresses. A new default address replaces the previous default.",
        headers={"Location": "Path of the address"},
        links=_to_address("$response.body#/id"),
        responses=answer(AddressView, "The new address. `Location` is its path.", schemas.ADDRESS, status=201),
    )
    async def add(
        user_id: PathId,
        data: Annotated[AddressBody, body(schemas.NEW_ADDRESS)],
        request: Request[Principal, Any, Any],
    ) -> Response[AddressView]:
        stored = await auth.add_address(request.user, user_id, data.checked(), is_default=data.is_default)
        return Response(address_view(stored), headers={"Location": f"/user/{user_id}/addresses/{stored.id}"})

    @group.put(
        _SINGLE,
        operation_id="replace_address",
        summary="Replace an address",
        description="Replaces the whole address; omitted members are cleared. Existing orders keep their address.",
        responses=answer(AddressView, "The updated address.", schemas.ADDRESS),
    )
    async def replace(
        user_id: PathId,
        address_id: PathId,
        data: Annotated[AddressBody, body(schemas.NEW_ADDRESS)],
        request: Request[Principal, Any, Any],
    ) -> AddressView:
        stored = await auth.replace_address(
            request.user, user_id, address_id, data.checked(), is_default=data.is_default
        )
        return address_view(stored)

    @group.delete(
        _SINGLE,
        operation_id="delete_address",
        summary="Delete an address",
        description="Existing orders keep their address.",
        response_description="The address was deleted.",
    )
    async def remove(user_id: PathId, address_id: PathId, request: Request[Principal, Any, Any]) -> None:
        await auth.remove_address(request.user, user_id, address_id)

    return [add, replace, remove]


class AccessBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The role of a user, and whether they are blocked. Omitted members stay unchanged."""

    access: Access | None = msgspec.field(default=None, name="role")
    blocked: bool | None = None


def staff_routes(auth: Auth, verify: Verify) -> list[Any]:
    """Finding users and changing their roles."""
    group = RouteGroup("staff", verify=verify, problems=(Forbidden, Unavailable))

    @group.get(
        "/users",
        operation_id="list_users",
        summary="List users",
        description=(
            "For staff. Newest first. `q` finds users by a part of their name or email address, `email` by the "
            "start of the address, both ignoring case. Use `next_cursor` or `Link` to get the next page."
        ),
        headers={"Link": "Next page, if there is one (RFC 8288)"},
        links=(
            link("list_users", cursor="$response.body#/next_cursor"),
            link("get_profile", user_id="$response.body#/users/0/id"),
        ),
        responses=answer(UserPage, "A page of users.", schemas.USERS),
    )
    async def users(
        request: Request[Principal, Any, Any],
        *,
        email: Annotated[
            str,
            QueryParameter(max_length=254, pattern=r"^[^\x00-\x20]*$", description="Prefix of the email address"),
        ] = "",
        q: Annotated[
            str,
            QueryParameter(max_length=200, description="Part of the name or email address"),
        ] = "",
        role: Annotated[Access | None, QueryParameter(description="Only users with this role")] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Response[UserPage]:
        wanted = UserFilter(email=email, text=q, access=role or "")
        page, following = await auth.users(request.user, wanted, read_cursor(cursor), read_limit(limit))
        headers = {}
        if following is not None:
            query = {"email": email, "q": q, "role": role or "", "limit": limit, "cursor": following}
            link = urlencode({name: value for name, value in query.items() if value != ""})
            headers["Link"] = f'</users?{link}>; rel="next"'
        views = [user_view(user) for user in page]
        return ApiResponse(
            UserPage(views, str(following) if following else None, following is not None), headers=headers
        )

    @group.patch(
        "/user/{user_id:str}/access",
        operation_id="change_access",
        summary="Change the role of a user, or block them",
        description=(
            "For admins. A blocked user cannot sign in, and all of their sessions end. "
            "Takes effect within 5 seconds: access tokens with the old role stop working, and the "
            "refresh token returns one with the new role. The last admin cannot be demoted or blocked."
        ),
        responses=answer(UserView, "The updated account.", schemas.EMPLOYEE),
        problems=(NotFound, LastAdmin),
    )
    async def change_access(
        user_id: PathId,
        data: Annotated[AccessBody, body(schemas.ACCESS)],
        request: Request[Principal, Any, Any],
    ) -> UserView:
        return user_view(await auth.change_access(request.user, user_id, data.access, blocked=data.blocked))

    return [users, change_access]
