"""Asks inside one process: a direct call, with the same deadline and the same errors as over the network."""

import asyncio
from typing import TypeVar, cast

from purveyor.kit import tracing
from purveyor.kit.caller import asking_role
from purveyor.kit.db.postgres import inside_transaction
from purveyor.kit.deadline import seconds_left
from purveyor.kit.errors import Unavailable
from purveyor.kit.events.message import Ask
from purveyor.kit.events.transport import Answers

R = TypeVar("R")


class LocalAsker:
    """Calls the answering role's function. ``answers`` may still be filled after this was made.

    ``asking`` is the role that asks, for the answering role to see.
    """

    def __init__(self, answers: Answers, *, timeout_s: float, asking: str = "") -> None:
        self._answers = answers
        self._timeout_s = timeout_s
        self._asking = asking

    async def ask(self, message: Ask[R]) -> R:
        if inside_transaction():
            raise RuntimeError(f"{type(message).__name__} was asked inside an open database transaction")
        token = asking_role.set(self._asking)
        try:
            with tracing.span(f"ask {type(message).__name__}", "internal", {}):
                async with asyncio.timeout(seconds_left(self._timeout_s)):
                    return cast("R", await self._answers[type(message)](message))
        except TimeoutError as late:
            raise Unavailable("Another role did not respond in time.") from late
        finally:
            asking_role.reset(token)
