"""Which addresses are this machine's own."""

from functools import lru_cache
from ipaddress import ip_address


@lru_cache(maxsize=64)
def is_loopback(address: str) -> bool:
    """Whether this is ::1 or in 127.0.0.0/8, also when mapped into IPv6."""
    try:
        ip = ip_address(address)
    except ValueError:  # a Unix socket
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def is_on_this_machine(host: str) -> bool:
    """Whether this is a loopback address, `localhost`, or the folder of a Unix socket."""
    return host == "localhost" or host.startswith("/") or is_loopback(host)
