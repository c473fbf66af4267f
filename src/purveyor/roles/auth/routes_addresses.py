"""The routes of postal addresses."""

from typing import Annotated, Any

from litestar import Request, Response, delete, get, post, put
from litestar.openapi.spec import Link

from purveyor.kit.errors import NotFound, Unavailable
from purveyor.kit.examples import answer, body, link, notes
from purveyor.kit.parameters import PathId
from purveyor.kit.web import problem_responses
from purveyor.roles.auth import examples
from purveyor.roles.auth.contract import PostalAddress, Principal
from purveyor.roles.auth.service import Auth
from purveyor.roles.auth.views import AddressView, address_view

_COLLECTION = "/user/{user_id:str}/addresses"
_MISSING = problem_responses(NotFound, Unavailable)
_SINGLE = "/user/{user_id:str}/addresses/{address_id:str}"


def _to_address(address_id: str) -> tuple[Link, ...]:
    return tuple(
        link(operation, user_id="$request.path.user_id", address_id=address_id)
        for operation in ("get_address", "replace_address", "delete_address")
    )


class AddressBody(PostalAddress, frozen=True, kw_only=True):
    """A postal address of an account; at most one is the default."""

    is_default: bool = False


def address_routes(auth: Auth, protected: dict[str, Any]) -> list[Any]:
    """``protected`` is what every route for signed-in people says."""
    protected = {**protected, "tags": ["addresses"]}
    return [*_reading_routes(auth, protected), *_writing_routes(auth, protected)]


def _reading_routes(auth: Auth, protected: dict[str, Any]) -> list[Any]:
    @get(
        _COLLECTION,
        operation_id="list_addresses",
        summary="One's addresses",
        opt=notes(links=_to_address("$response.body#/0/id")),
        description="Oldest first. Staff see everybody's.",
        responses=answer(list[AddressView], "The addresses.", examples.ADDRESSES) | _MISSING,
        **protected,
    )
    async def addresses(user_id: PathId, request: Request[Principal, Any, Any]) -> list[AddressView]:
        return [address_view(one) for one in await auth.addresses(request.user, user_id)]

    @get(
        _SINGLE,
        operation_id="get_address",
        summary="One address",
        description="One's own; staff see everybody's.",
        responses=answer(AddressView, "The address.", examples.ADDRESS) | _MISSING,
        **protected,
    )
    async def address(user_id: PathId, address_id: PathId, request: Request[Principal, Any, Any]) -> AddressView:
        return address_view(await auth.address(request.user, user_id, address_id))

    return [addresses, address]


def _writing_routes(auth: Auth, protected: dict[str, Any]) -> list[Any]:
    @post(
        _COLLECTION,
        operation_id="add_address",
        summary="Add an address",
        opt=notes(
            headers={"Location": "the address"},
            links=_to_address("$response.body#/id"),
        ),
        description="At most 50. One that is the default takes the place of the default before.",
        responses=answer(
            AddressView, "The new address; `Location` is where it stands.", examples.ADDRESS, status=201
        )
        | _MISSING,
        **protected,
    )
    async def add(
        user_id: PathId,
        data: Annotated[AddressBody, body(examples.NEW_ADDRESS)],
        request: Request[Principal, Any, Any],
    ) -> Response[AddressView]:
        stored = await auth.add_address(request.user, user_id, data.checked(), is_default=data.is_default)
        return Response(address_view(stored), headers={"Location": f"/user/{user_id}/addresses/{stored.id}"})

    @put(
        _SINGLE,
        operation_id="replace_address",
        summary="Replace an address",
        description="As a whole: members that are not sent are emptied. Orders keep what they were sent to.",
        responses=answer(AddressView, "The address as it is now.", examples.ADDRESS) | _MISSING,
        **protected,
    )
    async def replace(
        user_id: PathId,
        address_id: PathId,
        data: Annotated[AddressBody, body(examples.NEW_ADDRESS)],
        request: Request[Principal, Any, Any],
    ) -> AddressView:
        stored = await auth.replace_address(
            request.user, user_id, address_id, data.checked(), is_default=data.is_default
        )
        return address_view(stored)

    @delete(
        _SINGLE,
        operation_id="delete_address",
        summary="Delete an address",
        response_description="The address is gone.",
        description="Orders that were sent there keep their copy.",
        responses=_MISSING,
        **protected,
    )
    async def remove(user_id: PathId, address_id: PathId, request: Request[Principal, Any, Any]) -> None:
        await auth.remove_address(request.user, user_id, address_id)

    return [add, replace, remove]
