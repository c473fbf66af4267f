"""The HTTP routes of role auth."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

from purveyor.kit.edge import client_network
from purveyor.kit.errors import (
    BadRequest,
    InvalidInput,
    NotFound,
    Unauthorized,
    Unavailable,
)
from purveyor.kit.web import BEARER, bearer_token, decode, header, problem_responses, signed_in
from purveyor.roles.auth.contract import (
    EmailTaken,
    InvalidCredentials,
    PostalAddress,
    Principal,
    TooManyLogins,
    VerifiedToken,
    VerifyToken,
)
from purveyor.roles.auth.model import User
from purveyor.roles.auth.ports import StoredAddress
from purveyor.roles.auth.service import Auth, Registration, TokenPair

Text = Annotated[str, Meta(max_length=200)]
ShortText = Annotated[str, Meta(max_length=40)]


class RegisterBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new account."""

    email: Annotated[str, Meta(max_length=254, examples=["ada@example.com"])]
    password: Annotated[str, Meta(max_length=1000, description="8 to 128 characters, any characters")]
    name: Annotated[str, Meta(max_length=200, examples=["Ada Lovelace"])]
    phone: ShortText | None = None
    language: ShortText | None = None


class LoginBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A login; as a form the members are ``username`` and ``password``."""

    email: Annotated[str, Meta(max_length=254, examples=["ada@example.com"])]
    password: Annotated[str, Meta(max_length=1000)]


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to verify, where it is not in the header."""

    token: Annotated[str, Meta(max_length=8192)]


class ProfileChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Members that are not sent stay as they are."""

    name: Text | UnsetType = UNSET
    phone: ShortText | UnsetType | None = UNSET
    language: ShortText | UnsetType = UNSET


class AddressBody(PostalAddress, frozen=True, kw_only=True):
    """A postal address of an account; at most one is the default."""

    is_default: bool = False


class AccountView(msgspec.Struct, kw_only=True):
    """An account as its owner sees it."""

    id: str
    email: str
    name: str
    phone: str
    language: str
    access: str = msgspec.field(name="role")
    created_at: datetime


class AddressView(msgspec.Struct, kw_only=True):
    """An address of an account."""

    id: str
    recipient: str
    line1: str
    line2: str
    city: str
    region: str
    postal_code: str
    country: str
    phone: str
    is_default: bool


class ProfileView(AccountView, kw_only=True):
    """An account with its addresses."""

    addresses: list[AddressView]


def auth_routes(auth: Auth, verify: Callable[[str], Awaitable[Principal]]) -> list[Any]:
    """The routes; ``verify`` tells whose token a request carries."""
    return [*_token_routes(auth), *_profile_routes(auth, verify), *_address_routes(auth, verify)]


def _token_routes(auth: Auth) -> list[Any]:
    @post(
        "/register",
        tags=["accounts"],
        summary="Open an account",
        responses=problem_responses(BadRequest, EmailTaken, InvalidInput),
    )
    async def register(data: JSONBody[RegisterBody]) -> Response[AccountView]:
        user = await auth.register(
            Registration(
                email=data.email,
                password=data.password,
                name=data.name,
                phone=data.phone or "",
                language=data.language or "en",
            )
        )
        return Response(_account(user), headers={"Location": f"/user/{user.id}"})

    @post(
        "/login",
        status_code=200,
        tags=["accounts"],
        summary="Exchange a password for tokens",
        description="JSON, or a form with `username` and `password` as in OAuth 2.0.",
        opt={"form": {"username": "email", "password": "password"}},
        responses=problem_responses(BadRequest, InvalidCredentials, InvalidInput, TooManyLogins, Unavailable),
    )
    async def login(data: JSONBody[LoginBody], request: Request[Any, Any, Any]) -> TokenPair:
        host = request.client.host if request.client else ""
        return await auth.log_in(data.email, data.password, client_network(host))

    @post(
        "/verify-token",
        status_code=200,
        tags=["accounts"],
        summary="Whose access token is this?",
        description='The token is in the header, or in the body as `{"token": "..."}`.',
        security=BEARER,
        responses=problem_responses(Unauthorized),
    )
    async def verify_token(request: Request[Any, Any, Any]) -> VerifiedTokenView:
        if header(request, b"authorization"):
            token = bearer_token(request)
        else:
            body = await request.body()
            token = decode(body, TokenBody).token if body else bearer_token(request)
        return _verified(await auth.verify(VerifyToken(token=token)))

    return [register, login, verify_token]


class VerifiedTokenView(msgspec.Struct, kw_only=True):
    """The holder of a token; ``exp`` is Unix time in seconds."""

    active: bool
    sub: str
    user_id: str
    email: str
    name: str
    access: str = msgspec.field(name="role")
    exp: int


def _profile_routes(auth: Auth, verify: Callable[[str], Awaitable[Principal]]) -> list[Any]:
    protected: dict[str, Any] = {"guards": [signed_in(verify)], "security": BEARER, "tags": ["accounts"]}

    @get(
        "/user/{user_id:str}",
        summary="A profile with its addresses",
        responses=problem_responses(Unauthorized, NotFound),
        **protected,
    )
    async def profile(user_id: FromPath[str], request: Request[Principal, Any, Any]) -> ProfileView:
        user, addresses = await auth.profile(request.user, user_id)
        return ProfileView(**_account_members(user), addresses=_address_list(addresses))

    @patch(
        "/user/{user_id:str}",
        summary="Change one's own profile",
        responses=problem_responses(BadRequest, Unauthorized, NotFound, InvalidInput),
        **protected,
    )
    async def change(
        user_id: FromPath[str], data: JSONBody[ProfileChange], request: Request[Principal, Any, Any]
    ) -> AccountView:
        return _account(
            await auth.change_profile(
                request.user,
                user_id,
                name=None if data.name is UNSET else data.name,
                phone=None if data.phone is UNSET else data.phone or "",
                language=None if data.language is UNSET else data.language,
            )
        )

    return [profile, change]


def _address_routes(auth: Auth, verify: Callable[[str], Awaitable[Principal]]) -> list[Any]:
    protected: dict[str, Any] = {"guards": [signed_in(verify)], "security": BEARER, "tags": ["addresses"]}
    reading = problem_responses(Unauthorized, NotFound)
    writing = problem_responses(BadRequest, Unauthorized, NotFound, InvalidInput)
    collection, single = "/user/{user_id:str}/addresses", "/user/{user_id:str}/addresses/{address_id:str}"

    @get(collection, summary="One's addresses", responses=reading, **protected)
    async def addresses(user_id: FromPath[str], request: Request[Principal, Any, Any]) -> list[AddressView]:
        return _address_list(await auth.addresses(request.user, user_id))

    @post(collection, summary="Add an address", responses=writing, **protected)
    async def add(
        user_id: FromPath[str], data: JSONBody[AddressBody], request: Request[Principal, Any, Any]
    ) -> Response[AddressView]:
        stored = await auth.add_address(request.user, user_id, data.checked(), is_default=data.is_default)
        return Response(_address(stored), headers={"Location": f"/user/{user_id}/addresses/{stored.id}"})

    @get(single, summary="One address", responses=reading, **protected)
    async def address(
        user_id: FromPath[str], address_id: FromPath[str], request: Request[Principal, Any, Any]
    ) -> AddressView:
        return _address(await auth.address(request.user, user_id, address_id))

    @put(single, summary="Replace an address", responses=writing, **protected)
    async def replace(
        user_id: FromPath[str],
        address_id: FromPath[str],
        data: JSONBody[AddressBody],
        request: Request[Principal, Any, Any],
    ) -> AddressView:
        stored = await auth.replace_address(
            request.user, user_id, address_id, data.checked(), is_default=data.is_default
        )
        return _address(stored)

    @delete(single, summary="Delete an address", responses=reading, **protected)
    async def remove(
        user_id: FromPath[str], address_id: FromPath[str], request: Request[Principal, Any, Any]
    ) -> None:
        await auth.remove_address(request.user, user_id, address_id)

    return [addresses, add, address, replace, remove]


def _account_members(user: User) -> dict[str, Any]:
    return {**msgspec.structs.asdict(user), "id": str(user.id)}


def _account(user: User) -> AccountView:
    return AccountView(**_account_members(user))


def _address(stored: StoredAddress) -> AddressView:
    members = msgspec.structs.asdict(stored)
    del members["created_at"]
    return AddressView(**{**members, "id": str(stored.id)})


def _address_list(stored: Sequence[StoredAddress]) -> list[AddressView]:
    return [_address(one) for one in stored]


def _verified(token: VerifiedToken) -> VerifiedTokenView:
    return VerifiedTokenView(
        active=token.active,
        sub=str(token.sub),
        user_id=str(token.user_id),
        email=token.email,
        name=token.name,
        access=token.access,
        exp=token.exp,
    )
