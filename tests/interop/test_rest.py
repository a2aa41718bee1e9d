"""The whole life of a key by plain HTTPS and JSON, as a client without our code has it."""

import base64
import json
import os
import subprocess


def b64(data):
    return base64.b64encode(data).decode()


def test_a_keys_life(server):
    with server.developer.connect() as client:
        key = client.call("POST", "/v1/keys", {"algorithm": "aes-256", "alias": "life"}).ok()["id"]
        path = f"/v1/keys/{key}"
        context = {"purpose": "test"}
        encrypt = {"plaintext": b64(b"hello"), "context": context}
        first = client.call("POST", "/v1/keys/life/encrypt", encrypt).ok()["ciphertext"]
        assert base64.b64decode(first).startswith(b"KH1\n")

        def decrypt(ciphertext=first, context=context):
            return client.call("POST", f"{path}/decrypt", {"ciphertext": ciphertext, "context": context})

        assert base64.b64decode(decrypt().ok()["plaintext"]) == b"hello"
        assert decrypt(context={"purpose": "other"}).status == 422
        altered = bytearray(base64.b64decode(first))
        altered[-1] ^= 1
        assert decrypt(b64(altered)).status == 422

        assert client.call("POST", f"{path}/rotate").ok()["primary"] == 2
        second = client.call("POST", f"{path}/rewrap", {"ciphertext": first, "context": context}).ok()
        assert second["version"] == 2 and decrypt(second["ciphertext"]).ok()["version"] == 2

        newest = {"version": 2}
        client.call("POST", f"{path}/suspend", newest).ok()
        assert decrypt(second["ciphertext"]).status == 409 and decrypt().status == 200
        assert decrypt(second["ciphertext"])["state"] == "suspended"
        client.call("POST", f"{path}/resume", newest).ok()
        assert decrypt(second["ciphertext"]).status == 200
        client.call("POST", f"{path}/suspend").ok()
        assert decrypt().status == 409 and decrypt(second["ciphertext"]).status == 409
        client.call("POST", f"{path}/resume").ok()
        client.call("POST", f"{path}/deactivate").ok()
        assert client.call("POST", f"{path}/encrypt", encrypt).status == 409
        assert decrypt(second["ciphertext"]).status == 200

        wrong = {"version": 1, "confirm": "01990a3f-1b7a-7c04-8e55-64d0c9a2f7e1"}
        assert client.call("POST", f"{path}/destroy", wrong).status == 400
        client.call("POST", f"{path}/destroy", {"version": 1, "confirm": key}).ok()
        assert decrypt().status == 409 and decrypt(second["ciphertext"]).status == 200
        states = [version["state"] for version in client.call("GET", path).ok()["versions"]]
        assert states == ["destroyed", "deactivated"]


def test_signatures_and_macs_verify(server):
    with server.developer.connect() as client:
        for algorithm in ("ed25519", "ec-p256", "ml-dsa-44"):
            path = "/v1/keys/" + client.call("POST", "/v1/keys", {"algorithm": algorithm}).ok()["id"]
            signature = client.call("POST", f"{path}/sign", {"message": b64(b"m")}).ok()["signature"]
            for message, valid in ((b"m", True), (b"n", False)):
                body = {"message": b64(message), "signature": signature}
                assert client.call("POST", f"{path}/verify", body).ok()["valid"] is valid
            client.call("GET", f"{path}/public").ok()
        path = "/v1/keys/" + client.call("POST", "/v1/keys", {"algorithm": "hmac-sha256"}).ok()["id"]
        mac = client.call("POST", f"{path}/mac", {"message": b64(b"m")}).ok()["mac"]
        body = {"message": b64(b"n"), "mac": mac}
        assert client.call("POST", f"{path}/verify-mac", body).ok()["valid"] is False


def test_a_repeated_request_is_done_once(server):
    with server.developer.connect() as client:
        name = {"Idempotency-Key": "0123456789abcdef"}
        body = {"algorithm": "aes-256"}
        first = client.call("POST", "/v1/keys", body, name).ok()
        again = client.call("POST", "/v1/keys", body, name).ok()
        assert first["id"] == again["id"]
        assert client.call("POST", "/v1/keys", {"algorithm": "aes-128"}, name).status == 409
        assert len(client.call("GET", "/v1/keys").ok()["keys"]) == 1


def test_problems_say_what_to_do(server):
    with server.developer.connect() as client:
        for method, path, body, status in (
            ("GET", "/v1/nothing", None, 404),
            ("DELETE", "/v1/keys", None, 405),
            ("POST", "/v1/keys", {"algorithm": "aes-257"}, 400),
            ("POST", "/v1/keys", {"algorithm": "aes-256", "colour": "red"}, 400),
            ("GET", "/v1/keys/none", None, 404),
            ("GET", "/v1/tenants", None, 403),
        ):
            answer = client.call(method, path, body)
            assert answer.status == status, f"{method} {path}: {answer.status} {answer.body!r}"
            assert answer["code"] and answer["message"] and answer["next_step"]
            assert answer.headers["X-Request-Id"] == answer["request_id"]


def test_web_pages_of_others_are_refused(server):
    with server.developer.connect() as client:
        for method, path in (("POST", "/v1/random"), ("POST", "/v1/keys/none/rotate"), ("POST", "/v1/unseal")):
            for origin in ("https://elsewhere.example", "null", server.url.replace("https", "http")):
                answer = client.call(method, path, {"bytes": 16}, {"Origin": origin})
                assert (answer.status, answer["field"]) == (400, "origin"), f"{path} {origin}"
        client.call("POST", "/v1/random", {"bytes": 16}, {"Origin": server.url}).ok()


def test_headers_that_are_given_twice_are_refused(server):
    with server.developer.connect() as client:
        client.http.putrequest("POST", "/v1/keys")
        for name, value in (("Content-Length", "23"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")):
            client.http.putheader(name, value)
        client.http.endheaders(b'{"algorithm":"aes-256"}')
        answer = client.http.getresponse()
        assert (answer.status, json.loads(answer.read())["field"]) == (400, "idempotency-key")
        assert client.call("GET", "/v1/keys").ok()["keys"] == []


def test_http_2(server):
    me = server.developer
    curl = ["curl", "--silent", "--show-error", "--http2", "--parallel", "--parallel-max", "20",
            "--cacert", me.ca, "--cert", me.certificate, "--key", me.key, "--write-out", "%{http_version}/%{http_code} "]  # fmt: skip
    body = ["--json", json.dumps({"algorithm": "aes-256"})]
    wanted = [word for _ in range(20) for word in ("--output", os.devnull, server.url + "/v1/keys")]
    done = subprocess.run([*curl, *body, *wanted], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2/200"] * 20
    assert len(me.call("GET", "/v1/keys").ok()["keys"]) == 20


def test_a_body_that_is_too_long_is_refused_in_words(server):
    with server.developer.connect() as client:
        key = client.call("POST", "/v1/keys", {"algorithm": "aes-256"}).ok()["id"]
        answer = client.call("POST", f"/v1/keys/{key}/encrypt", {"plaintext": b64(bytes(65_537))})
        assert (answer.status, answer["limit"]) == (413, 65_536)
        # Read to its end although it was refused: otherwise the connection breaks before the answer is read.
        answer = client.call("POST", f"/v1/keys/{key}/encrypt", {"plaintext": b64(bytes(3_000_000))})
        assert answer.status == 413
        client.call("GET", "/v1/whoami").ok()


def test_nobody_without_a_certificate_of_the_ca(server, tmp_path):
    subprocess.run(
        "openssl req -x509 -newkey ed25519 -nodes -subj /CN=dev -keyout stranger.key -out stranger.crt".split(),
        cwd=tmp_path, check=True, capture_output=True,
    )
    curl = ["curl", "--silent", "--cacert", server.developer.ca, server.url + "/v1/whoami"]
    shown = ["--cert", server.developer.certificate, "--key", server.developer.key]
    mine = subprocess.run([*curl, *shown], capture_output=True, check=True)
    assert json.loads(mine.stdout)["name"] == "dev"
    nobody = subprocess.run(curl, capture_output=True)
    assert nobody.returncode or json.loads(nobody.stdout)["code"] == "unauthenticated"
    stranger = ["--cert", os.fspath(tmp_path / "stranger.crt"), "--key", os.fspath(tmp_path / "stranger.key")]
    assert subprocess.run([*curl, *stranger], capture_output=True).returncode != 0


def test_the_log_proves_what_was_done(server):
    with server.developer.connect() as client:
        client.call("POST", "/v1/keys", {"algorithm": "aes-256"}, {"X-Keyhearth-Reason": "a test"}).ok()
        entries = client.call("GET", "/v1/audit/entries?limit=1000").ok()["entries"]
        made = [logged for logged in entries if logged["entry"]["operation"] == "create-key"]
        assert [logged["entry"]["reason"] for logged in made] == ["a test"]
        proof = client.call("GET", f"/v1/audit/entries/{made[0]['index']}/proof").ok()
        assert proof["checkpoint"].startswith("keyhearth.dev/log\n")
