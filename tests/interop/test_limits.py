"""Slow, idle and flooding clients take what is theirs and nothing else."""

import resource
import socket
import ssl
import threading
import time

import pytest

# More than one address may hold at once.
IDLE = 600
# Whoever connects has so long for the handshake.
HANDSHAKE_S = 10
FLOOD_S = 3
# A slow request may take this long: far more than the limits, so that a busy machine does not matter.
CUT_S_MAX = 120
# Loopback has many addresses; limits count by address.
BAD = "127.0.0.66"


@pytest.fixture(autouse=True)
def open_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sockets(server, number, source=BAD):
    port = int(server.url.rsplit(":", 1)[1])
    return (socket.create_connection(("127.0.0.1", port), 10, (source, 0)) for _ in range(number))


def tls(identity, plain):
    context = ssl.create_default_context(cafile=identity.ca)
    context.load_cert_chain(identity.certificate, identity.key)
    return context.wrap_socket(plain, server_hostname="localhost")


def is_closed(plain):
    plain.settimeout(0.5)
    try:
        return plain.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def still_works(server, tmp_path, name):
    """Health is answered, and an identity can be issued, used and revoked at once."""
    assert server.health("/healthz") == 200 and server.health() == 200
    identity = server.issue(server.developer, name, tmp_path / name, "key-user")
    with identity.connect() as client:
        who = client.call("GET", "/v1/whoami").ok()["identity"]
        server.developer.call("POST", f"/v1/identities/{who}/revoke").ok()
        assert client.call("GET", "/v1/whoami").status == 401


def test_idle_connections_are_bounded_by_address(server, tmp_path):
    begun = time.monotonic()
    idle = list(sockets(server, IDLE))
    still_works(server, tmp_path, "beside-idle")
    # Those over the limit were closed at once, those within it are left in peace for now.
    deadline = begun + 60
    while sum(is_closed(one) for one in idle[-50:]) < 50:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    are_left = not any(is_closed(one) for one in idle[:3])
    assert are_left or time.monotonic() > begun + HANDSHAKE_S
    for one in idle:
        one.close()


def test_slow_requests_are_cut_and_hold_up_nobody(server, tmp_path):
    slow = [tls(server.developer, plain) for plain in sockets(server, 60)]
    for one in slow[20:]:
        one.sendall(b"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    for one in slow[:20]:
        one.sendall(b"POST /v1/random HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n")
    stop = threading.Event()
    cut = set()

    def drip():
        while not stop.wait(0.5) and len(cut) < len(slow):
            for number, one in enumerate(slow):
                try:
                    one.sendall(b"x")
                except OSError:
                    cut.add(number)

    dripping = threading.Thread(target=drip)
    dripping.start()
    still_works(server, tmp_path, "beside-slow")
    dripping.join(timeout=CUT_S_MAX)
    stop.set()
    dripping.join()
    assert len(cut) == len(slow), f"{len(slow) - len(cut)} requests go on arriving for ever"
    still_works(server, tmp_path, "after-slow")


def test_a_flood_leaves_health_and_revocation_alone(server, tmp_path):
    until = time.monotonic() + FLOOD_S
    statuses = []

    def flood():
        with server.developer.connect(source=BAD) as client:
            while time.monotonic() < until:
                statuses.append(client.call("POST", "/v1/random", {"bytes": 32}).status)

    floods = [threading.Thread(target=flood) for _ in range(16)]
    for one in floods:
        one.start()
    while time.monotonic() < until:
        assert server.health("/healthz") == 200
        time.sleep(0.2)
    still_works(server, tmp_path, "under-flood")
    for one in floods:
        one.join()
    assert set(statuses) <= {200, 429, 503} and 200 in statuses
    # Every one of them is in the log.
    listed = server.developer.call("GET", "/v1/audit/checkpoint").ok()
    assert int(listed["checkpoint"].splitlines()[1]) >= statuses.count(200)


def test_garbage_instead_of_tls(server, tmp_path):
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(2000), bytes(1)):
        for one in sockets(server, 20):
            one.sendall(garbage)
            one.close()
    still_works(server, tmp_path, "after-garbage")
