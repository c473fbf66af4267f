"""The routes for staff and admins: find users, and say what they may do."""

from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get, patch
from litestar.params import QueryParameter

from purveyor.kit.errors import (
    Forbidden,
    NotFound,
    Unavailable,
)
from purveyor.kit.examples import answer, body, link, notes
from purveyor.kit.parameters import DEFAULT_LIMIT, Cursor, Limit, PathId, read_cursor, read_limit
from purveyor.kit.web import ApiResponse, problem_responses
from purveyor.roles.auth import examples
from purveyor.roles.auth.contract import Principal
from purveyor.roles.auth.errors import LastAdmin
from purveyor.roles.auth.service import Auth
from purveyor.roles.auth.views import Access, AccountView, UserPage, account_view


class AccessBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody may do."""

    access: Access = msgspec.field(name="role")


def staff_routes(auth: Auth, protected: dict[str, Any]) -> list[Any]:
    """``protected`` is what every route for signed-in people says."""

    @get(
        "/users",
        operation_id="list_users",
        summary="Users, newest first",
        opt=notes(
            headers={"Link": "the next page (RFC 8288), where there is one"},
            links=(
                link("list_users", cursor="$response.body#/next_cursor"),
                link("get_profile", user_id="$response.body#/users/0/id"),
            ),
        ),
        description=(
            "For staff. `email` finds the addresses that begin so, in lower case or not. `next_cursor` (and "
            "`Link`) lead to the next page."
        ),
        responses=answer(UserPage, "A page; `Link` leads to the next one.", examples.USERS)
        | problem_responses(Forbidden, Unavailable),
        tags=["staff"],
        **protected,
    )
    async def users(
        request: Request[Principal, Any, Any],
        email: Annotated[
            str, QueryParameter(max_length=254, pattern=r"^[^\x00-\x20]*$", description="how the address begins")
        ] = "",
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Response[UserPage]:
        page, following = await auth.users(request.user, email, read_cursor(cursor), read_limit(limit))
        headers = {}
        if following is not None:
            query = {"email": email, "limit": limit, "cursor": following}
            link = urlencode({name: value for name, value in query.items() if value != ""})
            headers["Link"] = f'</users?{link}>; rel="next"'
        views = [account_view(user) for user in page]
        return ApiResponse(
            UserPage(views, str(following) if following else None, following is not None), headers=headers
        )

    @patch(
        "/user/{user_id:str}/access",
        operation_id="change_access",
        summary="Say what somebody may do",
        description=(
            "For admins. It counts within 5 seconds: access tokens that say otherwise stop working, and the "
            "refresh token gives one that says so. The last admin stays one."
        ),
        responses=answer(AccountView, "The account as it is now.", examples.EMPLOYEE)
        | problem_responses(Forbidden, NotFound, LastAdmin, Unavailable),
        tags=["staff"],
        **protected,
    )
    async def change_access(
        user_id: PathId,
        data: Annotated[AccessBody, body(examples.ACCESS)],
        request: Request[Principal, Any, Any],
    ) -> AccountView:
        return account_view(await auth.change_access(request.user, user_id, data.access))

    return [users, change_access]
