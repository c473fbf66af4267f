"""The SQL of postal addresses."""

from collections.abc import Sequence
from uuid import UUID

from purveyor.kit.errors import NotFound
from purveyor.kit.postgres import Database
from purveyor.kit.text import invalid
from purveyor.roles.auth.ports import StoredAddress

MAX_ADDRESSES = 50


class PostgresAddresses:
    """Satisfies ``Addresses``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, user_id: UUID) -> Sequence[StoredAddress]:
        """See ``Addresses``."""
        rows = await self._database.fetch(
            """
            select id, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at
            from auth.addresses where user_id = $1 order by id""",
            user_id,
        )
        return [StoredAddress(**row) for row in rows]

    async def get(self, user_id: UUID, address_id: UUID) -> StoredAddress:
        """See ``Addresses``."""
        row = await self._database.fetchrow(
            """
            select id, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at
            from auth.addresses where user_id = $1 and id = $2""",
            user_id,
            address_id,
        )
        if row is None:
            raise NotFound("There is no such address.")
        return StoredAddress(**row)

    async def save(self, user_id: UUID, address: StoredAddress, *, new: bool) -> StoredAddress:
        """See ``Addresses``. The account's row is locked: two defaults at once would clash otherwise."""
        async with self._database.transaction() as connection:
            if not await connection.fetchval("select true from auth.users where id = $1 for update", user_id):
                raise NotFound("There is no such account.")
            if new:
                count = await connection.fetchval(
                    "select count(*) from auth.addresses where user_id = $1", user_id
                )
                if count >= MAX_ADDRESSES:
                    raise invalid("", f"is one too many: an account holds at most {MAX_ADDRESSES} addresses")
            if address.is_default:
                await connection.execute(
                    "update auth.addresses set is_default = false where user_id = $1 and is_default", user_id
                )
            row = await connection.fetchrow(
                _INSERT_ADDRESS if new else _UPDATE_ADDRESS, user_id, *_values(address)
            )
            if row is None:  # inside the transaction: the default before stays the default
                raise NotFound("There is no such address.")
        return StoredAddress(**row)

    async def remove(self, user_id: UUID, address_id: UUID) -> None:
        """See ``Accounts``."""
        if not await self._database.execute(
            "delete from auth.addresses where user_id = $1 and id = $2", user_id, address_id
        ):
            raise NotFound("There is no such address.")


_INSERT_ADDRESS = """
    insert into auth.addresses (user_id, id, recipient, line1, line2, city, region, postal_code, country, phone,
        is_default, created_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    returning id, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at"""

_UPDATE_ADDRESS = """
    update auth.addresses set recipient = $3, line1 = $4, line2 = $5, city = $6, region = $7, postal_code = $8,
        country = $9, phone = $10, is_default = $11
    where user_id = $1 and id = $2 and $12::timestamptz is not null
    returning id, recipient, line1, line2, city, region, postal_code, country, phone, is_default, created_at"""


def _values(address: StoredAddress) -> tuple[object, ...]:
    return (
        address.id,
        address.recipient,
        address.line1,
        address.line2,
        address.city,
        address.region,
        address.postal_code,
        address.country,
        address.phone,
        address.is_default,
        address.created_at,
    )
