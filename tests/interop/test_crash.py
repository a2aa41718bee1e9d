"""What was acknowledged survives being killed at any moment, and being stopped under load."""

import base64
import collections
import http.client
import json
import random
import threading
import time

from conftest import Server

ROUNDS = 8
THREADS = 4
LOAD_S_MAX = 1.5
SEED = 20261120


class Load(threading.Thread):
    """Creates keys, encrypts and deactivates until the server is gone; keeps what was acknowledged."""

    def __init__(self, server, number, known):
        super().__init__()
        self.identity, self.number = server.developer, number
        self.keys, self.ciphertexts, self.ended = list(known), [], []
        self.made = collections.Counter()
        self.failure = None

    def run(self):
        try:
            with self.identity.connect() as client:
                for step in range(1_000_000):
                    self.step(client, step)
        except (OSError, http.client.HTTPException):
            pass  # It was killed.
        except Exception as failure:  # noqa: BLE001 raised again by the test
            self.failure = failure

    def step(self, client, step):
        if step % 4 == 0:
            self.keys.append(client.call("POST", "/v1/keys", {"algorithm": "aes-256"}).ok()["id"])
            self.made["create-key"] += 1
        if step % 16 == 9:
            # The newest key is nobody else's; it never protects anything after this.
            key = self.keys.pop()
            client.call("POST", f"/v1/keys/{key}/deactivate").ok()
            self.ended.append(key)
            self.made["deactivate-key"] += 1
        key = random.choice(self.keys)
        plaintext = f"{self.number} {step} {time.monotonic_ns()}".encode()
        body = {"plaintext": base64.b64encode(plaintext).decode(), "context": {"thread": str(self.number)}}
        answer = client.call("POST", f"/v1/keys/{key}/encrypt", body).ok()
        self.ciphertexts.append((key, self.number, answer["ciphertext"], plaintext))
        self.made["encrypt"] += 1


class Rotation(threading.Thread):
    """Rotates the root key and the tenant's key, again and again, under the load."""

    def __init__(self, server, tenant):
        super().__init__()
        self.identity, self.tenant = server.operator, tenant
        self.failure, self.done = None, 0

    def run(self):
        try:
            with self.identity.connect() as client:
                while True:
                    rotated = client.call("POST", f"/v1/tenants/{self.tenant}/rotate-key")
                    if rotated.status == 409:
                        # The server is still finishing the rotation that a crash ended.
                        time.sleep(0.05)
                        continue
                    rotated.ok()
                    client.call("POST", "/v1/seal/rotate-root").ok()
                    self.done += 1
        except (OSError, http.client.HTTPException):
            pass  # It was killed.
        except Exception as failure:  # noqa: BLE001 raised again by the test
            self.failure = failure


def test_acknowledged_is_durable(program, tmp_path):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    keys, ended, ciphertexts, made, rotations = [], [], [], collections.Counter(), 0
    server = Server(program, tmp_path / "data")
    for round in range(ROUNDS + 1):
        server.start()
        loads = [Load(server, number, keys[-5:]) for number in range(THREADS)]
        rotation = Rotation(server, server.developer.call("GET", "/v1/whoami").ok()["tenant"])
        for load in [rotation, *loads]:
            load.start()
        time.sleep(chance.uniform(0.2, LOAD_S_MAX))
        # A slow machine gets the time that it needs for something to be there, and then a moment more.
        deadline = time.monotonic() + 60
        while not (rotation.done and all(load.made["deactivate-key"] for load in loads)):
            assert time.monotonic() < deadline and rotation.failure is None, rotation.failure
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.2))
        if round < ROUNDS:
            server.kill()
        else:
            server.stop()
        rotation.join(timeout=60)
        assert not rotation.is_alive() and rotation.failure is None, rotation.failure
        rotations += rotation.done
        for load in loads:
            load.join(timeout=60)
            assert not load.is_alive() and load.failure is None, load.failure
            keys += [key for key in load.keys if key not in keys]
            ended += load.ended
            ciphertexts += load.ciphertexts
            made += load.made
    assert rotations >= ROUNDS
    assert all(made[operation] >= ROUNDS for operation in ("create-key", "encrypt", "deactivate-key")), made

    with server:
        check(server, keys, ended, ciphertexts)
        counts = logged(server, tmp_path)
        # An entry may be there for what was done but not acknowledged any more: one a thread and round.
        for operation, count in made.items():
            assert count <= counts[operation] <= count + (ROUNDS + 1) * THREADS
        assert counts["start"] == ROUNDS + 2 and counts["stop"] == 1
        assert counts["decrypt"] == len(ciphertexts)
        server.stop()
    print(f"{rotations} rotations, {len(keys)} keys, {len(ciphertexts)} ciphertexts, {sum(counts.values())} entries")


def test_rotations_at_once_lose_nothing(server):
    tenant = server.developer.call("GET", "/v1/whoami").ok()["tenant"]
    path = f"/v1/tenants/{tenant}/rotate-key"
    load, until = Load(server, 0, []), time.monotonic() + 4
    statuses = []

    def rotate():
        with server.operator.connect() as client:
            while time.monotonic() < until:
                statuses.append(client.call("POST", path).status)

    rotating = [threading.Thread(target=rotate) for _ in range(4)]
    with server.developer.connect() as client:
        step = 0
        for one in rotating:
            one.start()
        while time.monotonic() < until:
            load.step(client, step)
            step += 1
    for one in rotating:
        one.join()
    # Those that found somebody faster say so.
    assert set(statuses) <= {200, 409} and statuses.count(200) >= 2
    check(server, load.keys, load.ended, load.ciphertexts)
    server.stop()
    server.start()
    check(server, load.keys, load.ended, load.ciphertexts)


def check(server, keys, ended, ciphertexts):
    """Every key is found in the state it had, and every ciphertext decrypts."""
    with server.developer.connect() as client:
        for key in keys + ended:
            versions = client.call("GET", f"/v1/keys/{key}").ok()["versions"]
            # One may have been deactivated without being told so any more.
            assert versions[0]["state"] == "deactivated" or key not in ended
            assert versions[0]["has_material"]
        for key, thread, ciphertext, plaintext in ciphertexts:
            body = {"ciphertext": ciphertext, "context": {"thread": str(thread)}}
            answer = client.call("POST", f"/v1/keys/{key}/decrypt", body).ok()
            assert base64.b64decode(answer["plaintext"]) == plaintext


def logged(server, folder):
    """Exports and verifies the log; how often it has each operation that was done."""
    auditor = server.issue(server.operator, "log-auditor", folder / "auditor", "auditor")
    export, key = folder / "log", ("--log-key-file", server.data / "log.vkey")
    server.done(auditor, "audit", "export", export)
    server.done(auditor, "audit", "verify", export, *key)
    lines = server.done(auditor, "audit", "show", export, *key).splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["index"] for entry in entries] == list(range(len(entries)))
    return collections.Counter(entry["operation"] for entry in entries if entry["result"] == "done")
