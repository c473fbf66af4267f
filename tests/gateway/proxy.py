"""nginx with ``configs/nginx.conf`` in front of the roles, each in a process of its own."""

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

import waiting
from own_processes import Processes, environment, own_processes
from purveyor_drill.servers.process import Child, free_port, talk
from server_shapes import PATIENT

_CONFIG = Path(__file__).parents[2] / "configs" / "nginx.conf"
_ROLES = ("auth", "orders", "catalog", "email", "shop")
_BEHIND = ("auth", "orders", "catalog", "shop")
"""Whom the gateway asks."""
LOGINS = 5
"""Of each address in a minute."""
PATIENCE_S = 1
"""Of the gateway with slow clients; 10 in the file, where the tests would wait as long."""


@dataclass(frozen=True)
class Gateway:
    """Where nginx listens, and the processes of the roles behind it."""

    port: int
    processes: Processes

    def client(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client that comes from this loopback address."""
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            transport=httpx.AsyncHTTPTransport(local_address=address),
            timeout=waiting.PATIENCE_S,
        )


def _configuration(folder: Path, port: int, upstreams: dict[str, int]) -> str:
    """The file as it is, but for the addresses, the folder and how long a slow client may take."""
    text = _CONFIG.read_text()
    replacements = {
        r"listen 8080 ": f"listen 127.0.0.1:{port} ",
        r"(pid|_temp_path) /tmp/": rf"\1 {folder}/",
        r"client_(header|body)_timeout 10s": rf"client_\1_timeout {PATIENCE_S}s",
        **{rf"server {role}:8000 resolve": f"server 127.0.0.1:{upstreams[role]}" for role in _BEHIND},
    }
    for pattern, replacement in replacements.items():
        text, count = re.subn(pattern, replacement, text)
        assert count, f"{pattern} is not in {_CONFIG.name}"
    return text


@asynccontextmanager
async def open_gateway(nginx: str, folder: Path) -> AsyncIterator[Gateway]:
    """The whole split shape on one embedded database, everything in this folder."""
    ports = {role: free_port() for role in _ROLES}
    settings = {
        **{f"{role.upper()}_SERVICE": f"http://127.0.0.1:{ports[role]}" for role in ("auth", "orders", "email")},
        "PRODUCTS_API": f"http://127.0.0.1:{ports['catalog']}/catalog/products",
        "TRUSTED_PROXIES": "127.0.0.1/32",
        "RATE_LIMIT_LOGIN": f"{LOGINS}/minute",
        **PATIENT,
    }
    async with own_processes(folder, **settings) as processes:
        processes.ports.update(ports)
        for role in _ROLES:
            processes.start(role, "serve", role)
        await processes.ready(*_ROLES)
        port = free_port()
        (folder / "nginx.conf").write_text(_configuration(folder, port, ports))
        command = [nginx, "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        child = Child(command, env=environment({}), folder=folder)
        try:
            child.wait_ready(lambda: bool(talk(port, b"GET /health/live HTTP/1.0\r\n\r\n")), 10.0)
            yield Gateway(port, processes)
        finally:
            child.end(signal.SIGTERM, 10.0)
