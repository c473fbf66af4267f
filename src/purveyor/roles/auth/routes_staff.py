"""The routes for staff and admins: find users, and say what they may do."""

from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from litestar import Request, Response, get, patch
from litestar.params import FromPath, QueryParameter

from purveyor.kit.errors import (
    BadRequest,
    BodyTooLarge,
    FieldError,
    Forbidden,
    InvalidInput,
    NotFound,
    Unauthorized,
    Unavailable,
)
from purveyor.kit.examples import answer, body
from purveyor.kit.ids import parse_id
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
        summary="Users, newest first",
        description=(
            "For staff. `email` finds the addresses that begin so, in lower case or not. `next_cursor` (and "
            "`Link`) lead to the next page."
        ),
        responses=answer(UserPage, "A page; `Link` leads to the next one.", examples.USERS)
        | problem_responses(Unauthorized, Forbidden, InvalidInput, Unavailable),
        tags=["staff"],
        **protected,
    )
    async def users(
        request: Request[Principal, Any, Any],
        email: Annotated[str, QueryParameter(max_length=254, pattern=r"^[^\x00-\x20]*$")] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, QueryParameter(max_length=64)] = None,
    ) -> Response[UserPage]:
        page, following = await auth.users(request.user, email, _cursor(cursor), limit)
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
        summary="Say what somebody may do",
        description=(
            "For admins. It counts within 5 seconds: access tokens that say otherwise stop working, and the "
            "refresh token gives one that says so. The last admin stays one."
        ),
        responses=answer(AccountView, "The account as it is now.", examples.EMPLOYEE)
        | problem_responses(
            BadRequest, Unauthorized, Forbidden, NotFound, LastAdmin, BodyTooLarge, InvalidInput, Unavailable
        ),
        tags=["staff"],
        **protected,
    )
    async def change_access(
        user_id: FromPath[str],
        data: Annotated[AccessBody, body(examples.ACCESS)],
        request: Request[Principal, Any, Any],
    ) -> AccountView:
        return account_view(await auth.change_access(request.user, user_id, data.access))

    return [users, change_access]


def _cursor(text: str | None) -> UUID | None:
    if text is None:
        return None
    if (found := parse_id(text)) is None:
        problem = FieldError("/cursor", "take the value from next_cursor of the page before")
        raise InvalidInput("The cursor is not valid.", errors=[problem])
    return found
