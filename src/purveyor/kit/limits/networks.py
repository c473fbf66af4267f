"""Client networks: what a limit per client address counts by.

A household or a server has a /64 of IPv6 addresses, and easily a /48, so limits count both. An address that wraps
an IPv4 address (IPv4-mapped, NAT64, 6to4) counts as that.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Any

from purveyor.kit.limits.memory import Decision, Limiter, Rate

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

WIDER_SHARE = 8
"""A /48 may do this many times what a /64 may: it can be a whole company."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.%\w-]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII)


def parse_address(text: str) -> Address | None:
    """An address as a proxy or a socket writes it: quoted, in brackets, with a port. ``None`` if it is none.

    A dual-stack socket's ``::ffff:192.0.2.1`` is an IPv4 address.
    """
    text = text.strip().strip('"').strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=1024)
def client_network(host: str) -> str:
    """The key of a limit per client: the IPv4 address, or the /64 network of an IPv6 address."""
    address = parse_address(host)
    if address is None:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if (wrapped := _wrapped(address)) is None:
            return str(ipaddress.ip_network((int(address), 64), strict=False))
        address = wrapped
    return str(address)


def wider_network(network: str) -> str | None:
    """The /48 around a /64 of ``client_network``; ``None`` for anything else."""
    if not network.endswith("/64"):
        return None
    return str(ipaddress.IPv6Network(network).supernet(new_prefix=48))


def network_of(request: Any) -> str:
    """The client network of an HTTP request."""
    return client_network(request.client.host if request.client else "")


async def hit_network(limiter: Limiter, policy: str, network: str, rate: Rate) -> Decision:
    """Count a request of a client network, and of the /48 around it. Returns the decision that allows less."""
    decision = await limiter.hit(policy, f"network {network}", rate)
    wider = wider_network(network)
    if wider is None or not decision.allowed:
        return decision
    shared = await limiter.hit(policy, f"network {wider}", _wider_rate(rate))
    if not shared.allowed:
        await limiter.give_back(policy, f"network {network}", rate)
    return min(decision, shared, key=lambda each: (each.allowed, each.remaining))


async def give_back_network(limiter: Limiter, policy: str, network: str, rate: Rate) -> None:
    """Uncount an allowed request of ``hit_network``."""
    await limiter.give_back(policy, f"network {network}", rate)
    if wider := wider_network(network):
        await limiter.give_back(policy, f"network {wider}", _wider_rate(rate))


def _wider_rate(rate: Rate) -> Rate:
    return Rate(rate.quota * WIDER_SHARE, rate.window_s)


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside a NAT64 (RFC 6052) or 6to4 (RFC 3056) address."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour
