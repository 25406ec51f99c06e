"""Who may be asked for an image: by name, by address, and by the address that a name turns out to have."""

import socket
from ipaddress import ip_address

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from runware_provider.artifacts import NotKept
from runware_provider.artifacts.addresses import ImageHosts, is_public
from runware_provider.errors import ConfigurationError, ContentRejected, FetchFailed, worth_trying
from tests.artifacts.cdn import Cdn, body
from tests.artifacts.conftest import Opener, keep, refusal
from tests.artifacts.pictures import a_picture

# The special-purpose registries of IANA, first and last address of each range, and what else leads astray.
# fmt: off
SPECIAL = [
    "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.0",
    "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254", "169.254.255.255", "172.16.0.0",
    "172.31.255.255", "192.0.0.0", "192.0.0.8", "192.0.0.9", "192.0.0.10", "192.0.0.170", "192.0.0.171",
    "192.0.0.255", "192.0.2.0", "192.0.2.255", "192.31.196.0", "192.31.196.255", "192.52.193.0", "192.52.193.255",
    "192.88.99.0", "192.88.99.255", "192.168.0.0", "192.168.255.255", "192.175.48.0", "192.175.48.255",
    "198.18.0.0", "198.19.255.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.0",
    "224.0.0.1", "239.255.255.255", "240.0.0.0", "255.255.255.254", "255.255.255.255", "::", "::1", "::127.0.0.1",
    "::ffff:0:0", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::", "64:ff9b::7f00:1", "64:ff9b::808:808",
    "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "100::", "100::ffff", "100:0:0:1::", "2001::",
    "2001:0:7f00:1::", "2001:1::1", "2001:1::2", "2001:1::3", "2001:2::", "2001:3::", "2001:4:112::", "2001:10::",
    "2001:20::", "2001:30::", "2001:1ff:ffff::", "2001:db8::", "2001:db8:ffff::", "2002::", "2002:7f00:1::",
    "2002:808:808::", "2620:4f:8000::", "2620:4f:8000:ffff::", "3fff::", "3fff:fff:ffff::", "4000::", "5f00::",
    "fc00::", "fd00::1", "fdff:ffff::", "fe80::", "fe80::1", "febf:ffff::", "fec0::", "feff::", "ff00::", "ff02::1",
    "ff0e::1",
]
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0",
    "198.17.255.255", "198.20.0.0", "223.255.255.255", "2000::", "2001:200::", "2001:4860:4860::8888", "2003::",
    "2400::", "2606:4700::1111", "2a00::", "3ffe::",
]
# fmt: on


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_ordinary_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))


def target(address: str) -> tuple[int, int, int, str, tuple[str, int]]:
    """`address` as a connector gives it to its socket factory."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_STREAM, 0, "", (address, 443)


@pytest.mark.parametrize(
    "address", [*(special for special in SPECIAL if special != "::ffff:8.8.8.8"), "fe80::1%lo", "localhost", ""]
)
def test_no_socket_is_made_for_a_special_address(address: str) -> None:
    """(::ffff:8.8.8.8 connects to 8.8.8.8.)"""
    with pytest.raises(OSError, match="address"):
        ImageHosts(["runware.ai"], ipv6=True).public_socket(target(address))


def test_ipv6_is_off_unless_it_is_configured() -> None:
    with pytest.raises(OSError, match="IPv6 is off"):
        ImageHosts(["runware.ai"]).public_socket(target("2606:4700::1111"))
    ImageHosts(["runware.ai"], ipv6=True).public_socket(target("2606:4700::1111")).close()
    ImageHosts(["runware.ai"]).public_socket(target("1.1.1.1")).close()


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ("runware.ai", "https://runware.ai/a"),
        ("runware.ai", "https://im.runware.ai/a"),
        ("runware.ai", "https://a.b.im.runware.ai:443/a?b#c"),
        ("runware.ai", "https://IM.Runware.AI./a"),
        ("RUNWARE.AI.", "https://im.runware.ai/a"),
        ("runware.ai", "HTTPS://im.runware.ai"),
        ("runware.ai", "https://im.runware.ai/\u00e9\u4e2d?q=\u00e9"),
        ("cdn.example.com:8443", "https://cdn.example.com:8443/a"),
        ("b\u00fccher.example", "https://b\u00fccher.example/"),
        ("8.8.8.8", "https://8.8.8.8/"),
        ("127.0.0.1", "http://127.0.0.1:8080/"),
        ("127.0.0.1", "https://127.0.0.1/"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("localhost", "http://localhost:1234/"),
        ("localhost:1234", "http://localhost:1234/"),
        ("10.1.2.3", "http://10.1.2.3/"),
        ("::1", "http://[::1]:8080/"),
        ("[::1]:8080", "http://[::1]:8080/"),
        ("[::1]", "http://[0:0:0:0:0:0:0:1]/"),
        ("runware.ai,127.0.0.1", "https://im.runware.ai/a"),
    ],
)
def test_a_listed_host_is_allowed(entries: str, url: str) -> None:
    ImageHosts(entries.split(",")).check(url)


NOT_ALLOWED = [
    ("runware.ai", "http://im.runware.ai/a"),
    ("runware.ai", "http://im.runware.ai:443/a"),
    ("runware.ai", "https://im.runware.ai:8443/a"),
    ("runware.ai", "https://im.runware.ai:80/a"),
    ("runware.ai", "https://evilrunware.ai/"),
    ("runware.ai", "https://runware.ai.evil.com/"),
    ("runware.ai", "https://im.runware.ai\uff0eevil.com/"),
    ("runware.ai", "https://%69m.runware.ai/"),
    ("runware.ai", "https://evil.com#.runware.ai/"),
    ("runware.ai", "https://evil.com?.runware.ai/"),
    ("runware.ai", "https://im.runware.ai@evil.com/"),
    ("runware.ai", "https://user:secret@im.runware.ai/"),
    ("runware.ai", "https://user@im.runware.ai/"),
    ("runware.ai", "https://@im.runware.ai/"),
    ("runware.ai", "https://127.0.0.1/"),
    ("runware.ai", "https://2130706433/"),
    ("runware.ai", "https://0x7f.1/"),
    ("runware.ai", "https://[::1]/"),
    ("runware.ai", "https://[::ffff:127.0.0.1]/"),
    ("runware.ai", "https://localhost/"),
    ("cdn.example.com:8443", "https://cdn.example.com/a"),
    ("8.8.8.8", "http://8.8.8.8/"),
    ("127.0.0.1:8080", "http://127.0.0.1:8081/"),
    ("127.0.0.1", "http://127.0.0.2/"),
    ("127.0.0.1", "http://localhost/"),
    ("localhost", "http://127.0.0.1/"),
]
NO_URL = [
    "",
    "image.jpg",
    "/etc/passwd",
    "//im.runware.ai/a",
    "https://",
    "https:///a",
    "https://[::1/",
    "https://im.runware.ai:99999/",
    "https://im.runware.ai:443:443/",
    "https://im.runware.ai/a b",
    "https://im.runware.ai/a\r\nHost: evil",
    "https://im.runware.ai/\x00",
    "https://im.runware.ai\\@evil.com/",
    "https://im.runware.ai/\x7f",
    "https://\ud800.runware.ai/",
    "https://im.runware.ai/" + "a" * 10_000,
    "file:///etc/passwd",
    "ftp://im.runware.ai/a",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
]


@pytest.mark.parametrize(("entries", "url"), NOT_ALLOWED)
async def test_another_host_is_not_asked(open_artifacts: Opener, entries: str, url: str) -> None:
    artifacts = await open_artifacts(image_hosts=entries.split(","))
    error = (await refusal(artifacts, url)).error

    assert isinstance(error, ContentRejected)
    assert (error.reason, "secret" in error.message) == ("host_not_allowed", False)
    assert worth_trying(error) == "no"


@pytest.mark.parametrize("url", NO_URL)
async def test_what_is_no_url_is_told_so(open_artifacts: Opener, url: str) -> None:
    """As a value, whatever the text: no exception from the depths of a URL parser."""
    error = (await refusal(await open_artifacts(image_hosts=["runware.ai"]), url)).error

    assert isinstance(error, ContentRejected)
    assert error.reason == "no_image"
    assert len(error.message) <= 500
    error.model_dump_json()


def test_a_url_of_the_longest_length_is_read() -> None:
    url = "https://im.runware.ai/"
    ImageHosts(["runware.ai"]).check(url + "a" * (4_096 - len(url)))
    with pytest.raises(NotKept):
        ImageHosts(["runware.ai"]).check(url + "a" * (4_097 - len(url)))


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " ",
        "https://runware.ai",
        "runware.ai/",
        "*.runware.ai",
        "a b",
        "user@host",
        "runware.ai:0",
        "a:70000",
        "1.2",
        "2130706433",
        "[::1",
        "10.0.0.0/8",
        "a..b",
        "�",
        "a" * 300 + ".",
    ],
)
def test_an_entry_that_is_no_host_stops_the_start(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="IMAGE_HOSTS"):
        ImageHosts([entry])


def test_an_empty_list_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match="IMAGE_HOSTS"):
        ImageHosts([])


class Names(AbstractResolver):
    """Says of every name that it is `address`, at `port`."""

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.asked: list[str] = []

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        self.asked.append(host)
        found = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        return [ResolveResult(hostname=host, host=self.address, port=self.port, family=found, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("hosts", [["images.test"], ["images.test", "127.0.0.1", "localhost"]])
@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
async def test_a_listed_name_with_a_private_address_is_not_connected_to(
    open_artifacts: Opener, cdn: Cdn, hosts: list[str], address: str
) -> None:
    """Not even when that address is listed: it is for those who name it. A matter of DNS, so it is tried again."""
    names = Names(address, cdn.port)
    artifacts = await open_artifacts(image_hosts=hosts, resolver=names, ipv6=True)
    error = (await refusal(artifacts, "https://images.test/image")).error

    assert isinstance(error, FetchFailed)
    assert (error.status, worth_trying(error)) == (None, "long")
    assert "127.0.0.1 is not a public address" in error.reason
    assert (names.asked, cdn.connections) == (["images.test"], 0)


async def test_a_name_that_moves_between_two_fetches_is_caught(open_artifacts: Opener, cdn: Cdn) -> None:
    """Rebinding: the address is checked of each connection, not of a look-up before it."""
    names = Names("127.0.0.1", cdn.port)
    artifacts = await open_artifacts(image_hosts=["localhost"], resolver=names)
    url = cdn.says(body(a_picture())).replace("127.0.0.1", "localhost")
    assert (await keep(artifacts, url)).size_bytes

    other = Names("169.254.169.254", 80)
    artifacts = await open_artifacts(image_hosts=["localhost"], resolver=other)
    error = (await refusal(artifacts, url)).error
    assert isinstance(error, FetchFailed)
    assert "169.254.169.254 is not in IMAGE_HOSTS" in error.reason


@pytest.mark.parametrize(("listed", "address"), [("127.0.0.1", "127.0.0.2"), ("10.0.0.1", "127.0.0.1")])
def test_an_inner_address_must_be_listed_itself(listed: str, address: str) -> None:
    """A resolver never sees a literal address, so the check is where the socket is made."""
    with pytest.raises(OSError, match=f"{address} is not in IMAGE_HOSTS"):
        ImageHosts([listed]).inner_socket(target(address))
