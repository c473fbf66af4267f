"""Broken on purpose: an event that comes a second time is recorded a second time."""

import sys

import msgspec

from purveyor.cli import main
from purveyor.kit.ids import new_id
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.ports import NewMail

_record = PostgresLedger.record


async def _always(self: PostgresLedger, mail: NewMail) -> bool:
    return await _record(self, mail) or await _record(self, msgspec.structs.replace(mail, event_id=str(new_id())))


PostgresLedger.record = _always
sys.exit(main())
