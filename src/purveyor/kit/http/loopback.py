"""Routes that answer only this machine."""

import ipaddress
import re
from typing import Any

from litestar import Request

from purveyor.kit.errors import Forbidden
from purveyor.kit.http.web import check_request

_HOSTS = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_FORWARDED = {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"}


async def loopback_only(request: Request[Any, Any, Any]) -> None:
    """A ``before_request`` that refuses everything but a direct request from this machine to a loopback host.

    A page of another site could otherwise read the answer by DNS rebinding, and another machine through a proxy.
    """
    headers = request.scope["headers"]
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    forwarded = any(name in _FORWARDED for name, _ in headers)
    peer = request.scope.get("client")
    if forwarded or not peer or not is_loopback(peer[0]) or len(hosts) != 1 or not _HOSTS.fullmatch(hosts[0]):
        raise Forbidden("This page answers only requests from this machine to localhost, 127.0.0.1 or [::1].")
    await check_request(request)


def is_loopback(host: str) -> bool:
    """Return whether an address or host name is this machine's own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
