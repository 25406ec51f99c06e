"""Which hosts may be asked for an image, and which addresses they may turn out to have.

Two checks, because a name is not an address. `ImageHosts.check` reads the URL before anything is sent. The sockets are
made here too, with the address the connection will really have: a listed name that resolves to our own network, now or
between two look-ups, is refused there.
"""

import errno
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.connector import AddrInfoType
from yarl import URL

from runware_provider.artifacts.refusal import rejected
from runware_provider.errors import ConfigurationError, excerpt

MAX_URL_CHARACTERS = 4_096

Address = IPv4Address | IPv6Address

# What `is_global` lets through (seen on 3.11), or what tables of other releases may not know yet.
_REFUSED_V4 = [
    ip_network(net)
    for net in (
        "192.0.0.0/24",  # protocol assignments
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.175.48.0/24",  # AS112
    )
]
_GLOBAL_V6 = ip_network("2000::/3")  # all that is given out to hosts; NAT64, SRv6, ULA, mapped and discard lie outside
_REFUSED_V6 = [
    ip_network(net)
    for net in (
        "2001::/23",  # Teredo, ORCHID, benchmarking and other protocols
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address of any kind
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]

_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_ENTRY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(:(?P<port>[0-9]{1,5}))?")


def is_public(address: Address) -> bool:
    """Whether `address` is one host on the public internet, and not a way into something else."""
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in net for net in _REFUSED_V4)
    return address in _GLOBAL_V6 and not any(address in net for net in _REFUSED_V6)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of IMAGE_HOSTS. `inner`: it names a loopback or private address, so any port and plain HTTP will do."""

    host: str | Address
    port: int | None
    inner: bool

    def names(self, host: str | Address, port: int) -> bool:
        if self.port is None:
            if not self.inner and port != 443:
                return False
        elif self.port != port:
            return False
        if isinstance(self.host, str) and isinstance(host, str):
            return host == self.host or host.endswith(f".{self.host}")
        return host == self.host


class AddressRefused(OSError):
    """A connection to an address that no image may come from was about to be made."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EACCES, message)


class ImageHosts:
    """The list of hosts that images may come from.

    An entry is a name (`runware.ai` allows itself and all names below it) or an address, each with or without a port.
    Without one it means 443, or any port when the entry names a loopback or private address (`127.0.0.1`, `localhost`,
    `10.0.0.5:8080`); those may be asked over plain HTTP too.

    Raises ConfigurationError for an empty list and for an entry that is none of this.
    """

    def __init__(self, entries: Sequence[str], *, ipv6: bool = False) -> None:
        if not entries:
            raise ConfigurationError(
                "IMAGE_HOSTS is empty, so no image could be fetched; leave it unset for runware.ai"
            )
        self._entries = [_parse(entry) for entry in entries]
        self._inner = {entry.host for entry in self._entries if entry.inner}
        self._ipv6 = ipv6

    def check(self, url: str) -> tuple[URL, bool]:
        """The URL as it will be asked for, and whether it is an inner one (see `_Entry`). Raises NotKept."""
        if len(url) > MAX_URL_CHARACTERS:
            raise rejected("no_image", f"the image's URL has {len(url)} characters, more than {MAX_URL_CHARACTERS}")
        if _UNSAFE.search(url):
            raise rejected("no_image", f"the image's URL has spaces, control characters or backslashes: {url[:200]!r}")
        try:
            # An ASCII URL is taken as it is: quoting it anew could break a signature in its query.
            parsed = URL(url, encoded=url.isascii())
            host, port, authority = parsed.raw_host, parsed.port, parsed.raw_authority
        except ValueError:
            raise rejected("no_image", f"the image's URL cannot be read: {url[:200]!r}") from None
        if not host or port is None or parsed.scheme not in ("https", "http"):
            raise rejected("no_image", f"the image's URL is not an https one: {url[:200]!r}")
        if "@" in authority:  # not shown: it holds a password
            raise rejected("host_not_allowed", "the image's URL carries a user name or password")
        entry = self._find(host, port)
        if entry is None:
            raise rejected("host_not_allowed", f"{host[:253]}:{port} is not in IMAGE_HOSTS")
        if parsed.scheme == "http" and not entry.inner:
            raise rejected("host_not_allowed", f"{host[:253]} may be asked over https only")
        return parsed, entry.inner

    def _find(self, host: str, port: int) -> _Entry | None:
        name: str | Address = host.lower().removesuffix(".")
        try:
            name = ip_address(name)
        except ValueError:
            if not _HOST.fullmatch(host.lower().removesuffix(".")):
                return None
        return next((entry for entry in self._entries if entry.names(name, port)), None)

    def public_socket(self, target: AddrInfoType) -> socket.socket:
        """A socket for a connection to `target`, which must be public. Raises AddressRefused."""
        address = _address(target)
        if isinstance(address, IPv6Address) and not self._ipv6:
            raise AddressRefused(f"{address} is an IPv6 address, and IPv6 is off")
        if not is_public(address):
            raise AddressRefused(f"{address} is not a public address; name it in IMAGE_HOSTS if it should be asked")
        return _socket(target)

    def inner_socket(self, target: AddrInfoType) -> socket.socket:
        """A socket for a connection to `target`, which IMAGE_HOSTS must name. Raises AddressRefused."""
        address = _address(target)
        if address in self._inner or (address.is_loopback and any(isinstance(host, str) for host in self._inner)):
            return _socket(target)
        raise AddressRefused(f"{address} is not in IMAGE_HOSTS")


def _parse(entry: str) -> _Entry:
    text = entry.strip().lower()
    try:
        address = ip_address(text)  # IPv6 without brackets has colons that are none of a port
    except ValueError:
        pass
    else:
        return _Entry(address, None, inner=not is_public(address))
    found = _ENTRY.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65_536):
        raise _not_a_host(entry)
    try:
        address = ip_address(found["host"].strip("[]"))
    except ValueError:
        pass
    else:
        return _Entry(address, port, inner=not is_public(address))
    try:
        name = found["host"].encode("idna").decode().removesuffix(".")
    except UnicodeError:
        raise _not_a_host(entry) from None
    if not _HOST.fullmatch(name) or name.rpartition(".")[2].isdigit():
        raise _not_a_host(entry)
    return _Entry(name, port, inner=name == "localhost" or name.endswith(".localhost"))


def _not_a_host(entry: str) -> ConfigurationError:
    return ConfigurationError(
        f"IMAGE_HOSTS: {excerpt(entry, 100)!r} is not a host; write names or addresses, each with an optional port, "
        "separated by commas, for example runware.ai or 127.0.0.1:8080"
    )


def _address(target: AddrInfoType) -> Address:
    try:
        address = ip_address(str(target[4][0]).partition("%")[0])
    except ValueError:
        raise AddressRefused(f"{target[4]!r} is not an IP address") from None
    # ::ffff:127.0.0.1 connects to 127.0.0.1, whatever the tables say of it.
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _socket(target: AddrInfoType) -> socket.socket:
    made = socket.socket(target[0], target[1], target[2])
    made.setblocking(False)
    return made
