"""The private routes by which roles in other processes ask those of this one; ``http`` is the other end.

A request without a valid service token gets 401, one from a role that does not declare to need the ask 403.
None of these routes is in the OpenAPI document.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath

from purveyor.kit.caller import asking_role
from purveyor.kit.errors import BadRequest, Forbidden, NotFound, Problem
from purveyor.kit.events.message import Ask
from purveyor.kit.events.transport import Answers
from purveyor.kit.http.web import ApiResponse, bearer_token, decode, find_header
from purveyor.kit.service_tokens import ServiceTokens
from purveyor.transports import ANSWERED_BY, PRIVATE

Callers = Mapping[type[Ask[Any]], frozenset[str]]
"""The roles that may make each ask."""


def answering_routes(roles: Mapping[str, Answers], callers: Callers, tokens: ServiceTokens) -> list[Any]:
    """The routes; ``roles`` are the actors of this process with what each answers."""
    asks = {role: {ask.__name__: ask for ask in answers if not ask.route} for role, answers in roles.items()}

    @get(f"{PRIVATE}/{{role:str}}", include_in_schema=False)
    async def recognize(request: Request[Any, Any, Any], role: FromPath[str]) -> Response[Any]:
        tokens.read(bearer_token(request), asked=role)
        if role not in roles:
            raise NotFound
        return ApiResponse({}, headers={ANSWERED_BY: role})

    @post(f"{PRIVATE}/{{role:str}}/{{name:str}}", status_code=200, include_in_schema=False)
    async def answer(request: Request[Any, Any, Any], role: FromPath[str], name: FromPath[str]) -> Response[Any]:
        asking = tokens.read(bearer_token(request), asked=role)
        if (ask := asks.get(role, {}).get(name)) is None:
            raise NotFound
        if asking not in callers[ask]:
            raise Forbidden(f"Role {asking} does not declare that it asks {name}.")
        message = await _read(request, ask)
        token = asking_role.set(asking)
        try:
            reply = await roles[role][ask](message)
        except Problem as problem:
            problem.headers[ANSWERED_BY] = role
            raise
        finally:
            asking_role.reset(token)
        return ApiResponse(reply, headers={ANSWERED_BY: role})

    return [recognize, answer]


async def _read(request: Request[Any, Any, Any], ask: type[Ask[Any]]) -> Ask[Any]:
    body = await request.body()
    sent = {field: find_header(request, name.lower().encode()) for field, name in ask.headers.items()}
    if not sent:
        read: Ask[Any] = decode(body, ask)
        return read
    fields = decode(body, dict[str, Any]) | {field: value for field, value in sent.items() if value is not None}
    try:
        read = msgspec.convert(fields, ask, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The ask cannot be read: {error}.") from error
    return read
