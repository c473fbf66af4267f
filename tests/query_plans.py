"""The plans that PostgreSQL keeps for prepared statements."""

import re

from purveyor.kit.db.postgres import Connection


async def kept_plan(connection: Connection, statement: str) -> str:
    """Return the plan that does not depend on the arguments."""
    arguments = max(map(int, re.findall(r"\$(\d+)", statement)))
    await connection.execute("set plan_cache_mode = force_generic_plan")
    await connection.execute(f"prepare planned as {statement}")
    lines = await connection.fetch(f"explain execute planned({', '.join(['null'] * arguments)})")
    await connection.execute("deallocate planned; reset plan_cache_mode")
    return "\n".join(line[0] for line in lines)
