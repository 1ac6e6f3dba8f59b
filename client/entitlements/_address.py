"""From the address that people write to a gRPC target."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "xds:", "vsock:")


def target(address: str | Sequence[str]) -> str:
    """Make the gRPC target.

    Args:
        address: `host:port`; several IP addresses `ip:port`, separated by commas or as a
            sequence; or any gRPC target, such as `dns:///entitlements.internal:50051`.

    Returns:
        The target. Its addresses are called in turn.

    Raises:
        TypeError: The address is neither text nor a sequence of texts.
        ValueError: The address is empty, lacks a port, or has several hosts that are not all
            IPv4 or all IPv6 addresses.
    """
    if not isinstance(address, Sequence) or not all(isinstance(part, str) for part in address):
        raise TypeError(f"address must be str, or a sequence of str, not {type(address).__name__}.")
    if isinstance(address, str):
        if address.startswith(_SCHEMES):
            return address
        address = address.split(",")
    parts = [part.strip() for part in address]
    hosts = [_host(part) for part in parts]
    if len(parts) == 1:
        return parts[0]
    for kind, scheme in ((IPv4Address, "ipv4"), (IPv6Address, "ipv6")):
        if hosts and all(isinstance(_ip(host), kind) for host in hosts):
            return f"{scheme}:{','.join(parts)}"
    raise ValueError(
        "Several addresses must be all IPv4 or all IPv6, each with its port, not "
        f"{', '.join(parts)!r}. For host names, use one name that resolves to all of them."
    )


def may_be_several(target: str) -> bool:
    """Return whether a target may be several servers: several addresses, or a `dns:` name.

    A plain `host:port` counts as one server.
    """
    return "," in target or target.startswith("dns:")


def is_local(target: str) -> bool:
    """Return whether data that is sent to this target never leaves the machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        target = target.removeprefix(scheme)
    if target.startswith("//"):
        # dns://resolver/host:port
        target = target.removeprefix("//").partition("/")[2]
    return all(_is_loopback(part.rpartition(":")[0]) for part in target.split(","))


def _is_loopback(host: str) -> bool:
    ip = _ip(host)
    return ip.is_loopback if ip else host == "localhost"


def _host(part: str) -> str:
    host, _, port = part.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"The address must be host:port, such as 127.0.0.1:50051, not {part!r}.")
    return host


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
