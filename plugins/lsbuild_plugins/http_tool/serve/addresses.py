"""Which addresses an HTTP tool may connect to; pure.

The ranges are those of IANA's registries of special purposes, written out, since ``ipaddress.is_global`` means other
things in other versions of Python. Ways to write an IPv4 address in IPv6 are special too: a translator in the network
would make of it what was refused.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


_PRIVATE = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7",
)  # fmt: skip
"""What a spec may open: the machine itself and networks of its owner."""
_PUBLIC_IPV6 = IPv6Network("2000::/3")
_SPECIAL = _networks(
    "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
    "192.88.99.0/24", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
    "240.0.0.0/4",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48",
)  # fmt: skip
"""Never: this network, link-local (and with it the metadata of clouds), documentation, tests, multicast, reserved, and
IPv6's tunnels (Teredo, 6to4). Of IPv6 all outside 2000::/3 is special: mapped, compatible, NAT64, link-local, multicast."""
_METADATA = _networks("168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::254/128", "fd20:ce::254/128")
"""Metadata services of clouds in ranges that could be opened, or that are public."""


def allowed(address: str, *, private: bool) -> bool:
    """Whether ``address`` may be connected to; ``private`` opens loopback and private networks, nothing else."""
    try:
        found = ip_address(address)
    except ValueError:  # a zone ("fe80::1%eth0"), or no address
        return False
    if any(found in network for network in _METADATA if network.version == found.version):
        return False
    if any(found in network for network in _PRIVATE if network.version == found.version):
        return private
    if any(found in network for network in _SPECIAL if network.version == found.version):
        return False
    return found.version == 4 or found in _PUBLIC_IPV6
