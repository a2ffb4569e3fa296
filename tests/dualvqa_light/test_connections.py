"""Clients that are slow, rude or gone, at a server with sockets."""

import json
import socket
import threading
import time

import pytest
from serving_helpers import Echo, base64_of, picture

from dualvqa_light.connections import new_server
from dualvqa_light.server import create_app
from dualvqa_light.server_settings import ServerSettings

ROW = json.dumps({"image": base64_of(picture()), "question": "is it red?"}).encode()
LIMITS = ServerSettings(port=0, header_seconds=0.3, body_seconds=0.3, max_requests=2, max_body_mib=0.5)


@pytest.fixture(scope="module")
def server():
    server = new_server(create_app("folder", LIMITS, Echo), LIMITS)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def pipe(server):
    pipe = server.config.app.state.server.batcher.steps.pipe
    pipe.batches.clear()
    yield pipe
    pipe.gate.set()


@pytest.fixture
def connect(server):
    """Opens a connection; after the test the server answers on a new one, and has nobody left waiting."""
    opened = []

    def connect():
        opened.append(socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=5))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()
    with connect() as last:
        last.sendall(request())
        assert answers(last, 1)[0][0] == 200
    wait_until(lambda: server.config.app.state.server.busy == 0)


def wait_until(true, seconds=3):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def request(body=ROW, method="POST", path="/answer", **headers):
    head = {"Host": "a", "Content_Type": "application/json", "Content_Length": len(body), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(connection, count):
    """(status, JSON) of so many answers on a connection."""
    found, file = [], connection.makefile("rb")
    for _ in range(count):
        status, headers = int(file.readline().split()[1]), {}
        while line := file.readline().strip():
            name, _, value = line.decode().lower().partition(": ")
            headers[name] = value
        content = file.read(int(headers["content-length"])) if "content-length" in headers else b"null"
        found.append((status, json.loads(content)))
    return found


def ends(connection, seconds=5):
    """Whether the server closes a connection without a word."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"POST /answer HT", request()[:60]], ids=["nothing", "a line", "headers"])
def test_a_connection_that_sends_no_whole_request_is_closed(connect, sent):
    connection, start = connect(), time.monotonic()
    connection.sendall(sent)
    assert ends(connection) and time.monotonic() - start < 1


def test_headers_that_come_a_byte_at_a_time_are_not_waited_for(connect):
    connection, start = connect(), time.monotonic()
    with pytest.raises(ConnectionError):
        for byte in request() * 9:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
    assert time.monotonic() - start < 1


def test_the_second_request_of_a_connection_has_no_more_time_than_the_first(connect):
    connection = connect()
    connection.sendall(request())
    assert answers(connection, 1)[0][0] == 200
    connection.sendall(b"POST ")
    assert ends(connection, 1)


def test_a_body_that_comes_a_byte_at_a_time_is_408(connect):
    connection = connect()
    connection.sendall(request()[:-20])
    for byte in ROW[-20:-1]:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)
    ((status, found),) = answers(connection, 1)
    assert status == 408 and f"of {len(ROW)} bytes" in found["error"]
    assert "within 0.3 seconds" in found["error"]


def test_a_client_that_sends_far_too_much_reads_why_it_is_refused(connect):
    connection = connect()
    connection.sendall(request(b"a" * 5_000_000))
    ((status, found),) = answers(connection, 1)
    assert status == 413 and "found 5000000" in found["error"] and ends(connection)


def test_a_client_that_asks_before_it_sends_is_refused_at_once(connect):
    connection = connect()
    connection.sendall(request(b"", Content_Length=5_000_000, Expect="100-continue"))
    assert answers(connection, 1)[0][0] == 413 and ends(connection)


def test_chunks_are_counted_too(connect):
    connection = connect()
    connection.sendall(request(b"", Content_Length=0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
    for _ in range(20):
        connection.sendall(b"8000\r\n" + b"a" * 0x8000 + b"\r\n")
    connection.sendall(b"0\r\n\r\n")
    assert answers(connection, 1)[0][0] == 413


def test_requests_that_come_at_once_on_a_connection_are_answered_in_order(connect):
    connection = connect()
    bodies = [ROW.replace(b"red?", f"{number}?".encode()) for number in range(5)]
    connection.sendall(b"".join(map(request, bodies)))
    found = answers(connection, 5)
    assert [best[0]["answer"] for _, best in found] == [f"is it {number}? (255, 0, 0)" for number in range(5)]


def test_a_client_that_hangs_up_is_not_computed_for(connect, pipe, server):
    pipe.gate.clear()
    first = connect()
    first.sendall(request())
    wait_until(lambda: server.config.app.state.server.busy == 1)
    time.sleep(0.05)  # it is being computed
    gone = connect()
    gone.sendall(request())
    wait_until(lambda: server.config.app.state.server.busy == 2)
    gone.close()
    wait_until(lambda: server.config.app.state.server.busy == 1)
    pipe.gate.set()
    assert answers(first, 1)[0][0] == 200
    assert sum(pipe.batches) == 1


def test_a_client_that_hangs_up_within_its_body_leaves_nothing(connect):
    connection = connect()
    connection.sendall(request()[:-20])
    connection.close()


def test_more_requests_than_are_answered_at_a_time_are_503(connect, pipe, server):
    pipe.gate.clear()
    accepted = []
    for _ in range(2):
        accepted.append(connect())
        accepted[-1].sendall(request())
    wait_until(lambda: server.config.app.state.server.busy == 2)
    refused = connect()
    refused.sendall(request())
    ((status, found),) = answers(refused, 1)
    assert status == 503 and found["error"].startswith("2 requests at a time")
    health = connect()
    health.sendall(request(b"", "GET", "/health"))
    assert answers(health, 1) == [(200, {"status": "ok"})]
    pipe.gate.set()
    assert [answers(connection, 1)[0][0] for connection in accepted] == [200, 200]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        request(Content_Length="-1"),
        request().replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", 1),
        request(b"", Transfer_Encoding="chunked", Content_Length=0).replace(b"Content-Length: 0\r\n", b"") + b"zz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: " + b"b" * 200_000 + b"\r\n\r\n",
    ],
    ids=["TLS", "no version", "negative length", "two lengths", "no chunk", "long header"],
)
def test_what_is_no_http_is_400_as_json(connect, sent):
    connection = connect()
    connection.sendall(sent)
    try:
        ((status, found),) = answers(connection, 1)
    except ConnectionError:  # closed while more was on its way
        assert len(sent) > 2**16
    else:
        assert status == 400 and found["error"].startswith("expected HTTP/1.1") and ends(connection)
