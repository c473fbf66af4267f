"""What the tests of the embedded PostgreSQL share: a process that holds one, and looks at its state."""

import contextlib
import fcntl
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]

from waiting import until

HOLDER = """
import asyncio, sys
from pathlib import Path
from purveyor.kit.db.embedded.owner import EmbeddedPostgres
from purveyor.kit.errors import StartupError

async def main():
    postgres = EmbeddedPostgres(Path(sys.argv[1]))
    try:
        await postgres.start()
    except StartupError as error:
        sys.exit(str(error))
    print("owner" if postgres.owner else "attached", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await postgres.stop()

asyncio.run(main())
"""


async def run(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def notes(dsn: str) -> list[str]:
    """What is stored, as a pool sees it: by trying again until a server answers."""

    async def read() -> list[asyncpg.Record]:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            return await run(dsn, "SELECT text FROM note")
        return []

    return [record["text"] for record in await until(read)]


async def write_note(dsn: str) -> None:
    await run(dsn, "CREATE TABLE note AS SELECT 'kept' AS text")


def unlocked(data_dir: Path) -> bool:
    """Whether no owner and no server process is left: every one of them holds the lock."""
    with (data_dir / "postgres.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
