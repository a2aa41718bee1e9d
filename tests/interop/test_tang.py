"""Machines bound by Debian's clevis: they unlock, go on after a rotation, and stop when their key does."""

import base64
import http.client
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

TANGD = pathlib.Path("/usr/libexec/tangd")
PROGRAMS = ["clevis", "clevis-luks-bind", "cryptsetup", "curl", "jose"]
# Loopback has many addresses.
ELSEWHERE = "127.0.0.66"
SECRET = b"what opens the disk"


@pytest.fixture(scope="module", autouse=True)
def installed():
    """These tests are of other people's programs: without them they fail, and are not skipped."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    assert not missing and TANGD.exists(), f"missing: {missing or TANGD}; scripts/test install"


@pytest.fixture
def tang(server):
    return Tang(server)


class Tang:
    """The Tang front of a development server, and clevis as machines run it."""

    def __init__(self, server):
        self.server, self.url = server, server.environment["KEYHEARTH_TANG_URL"]

    def keyhearth(self, *words, stdin=None):
        return self.server.done(self.server.developer, *words, stdin=stdin)

    def create(self, name):
        """Makes the pair of a machine; returns what clevis is to be told."""
        shown = json.loads(self.keyhearth("--json", "tang", "create", name))
        return {"url": self.url + shown["path"].rstrip("/"), "thp": shown["thumbprint"]}

    def entries(self, operation):
        listed = self.keyhearth("--json", "audit", "list", "--limit", "1000")
        entries = [logged["entry"] for logged in json.loads(listed)["entries"]]
        return [entry for entry in entries if entry["operation"] == operation]

    def request(self, method, path, body=None, source="127.0.0.1"):
        host, port = self.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=30, source_address=(source, 0))
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()
        finally:
            connection.close()


def run(*words, stdin=b"", home=None):
    environment = {**os.environ, **({"CURL_HOME": str(home)} if home else {})}
    return subprocess.run(list(map(str, words)), input=stdin, capture_output=True, env=environment, timeout=120)


def done(*words, stdin=b"", home=None):
    process = run(*words, stdin=stdin, home=home)
    assert process.returncode == 0, process.stderr.decode()
    return process.stdout


def bind(config, *flags):
    return done("clevis", "encrypt", "tang", json.dumps(config), *flags, stdin=SECRET)


def opens(jwe, home=None):
    process = run("clevis", "decrypt", stdin=jwe, home=home)
    assert process.stdout == (SECRET if process.returncode == 0 else b""), process.stderr
    return process.returncode == 0


@pytest.fixture
def elsewhere(tmp_path):
    """Makes curl, and so clevis, call from another address."""
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / ".curlrc").write_text(f"interface = {ELSEWHERE}\n")
    return home


@pytest.fixture
def disk(tmp_path):
    """A LUKS2 disk in a file, and the key of its first slot."""
    image, key = tmp_path / "disk.img", tmp_path / "first.key"
    image.write_bytes(bytes(20 << 20))
    key.write_bytes(os.urandom(32))
    fast = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    done("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", *fast, image, key)
    return image, key


def test_clevis_binds_and_opens(tang, tmp_path):
    default = tang.create("default")
    assert default["url"] == tang.url
    advertised = tmp_path / "adv.jws"
    advertised.write_bytes(done("curl", "-sf", f"{tang.url}/adv"))
    for config, *flags in [
        (default,),
        ({"url": tang.url}, "-y"),
        ({"url": tang.url, "adv": str(advertised)},),
        ({"url": tang.url + "/"}, "-y"),
    ]:
        assert opens(bind(config, *flags)), config
    wrong = run("clevis", "encrypt", "tang", json.dumps({**default, "thp": "A" * 43}), stdin=SECRET)
    assert wrong.returncode != 0


def test_the_advertisement_is_signed_by_the_key_it_lists(tang):
    thumbprint = tang.create("web")["thp"]
    status, kind, body = tang.request("GET", f"/web/adv/{thumbprint}")
    assert (status, kind) == (200, "application/jose+json")
    jws = json.loads(body)
    padded = jws["payload"] + "=" * (-len(jws["payload"]) % 4)
    keys = json.loads(base64.urlsafe_b64decode(padded))["keys"]
    assert [(key["alg"], key["key_ops"]) for key in keys] == [("ES512", ["verify"]), ("ECMR", ["deriveKey"])]
    for algorithm in ["S256", "S1"]:
        named = done("jose", "jwk", "thp", "-a", algorithm, "-i-", stdin=json.dumps(keys[0]).encode())
        assert tang.request("GET", f"/web/adv/{named.decode().strip()}")[0] == 200
    exchange = done("jose", "jwk", "thp", "-i-", stdin=json.dumps(keys[1]).encode()).decode().strip()
    assert tang.request("GET", f"/web/adv/{exchange}")[0] == 404, "only keys that sign are asked to sign"


def test_a_rotation_leaves_bindings_and_the_trust_in_a_signing_key(tang, tmp_path):
    one = tang.create("db1")
    exchange = json.loads(tang.keyhearth("--json", "tang", "show", "db1"))["exchange_thumbprint"]
    jwe, before = bind(one), verifying(tang.request("GET", "/db1/adv")[2])
    two = json.loads(tang.keyhearth("--json", "tang", "rotate", "db1"))
    assert one["thp"] != two["thumbprint"] and exchange != two["exchange_thumbprint"]
    assert opens(jwe), "what is bound to the keys before is opened"
    plain, vouched = [tang.request("GET", path)[2] for path in ["/db1/adv", f"/db1/adv/{one['thp']}"]]
    after = verifying(plain)
    assert verified(plain, after) and not verified(plain, before)
    assert verified(vouched, before) and verified(vouched, after), "as tangd has both sign"
    assert verifying(vouched) == after
    assert opens(bind({**one, "thp": two["thumbprint"]}))
    assert opens(jwe)
    three = json.loads(tang.keyhearth("--json", "tang", "rotate", "db1"))
    vouched = tang.request("GET", f"/db1/adv/{one['thp']}")[2]
    assert verified(vouched, before) and not verified(vouched, after)
    assert opens(jwe) and opens(bind({**one, "thp": three["thumbprint"]}))
    tang.keyhearth("key", "suspend", f"tang/db1/sign/{one['thp']}")
    assert tang.request("GET", f"/db1/adv/{one['thp']}")[0] == 403
    assert opens(jwe), "who trusts a signing key and who is bound are two things"


def verifying(jws):
    """The keys of an advertisement that sign, as Clevis finds them."""
    words = ["jose", "fmt", "-j-", "-Og", "payload", "-SyOg", "keys", "-AUo-"]
    return done("jose", "jwk", "use", "-i-", "-r", "-u", "verify", "-o-", stdin=done(*words, stdin=jws))


def verified(jws, keys):
    return run("jose", "jws", "ver", "-i", jws.decode(), "-k-", "-a", stdin=keys).returncode == 0


def test_a_luks_disk_is_bound_and_opened_also_after_a_rotation(tang, disk):
    image, key = disk
    config = tang.create("db1")
    done("clevis", "luks", "bind", "-d", image, "-k", key, "tang", json.dumps(config))
    assert b"tang" in done("clevis", "luks", "list", "-d", image)

    def opens_slot():
        process = run("clevis", "luks", "pass", "-d", image, "-s", "1")
        if process.returncode != 0:
            return False
        check = ["cryptsetup", "open", "--test-passphrase", "--key-slot", "1", "--key-file", "-", image]
        assert run(*check, stdin=process.stdout).returncode == 0
        return True

    before = tang.request("GET", "/db1/adv")[2]
    assert opens_slot()
    tang.keyhearth("key", "rotate", "tang/db1")
    after = tang.request("GET", f"/db1/adv/{config['thp']}")[2]
    assert json.loads(before)["payload"] != json.loads(after)["payload"]
    assert opens_slot(), "what is bound to the version before is opened"
    report = run("clevis", "luks", "report", "-q", "-d", image, "-s", "1")
    assert b"rotated" in report.stdout, "clevis sees that there is a newer one"
    assert opens(bind(config)), "the same thumbprint is good for what is bound now"
    tang.keyhearth("key", "suspend", "tang/db1")
    assert not opens_slot()
    tang.keyhearth("key", "resume", "tang/db1")
    assert opens_slot()


def test_suspending_one_machine_leaves_the_others(tang):
    jwes = {name: bind(tang.create(name)) for name in ["db1", "db2"]}
    tang.keyhearth("key", "suspend", "tang/db1")
    assert not opens(jwes["db1"]) and opens(jwes["db2"])
    assert tang.request("GET", "/db1/adv")[0] == 403, "nor is anything bound to it anew"
    assert tang.request("GET", "/db2/adv")[0] == 200
    [refused] = [entry for entry in tang.entries("exchange") if entry["result"] == "refused"]
    assert (refused["error"], refused["address"], refused["actor_name"]) == ("wrong_state", "127.0.0.1", "dev")
    tang.keyhearth("key", "resume", "tang/db1")
    assert opens(jwes["db1"])


def test_a_policy_names_the_network_of_a_machine(tang, elsewhere, tmp_path):
    jwe = bind(tang.create("db1"))
    other = bind(tang.create("db2"))
    assert opens(jwe, elsewhere)
    policy = tmp_path / "db1.cedar"
    policy.write_text(
        """forbid (principal, action == Keyhearth::Action::"exchange", resource)
        when { resource.hasTag("tang") && resource.getTag("tang") == "db1" }
        unless { context.ip.isInRange(ip("127.0.0.1/32")) };"""
    )
    tang.keyhearth("policy", "set", "db1-network", policy, "--yes")
    assert opens(jwe) and not opens(jwe, elsewhere) and opens(other, elsewhere)
    entry = tang.entries("exchange")[-2]
    assert (entry["result"], entry["address"], entry["by"]) == ("refused", ELSEWHERE, ["db1-network"])


def test_refusals_are_those_of_tangd_with_a_reason(tang, tmp_path):
    tang.create("db1")
    database, imported = oracle(tang, tmp_path, "moved")
    public = json.loads(done("jose", "jwk", "pub", "-i-", stdin=done("jose", "jwk", "gen", "-i", ECMR)))
    p256 = json.loads(done("jose", "jwk", "pub", "-i-", stdin=done("jose", "jwk", "gen", "-i", ECMR.replace("521", "256"))))
    path = f"/rec/{imported}"
    for body in [
        "", "{", "[]", "{}", "null",
        json.dumps({**public, "x": public["y"]}),
        json.dumps({**public, "x": "AA", "y": "AA"}),
        json.dumps({**public, "x": "A" * 88, "y": "A" * 88}),
        json.dumps({**public, "alg": "ES512"}),
        json.dumps({**public, "kty": "RSA"}),
        json.dumps(p256),
    ]:  # fmt: skip
        status, _, answer = tang.request("POST", "/moved" + path, body)
        assert (status, tangd(database, "POST", path, body)[0]) == (400, 400), body
        problem = json.loads(answer)
        assert problem["code"] == "invalid" and problem["next_step"], answer
    whole = json.dumps({**public, "more": [1]})
    status, kind, answer = tang.request("POST", "/moved" + path, whole)
    assert (status, kind) == (200, "application/jwk+json")
    assert json.loads(answer) == json.loads(tangd(database, "POST", path, whole)[1])
    for method, path, status in [
        ("GET", "/moved" + path, 405),
        ("POST", "/adv", 405),
        ("POST", "/db1" + path, 404),
        ("POST", "/nobody" + path, 404),
        ("GET", "/nobody/adv", 404),
        ("GET", "/", 404),
        ("POST", "/moved/rec/x", 404),
    ]:
        assert tang.request(method, path, whole if method == "POST" else None)[0] == status, path
    assert tang.request("POST", "/moved" + f"/rec/{imported}", "x" * 5000)[0] == 413


def test_a_machine_bound_to_tangd_is_opened_with_its_key_imported(tang, tmp_path):
    database, imported = oracle(tang, tmp_path, "moved")
    advertised = tmp_path / "adv.jws"
    advertised.write_bytes(tangd(database, "GET", "/adv")[1])
    jwe = bind({"url": f"{tang.url}/moved", "adv": str(advertised)})
    assert opens(jwe)
    for _ in range(20):
        body = done("jose", "jwk", "pub", "-i-", stdin=done("jose", "jwk", "gen", "-i", ECMR)).decode()
        ours = tang.request("POST", f"/moved/rec/{imported}", body)[2]
        assert json.loads(ours) == json.loads(tangd(database, "POST", f"/rec/{imported}", body)[1])


ECMR = '{"alg":"ECMR","crv":"P-521"}'


def tangd(database, method, path, body=""):
    """One request to Debian's tangd, which systemd starts for each connection."""
    request = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    answer = run(TANGD, database, stdin=request.encode()).stdout
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


def oracle(tang, tmp_path, name):
    """Keys of a tangd, whose exchange key is imported as that of `name`; returns its folder and the thumbprint."""
    database = tmp_path / "tangd"
    database.mkdir()
    for kind in [ECMR, '{"alg":"ES512"}']:
        jwk = done("jose", "jwk", "gen", "-i", kind)
        thumbprint = done("jose", "jwk", "thp", "-i-", stdin=jwk).decode().strip()
        (database / f"{thumbprint}.jwk").write_bytes(jwk)
        if kind == ECMR:
            exchange, named = json.loads(jwk), thumbprint
    scalar = int.from_bytes(base64.urlsafe_b64decode(exchange["d"] + "=="))
    private = ec.derive_private_key(scalar, ec.SECP521R1()).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    alias = f"tang/{name}"
    tang.keyhearth("key", "create", "ec-p521", "--usage", "exchange", "--import", "--alias", alias)
    words = ["key", "import-parameters", alias, "--mechanism", "rsa-aes-kwp-sha256"]
    public = tmp_path / "wrapping.der"
    tang.keyhearth(*words, "--output", public)
    public = serialization.load_der_public_key(public.read_bytes())
    once = os.urandom(32)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = public.encrypt(once, oaep) + keywrap.aes_key_wrap_with_padding(once, private)
    tang.keyhearth("key", "import", alias, "--raw", stdin=wrapped)
    return database, named
