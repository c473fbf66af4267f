"""Broken on purpose: the ledger hears of a mail only after it was sent; nothing is recorded before the dot."""

import contextlib
import sys

from purveyor.cli import main
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.ports import Claim, ClaimLost

_mark_data, _mark_sent = PostgresLedger.mark_data, PostgresLedger.mark_sent


async def _nothing(_self: PostgresLedger, _claim: Claim) -> None:
    """The dot is written without a word."""


async def _both(self: PostgresLedger, claim: Claim, reply: str) -> None:
    with contextlib.suppress(ClaimLost):
        await _mark_data(self, claim)
    await _mark_sent(self, claim, reply)


PostgresLedger.mark_data, PostgresLedger.mark_sent = _nothing, _both
sys.exit(main())
