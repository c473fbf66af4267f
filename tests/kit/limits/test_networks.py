"""Limits per client network: what a /48 may do with its 65,536 networks of /64."""

import pytest

from purveyor.kit.limits.memory import MemoryLimiter, Rate
from purveyor.kit.limits.networks import WIDER_SHARE, client_network, hit_network, wider_network

RATE = Rate(2, 3600)


async def allowed(limiter: MemoryLimiter, host: str) -> bool:
    return (await hit_network(limiter, "login", client_network(host), RATE)).allowed


async def test_a_network_that_uses_many_of_its_addresses_is_limited() -> None:
    limiter = MemoryLimiter()
    within_one = [await allowed(limiter, f"2001:db8:1:2::{number}") for number in range(4)]
    assert within_one == [True, True, False, False]
    across_many = [
        await allowed(limiter, f"2001:db8:9:{number:x}::1") for number in range(RATE.quota * WIDER_SHARE)
    ]
    assert all(across_many)
    assert not await allowed(limiter, "2001:db8:9:ffff::1")
    assert await allowed(limiter, "2001:db8:a::1"), "the next /48 is somebody else"


async def test_an_address_that_wraps_ipv4_counts_as_it() -> None:
    limiter = MemoryLimiter()
    hosts = ["203.0.113.7", "::ffff:203.0.113.7", "64:ff9b::203.0.113.7", "2002:cb00:7107:1::1"]
    assert [await allowed(limiter, host) for host in hosts] == [True, True, False, False]


@pytest.mark.parametrize(
    ("network", "wider"), [("2001:db8:1:2::/64", "2001:db8:1::/48"), ("203.0.113.7", None), ("", None)]
)
def test_a_wider_network_is_counted_for_ipv6_only(network: str, wider: str | None) -> None:
    assert wider_network(network) == wider
