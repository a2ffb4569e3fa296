"""URL -> bytes, within the limits of the image sources, and from no address that they don't allow."""

import http.client
import importlib
import io
import ipaddress
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses inside IPv6 (RFC 6052)
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all else of IPv6 is for a place's own use (RFC 4291)
CHUNK = 2**16


def download(url, sources):
    """The content of a URL, as the server stores it: what it compresses on the way is not read.

    Args:
        sources: [`ImageSources`]: its hosts, addresses, bytes and seconds are kept to.

    Raises:
        ValueError: it is not to be had from there, or is too large or too slow.
        OSError: no connection.
    """
    deadline = time.monotonic() + sources.seconds
    checks = sources.hosts is None and not sources.internal
    opener = urllib.request.OpenerDirector()
    handlers = [Connections(deadline, checks), urllib.request.UnknownHandler()]
    for handler in handlers if checks else [urllib.request.ProxyHandler(), *handlers]:
        opener.add_handler(handler)
    for _ in range(MOST_REDIRECTS + 1):
        try:
            with opener.open(request(url, sources.hosts), timeout=sources.seconds) as response:
                if response.status not in REDIRECTS or not response.headers["Location"]:
                    return body(response, sources.max_bytes)
                url = urllib.parse.urljoin(url, response.headers["Location"])
        except TimeoutError:
            raise ValueError(f"timed out, not complete after {sources.seconds:g} seconds") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise ValueError(f"timed out, not complete after {sources.seconds:g} seconds") from None
            raise ValueError(getattr(error.reason, "strerror", None) or error.reason) from error
        except http.client.HTTPException as error:
            raise ValueError(f"{error}" or type(error).__name__) from error
    raise ValueError(f"more than {MOST_REDIRECTS} redirects")


def request(url, hosts):
    """A request for a URL of some hosts, None for any, written anew from the parts that were checked."""
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.scheme.lower() not in ("http", "https") or not host or "@" in parts.netloc:
        raise ValueError(f"expected http(s)://host[:port]/..., found {url[:200]}")
    place = f"[{host}]" if ":" in host else host
    place = place if port is None else f"{place}:{port}"
    if hosts is not None and not {host, place} & set(hosts):
        raise ValueError(
            f"the host {place} is not among those allowed"
            if hosts
            else "URLs are not allowed here; give the image itself, as bytes or as an object"
        )
    path, query = (urllib.parse.quote(part, safe="%/:=&?~+!$,;'@()*[]") for part in (parts.path or "/", parts.query))
    url = urllib.parse.urlunsplit((parts.scheme.lower(), place, path, query, ""))
    return urllib.request.Request(url, headers={"User-Agent": "dualvqa"})


def body(response, max_bytes):
    if response.status != 200:
        raise ValueError(f"the server answered {response.status} {response.reason}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ValueError(f"the server compressed it ({response.headers['Content-Encoding'][:40]}) without being asked")
    expected = response.length  # None where the server doesn't say
    if expected is not None and expected > max_bytes:
        raise ValueError(f"it has {expected} bytes, and the limit max_bytes is {max_bytes}")
    content = bytearray()
    while len(content) <= max_bytes and (chunk := response.read(CHUNK)):
        content += chunk
    if expected is not None and len(content) < expected:
        raise ValueError(f"the server stopped after {len(content)} of {expected} bytes")
    return bytes(content)


def is_public(address):
    """Whether an IP address is one of the open internet."""
    address = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if address.version == 6 and address in NAT64:
        inner = ipaddress.ip_address(int(address) & 0xFFFFFFFF)
    if inner:
        return is_public(str(inner))
    return address.is_global and not address.is_multicast and (address.version == 4 or address in GLOBAL_UNICAST)


class Connections(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Connects to the address that was checked, and to no other that the name may have a moment later."""

    def __init__(self, deadline, checks):
        super().__init__()
        self.deadline, self.checks = deadline, checks

    def http_open(self, request):
        return self.do_open(lambda host, **kwargs: guarded(http.client.HTTPConnection(host, **kwargs), self), request)

    def https_open(self, request):
        context = trusted()
        return self.do_open(
            lambda host, **kwargs: guarded(http.client.HTTPSConnection(host, context=context, **kwargs), self), request
        )

    def connect(self, address, *_):
        """A socket for (host, port), in place of `socket.create_connection`."""
        host, port = address
        addresses = [host]
        if self.checks:
            addresses = [found[-1][0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            for found in addresses:
                if not is_public(found):
                    raise ValueError(f"{host} is an internal address, and those are not allowed here")
        for last, found in enumerate(addresses, 1 - len(addresses)):
            try:
                return socket.create_connection((found, port), self.left())
            except OSError:
                if last == 0:
                    raise

    def left(self):
        """Seconds until the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def trusted():
    """The authorities whose signature on a server's certificate counts: where huggingface_hub is installed, its own."""
    try:
        return importlib.import_module("huggingface_hub.utils").httpx.create_ssl_context()
    except ImportError:
        return ssl.create_default_context()


def guarded(connection, connections):
    """A connection that is made by `connections` and reads until its deadline, however little comes at a time."""
    connection._create_connection = connections.connect
    connection.response_class = lambda sock, **kwargs: http.client.HTTPResponse(Timed(sock, connections), **kwargs)
    return connection


class Timed(io.RawIOBase):
    """A socket as a file that is read until the deadline; a socket's own limit is for each read alone."""

    def __init__(self, sock, connections):
        self.sock, self.connections, self.file = sock, connections, sock.makefile("rb", buffering=0)

    def makefile(self, mode):
        return io.BufferedReader(self)

    def readable(self):
        return True

    def readinto(self, buffer):
        self.sock.settimeout(self.connections.left())
        return self.file.readinto(buffer)

    def close(self):
        self.file.close()
        super().close()
