"""The hosts that may be asked for: requests of other sites' pages are refused, by the names in their headers.

A server on 127.0.0.1 is reached by every page that the user's browser shows, wherever the page came from:

- A page may send a request here. Its answer stays hidden from the page, but the work is done. Browsers name the page's
  site in `Origin`.
- A page may let its own name lead to 127.0.0.1, after it was loaded (DNS rebinding). For the browser this server is the
  page's own then, and the page reads the answers. The name is still in `Host`.

So `Host` must be a name of this server, and `Origin`, where there is one, too. Programs such as curl send no `Origin`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.%]+\]|[^\[\]:/?#@\s]+)(:\d*)?")  # of a header: name or address, and port
ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?P<host>[^/?#@\s]+)")
THIS_MACHINE = "localhost"
ANYWHERE = ("", "0.0.0.0", "::")  # values of --host: every address of the machine
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # they start no work; what they answer, a browser hides from other sites
WATCHED = (b"host", b"origin", b"sec-fetch-site")
CROSS_SITE = "cross-site"  # Sec-Fetch-Site of a request that a page of another site sends

Headers = Iterable[tuple[bytes, bytes]]


class AllowedHosts:
    """Decides by a request's headers.

    Args:
        host: what the server listens on. On all addresses of a machine, each of them is also a name of the server.
        names: further names of the server, for example behind a proxy.
    """

    def __init__(self, host: str = "127.0.0.1", names: Iterable[str] = ()) -> None:
        self.names = {THIS_MACHINE, normal(host), *map(normal, names)}
        self.any_address = normal(host) in ANYWHERE

    def refusal(self, method: str, headers: Headers) -> str | None:
        """Why a request is refused; None if it isn't."""
        values = {name: [text.decode("latin-1") for key, text in headers if key == name] for name in WATCHED}
        hosts = values[b"host"]  # none in HTTP/1.0, which no browser speaks
        for host in hosts:
            if not self.is_own(host_of(host)):
                return f"this server doesn't go by the name {host!r}; hpcm serve --allow-host adds a name"
        if method in SAFE_METHODS:
            return None
        for origin in values[b"origin"]:
            if not self.is_own_page(origin, hosts):
                return f"pages of {origin!r} may not use this server; hpcm serve --allow-host adds a name of its own"
        if CROSS_SITE in values[b"sec-fetch-site"]:
            return "pages of other sites may not use this server"
        return None

    def is_own_page(self, origin: str, hosts: Iterable[str]) -> bool:
        """Whether a page's `Origin` is this server, by a name of it or by that of the request's `Host`."""
        page = origin_host(origin)
        return page is not None and (self.is_named(page) or page in map(host_of, hosts))

    def is_own(self, host: str | None) -> bool:
        """Whether a request to this name or address was meant for this server.

        A page's own name can be made to lead here, but an address can't.
        """
        if host is None:
            return False
        return self.is_named(host) or (self.any_address and is_address(host))

    def is_named(self, host: str) -> bool:
        return host in self.names or is_loopback(host)


def host_of(header: str) -> str | None:
    """The name or address in `Host`, without the port; None for what is none."""
    match = HOST.fullmatch(header.strip())
    return normal(match["name"]) if match else None


def origin_host(header: str) -> str | None:
    """The name or address in `Origin`; None for "null", which files and hidden origins have."""
    match = ORIGIN.fullmatch(header.strip())
    return host_of(match["host"]) if match else None


def normal(name: str) -> str:
    """One spelling of a name or address."""
    name = name.strip().lower().removesuffix(".")
    bare = name.removeprefix("[").removesuffix("]")
    return str(ip_address(bare)) if is_address(bare) else name


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether it is an address that only this machine can reach."""
    return is_address(host) and ip_address(host).is_loopback
