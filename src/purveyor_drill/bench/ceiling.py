"""The rate at which PostgreSQL alone stores orders, by pgbench: one statement with order, lines and event."""

import asyncio
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg

_CLIENTS = (8, 32)
_TABLES = """
drop schema if exists ceiling cascade;
create schema ceiling;
create table ceiling.orders (id bigint generated always as identity primary key, user_id int not null,
    email text not null, total bigint not null, status text not null default 'pending',
    created_at timestamptz not null default now());
create index on ceiling.orders (user_id, id);
create table ceiling.items (order_id bigint not null references ceiling.orders, line int not null,
    product_id int not null, title text not null, quantity int not null, price bigint not null,
    primary key (order_id, line));
create table ceiling.outbox (id bigint generated always as identity primary key, type text not null,
    body jsonb not null, published_at timestamptz);
"""
_ORDER = """
\\set user random(1, 50)
\\set product random(1, 150)
with placed as (
    insert into ceiling.orders (user_id, email, total) values (:user, 'customer@example.com', 15000) returning id
), lines as (
    insert into ceiling.items select placed.id, line.* from placed, (values
        (1, :product, 'A product with a title of the usual length', 2, 5000),
        (2, 7, 'Another product with a title of the usual length', 1, 5000)
    ) line
)
insert into ceiling.outbox (type, body) select 'order.created',
    jsonb_build_object('order_number', placed.id, 'user_email', 'customer@example.com', 'total_amount', 150)
from placed;
"""


def find_pgbench() -> str | None:
    """The program, or ``None``."""
    return shutil.which("pgbench")


async def measure_ceiling(dsn: str, folder: Path, seconds: int) -> float:
    """Orders per second, the best of 8 and 32 clients. Raises ``OSError`` if pgbench fails."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_TABLES)
    finally:
        await connection.close()
    script = folder / "order.sql"
    script.write_text(_ORDER)
    return max([await _run(dsn, script, clients, seconds) for clients in _CLIENTS])


async def _run(dsn: str, script: Path, clients: int, seconds: int) -> float:
    address = urlsplit(dsn)
    process = await asyncio.create_subprocess_exec(
        find_pgbench() or "pgbench", "--no-vacuum", "--protocol=prepared", f"--file={script}",
        f"--client={clients}", f"--time={seconds}",
        f"--host={address.hostname}", f"--port={address.port}", f"--username={address.username}",
        address.path.lstrip("/"),
        env={"PGPASSWORD": unquote(address.password or ""), "PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    found = re.search(rb"tps = ([\d.]+)", output)
    if process.returncode or not found:
        raise OSError(f"pgbench failed:\n{output.decode(errors='replace')}")
    return float(found[1])
