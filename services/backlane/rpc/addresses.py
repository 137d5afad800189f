"""Addresses: host and port in one text, and whether they lead off this machine."""

import ipaddress


def is_loopback_host(host: str) -> bool:
    """Says whether the host is this machine alone, without asking a name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def join_address(host: str, port: int) -> str:
    """Returns host:port, with an IPv6 host in brackets."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def is_local(address: str) -> bool:
    """Says whether an address (`host:port` or `unix:path`) stays on this machine."""
    return address.startswith("unix:") or is_loopback_host(address.rpartition(":")[0])
