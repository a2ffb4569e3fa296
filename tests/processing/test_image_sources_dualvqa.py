import base64
import gzip
import io
import os
import pickle
import socket
import threading
import time

import pytest
from PIL import Image

from processing.downloads_dualvqa import is_public
from processing.image_sources_dualvqa import PRESETS, ImageSources

ANY = PRESETS["any"]


def png(size=(4, 4)):
    content = io.BytesIO()
    Image.new("RGB", size, "blue").save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def serve():
    """Starts a server on this machine whose every connection is handled by a function of (socket, request)."""
    listeners = []

    def start(handle):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run():
            while True:
                try:
                    connection, _ = listener.accept()
                    with connection:
                        handle(connection, connection.recv(65536).decode())
                except OSError:  # closed by the test, or hung up by the client
                    if listener.fileno() < 0:
                        return

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()


def reply(content, *headers, status="200 OK"):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return lambda connection, _: connection.sendall("\r\n".join(lines).encode() + content)


def endless(first, again, pause):
    """Sends one thing and then another for ever."""

    def handle(connection, _):
        connection.sendall(first)
        while True:
            connection.sendall(again)
            time.sleep(pause)

    return handle


def test_the_content_of_a_url_is_what_its_server_has(serve):
    requests = []
    content = png()
    send = reply(content)
    url = serve(lambda connection, request: (requests.append(request), send(connection, request)))
    assert ANY.read(f"{url}/a b/é.png?x=1#there") == content
    assert requests[0].startswith("GET /a%20b/%C3%A9.png?x=1 HTTP/1.1\r\n")
    assert "Accept-Encoding: identity" in requests[0]


@pytest.mark.parametrize(
    "handle",
    [
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 0.05),
        endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", 0.05),
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05),
        endless(b"", b"", 0.05),
    ],
    ids=["body", "headers", "chunks", "silence"],
)
def test_a_download_that_comes_a_byte_at_a_time_ends_at_its_deadline(serve, handle):
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"readable image at http://127.*timed out, not complete after 0.3 seconds"):
        ImageSources(internal=True, seconds=0.3).read(serve(handle))
    assert time.monotonic() - started < 1.5


def test_the_deadline_is_one_for_all_redirects(serve):
    def handle(connection, request):
        time.sleep(0.15)
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")

    with pytest.raises(ValueError, match="timed out"):
        ImageSources(internal=True, seconds=0.4).read(serve(handle))


@pytest.mark.parametrize(
    "handle, message",
    [
        (reply(b"x" * 1001), "it has 1001 bytes, and the limit max_bytes is 1000"),
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 500, 0), "more than 1000 bytes, the limit of max_bytes"),
        (
            endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"64\r\n" + b"x" * 100 + b"\r\n", 0),
            "more than 1000 bytes, the limit of max_bytes",
        ),
        (reply(gzip.compress(bytes(10**6)), "Content-Encoding: gzip"), r"compressed it \(gzip\) without being asked"),
        (endless(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b"x" * 65536, 0), "more than 5 redirects"),
        (reply(b"nothing", status="404 Not Found"), "the server answered 404 Not Found"),
        (
            lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nxyz"),
            "stopped after 3 of 100 bytes|IncompleteRead",
        ),
        (lambda connection, _: connection.sendall(b"nonsense\r\n\r\n"), "nonsense"),
        (lambda connection, _: None, "closed connection"),
    ],
    ids=["length", "no length", "chunks", "gzip", "redirects", "404", "cut off", "no HTTP", "hung up"],
)
def test_what_a_server_may_send_is_bounded(serve, handle, message):
    with pytest.raises(ValueError, match=f"readable image at http.*({message})"):
        ImageSources(internal=True, max_bytes=1000).read(serve(handle))


@pytest.mark.parametrize(
    "address, public",
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("172.16.0.1", False),
        ("169.254.169.254", False),  # where clouds keep credentials
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
        ("fec0::1", False),
        ("::127.0.0.1", False),
        ("::ffff:0:7f00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
    ],
)
def test_addresses_of_this_machine_and_its_network_are_known(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "2130706433", "0x7f.1"]
)
def test_internal_addresses_are_refused_unless_they_are_allowed(serve, host):
    port = serve(reply(png())).rpartition(":")[2]
    with pytest.raises(ValueError, match=r"an internal address|readable image at http://.*(name|known|resol)"):
        ImageSources().read(f"http://{host}:{port}/")


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(serve, monkeypatch):
    """A name that changes its address between two look-ups gains nothing."""
    answers = iter(["127.0.0.1", "8.8.8.8"])
    looked_up = socket.getaddrinfo

    def rebinding(host, port, *args, **kwargs):
        host = next(answers) if host == "rebinding.example" else host
        return looked_up(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with pytest.raises(ValueError, match="rebinding.example is an internal address"):
        ImageSources().read("http://rebinding.example/")
    connected = []
    monkeypatch.setattr(socket, "create_connection", lambda address, *_: connected.append(address) or refuse())
    with pytest.raises(ValueError, match="nobody there"):
        ImageSources().read("http://rebinding.example/")
    assert connected == [("8.8.8.8", 80)]


def refuse():
    raise ConnectionRefusedError("nobody there")


def test_hosts_that_are_allowed_are_read_whatever_their_address_and_no_others(serve):
    url, other = serve(reply(png())), serve(reply(png()))
    place = url.removeprefix("http://")
    for hosts in ([place], ["127.0.0.1"], ["127.0.0.1", "example.org"]):
        assert ImageSources(hosts=hosts).read(url) == png()
    with pytest.raises(ValueError, match=f"the host {other.removeprefix('http://')} is not among those allowed"):
        ImageSources(hosts=[place]).read(other)
    for trick in (f"http://{place}@example.org/", f"http://example.org\\@{place}/", f"http://example.org#@{place}/"):
        with pytest.raises(ValueError, match="not among those allowed|expected http"):
            ImageSources(hosts=[place]).read(trick)


def test_each_redirect_is_checked_anew(serve):
    inner = serve(reply(png()))
    outer = serve(reply(b"", f"Location: {inner}/", status="302 Found"))
    assert ANY.read(outer) == png()
    with pytest.raises(ValueError, match="is not among those allowed"):
        ImageSources(hosts=[outer.removeprefix("http://")]).read(outer)
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:image/png;base64,AAAA"):
        with pytest.raises(ValueError, match=r"expected http\(s\)://host"):
            ANY.read(serve(reply(b"", f"Location: {place}", status="302 Found")))


def test_a_proxy_is_used_where_addresses_need_no_check(serve, monkeypatch):
    proxy = serve(reply(png()))
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ANY.read("http://images.example/a.png") == png()


@pytest.mark.parametrize("url", ["http://", "http://host:port/", "http://[::1/", "ftp://host/a.png", "HTTP:///a"])
def test_urls_that_are_none_are_named(url):
    with pytest.raises(ValueError, match="expected a readable image at "):
        ANY.read(url)


def test_pipes_devices_sockets_and_folders_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tmp_path / "socket"))
        places = {"pipe": "a pipe", "link": "a device", "socket": "a socket", ".": "a folder"}
        for name, kind in places.items():
            with pytest.raises(ValueError, match=f"expected a file, found {kind}"):
                ANY.read(tmp_path / name)


def test_large_files_are_refused_before_they_are_read(tmp_path):
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        ValueError, match=r"sparse.png: it has 1099511627776 bytes, and the limit max_bytes is 134217728"
    ):
        ANY.read(tmp_path / "sparse.png")
    (tmp_path / "a.png").write_bytes(png())
    assert ImageSources(max_bytes=len(png())).read(tmp_path / "a.png") == png()
    for source in (tmp_path / "a.png", png(), data_uri()):
        with pytest.raises(ValueError, match="limit"):
            ImageSources(max_bytes=len(png()) - 1).read(source)
    with pytest.raises(ValueError, match="says that it has 0 bytes and has more"):
        ANY.read("/proc/self/smaps")


def data_uri():
    return "data:image/png;base64," + base64.b64encode(png()).decode()


def test_images_that_are_their_own_source_are_taken_from_everybody():
    text = base64.b64encode(png()).decode()
    broken_up = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    escaped = data_uri().replace("+", "%2B").replace("=", "%3D")
    for source in (png(), bytearray(png()), memoryview(png()), data_uri(), escaped, text, broken_up):
        for sources in PRESETS.values():
            assert sources.read(source) == png()


def test_bytes_and_objects_alone_open_neither_files_nor_urls(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png())
    monkeypatch.setattr(os, "stat", lambda *args: pytest.fail("it looked whether the file is there"))
    monkeypatch.setattr(socket, "socket", lambda *args: pytest.fail("it opened a socket"))
    for source, kind in ((tmp_path / "a.png", "paths"), ("/etc/passwd", "paths"), ("http://127.0.0.1/", "URLs")):
        with pytest.raises(ValueError, match=f"{kind} are not allowed here"):
            PRESETS["objects"].read(source)


def test_folders_are_a_fence(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "inside2"
    inside.mkdir(), outside.mkdir()
    (inside / "a.png").write_bytes(png())
    (outside / "b.png").write_bytes(png())
    (inside / "link.png").symlink_to(outside / "b.png")
    sources = ImageSources(folders=[inside])
    assert sources.read(inside / "a.png") == sources.read(f"{outside}/../inside/a.png") == png()
    for path in (outside / "b.png", inside / ".." / "inside2" / "b.png", inside / "link.png", outside / "missing.png"):
        with pytest.raises(ValueError, match="outside of the folders that are allowed"):
            sources.read(path)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"folders": "/data"}, "expected folders .* found '/data'"),
        ({"hosts": [3]}, "expected hosts"),
        ({"internal": "no"}, "expected internal"),
        ({"max_bytes": 0}, "expected max_bytes .* above 0"),
        ({"seconds": float("nan")}, "expected seconds"),
        ({"max_pixels": True}, "expected max_pixels"),
        ({"paths": False}, "expected image sources as one of any, objects"),
        ("nothing", "expected image sources as one of any, objects"),
    ],
)
def test_sources_of_another_type_or_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ImageSources.of(fields)


def test_sources_come_as_names_dicts_and_objects_and_go_to_workers():
    assert ImageSources.of("objects") == ImageSources.of({"folders": [], "hosts": []}) == PRESETS["objects"]
    assert ImageSources.of(ANY) == ANY == pickle.loads(pickle.dumps(ANY))


def test_a_message_about_any_path_can_be_written():
    with pytest.raises(ValueError) as caught:
        ANY.read("no such folder/\ud800.png")
    assert "\\ud800.png" in str(caught.value) and str(caught.value).encode()
