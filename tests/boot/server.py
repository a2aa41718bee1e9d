"""Key servers as machines know them: one that runs, and one that is away."""

import base64
import dataclasses
import datetime
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# The host, as a machine sees it that QEMU gives a network.
HOST = "10.0.2.2"
PASSPHRASE = b"a passphrase of the tests, long enough"
START_S_MAX = 60
CONFIGURATION = """
data = "{data}"
listen = "127.0.0.1:0"
health = "127.0.0.1:0"
anchor = "{folder}/anchor"
[boot]
listen = "127.0.0.1:{boot_port}"
endorsements = "{folder}/endorsements"
clouds = "{folder}/clouds"
roots = {{ made = "{folder}/ark.pem" }}
lease_seconds = {lease_s}
"""


@dataclasses.dataclass
class Enrolled:
    """A machine: its id, and the secret of its volume."""

    id: str
    secret: bytes


class Away:
    """A server that is not there: its port is taken, and nothing listens."""

    def __init__(self):
        self.reserved = socket.socket()
        self.reserved.bind(("127.0.0.1", 0))
        self.boot_port = self.reserved.getsockname()[1]
        self.deployment = str(uuid.uuid4())
        self.release_key = base64.b64encode(os.urandom(32)).decode()
        self.ca = authority()

    def enrol(self):
        return Enrolled(str(uuid.uuid4()), os.urandom(32))

    def prepared(self, enrolled, disk):
        pass


class Server:
    """`keyhearth serve` with a boot listener, and one tenant. `chain` is what vouches for made SNP hardware."""

    def __init__(self, program, agent, folder, chain, lease_s=3600):
        self.program, self.agent, self.folder, self.process = program, agent, folder, None
        self.data, self.passphrase, self.configuration = folder / "data", folder / "passphrase", folder / "server.toml"
        (folder / "endorsements").mkdir(parents=True)
        (folder / "clouds").mkdir()
        (folder / "endorsements/crl").write_bytes(chain.revocations().public_bytes(serialization.Encoding.DER))
        (folder / "ark.pem").write_bytes(chain.ark.public_bytes(serialization.Encoding.PEM))
        self.passphrase.write_bytes(PASSPHRASE)
        self.passphrase.chmod(0o600)
        # Machines know the port, also after a restart. Nobody else is given it while it is bound here.
        self.bound = socket.socket()
        self.bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.bound.bind(("127.0.0.1", 0))
        self.boot_port = self.bound.getsockname()[1]
        values = {"data": self.data, "folder": folder, "boot_port": self.boot_port, "lease_s": lease_s}
        self.configuration.write_text(CONFIGURATION.format(**values))
        words = ["init", "--data", self.data, "--passphrase-file", self.passphrase, "--anchor", folder / "anchor"]
        made = subprocess.run([program, *words, "--name", HOST, "--name", "127.0.0.1"], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        self.ca = (self.data / "ca.crt").read_text()

    def __enter__(self):
        self.start()
        operator = self.data / "operator/operator"
        self.run(operator, "tenant", "create", "acme", "--admin", "admin", "--out", self.folder)
        self.admin = self.folder / "admin"
        self.run(self.admin, "identity", "issue", "keys", "--role", "key-admin", "--out", self.folder)
        self.keys = self.folder / "keys"
        status = self.call(self.admin, "GET", "/v1/status")
        self.deployment, self.release_key = status["deployment"], status["release_key"]
        new = {"algorithm": "hmac-sha256", "usage": ["release"]}
        self.key = self.call(self.keys, "POST", "/v1/keys", new)["id"]
        return self

    def __exit__(self, *_):
        self.stop()
        self.bound.close()

    def start(self):
        words = ["serve", "--config", self.configuration, "--passphrase-file", self.passphrase]
        said = self.folder / "said"
        with said.open("w") as stderr:
            self.process = subprocess.Popen([self.program, *words], stdout=subprocess.PIPE, stderr=stderr, text=True)
        timer = threading.Timer(START_S_MAX, self.process.kill)
        timer.start()
        ready = self.process.stdout.readline()
        timer.cancel()
        assert ready == "ready\n", f"it did not start: {said.read_text()}"
        self.port = int(re.search(r"listening on https://\S+?:(\d+)", said.read_text())[1])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def run(self, who, *words):
        """A command of `who`, whose certificate and key are these files without their suffixes."""
        environment = {
            "KEYHEARTH_URL": f"https://127.0.0.1:{self.port}",
            "KEYHEARTH_CA_FILE": self.data / "ca.crt",
            "KEYHEARTH_CERT_FILE": f"{who}.crt",
            "KEYHEARTH_KEY_FILE": f"{who}.key",
        }
        environment = os.environ | {name: str(value) for name, value in environment.items()}
        done = subprocess.run([self.program, *words], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def call(self, who, method, path, body=None):
        """A request of `who`, which must be granted."""
        context = ssl.create_default_context(cadata=self.ca)
        context.load_cert_chain(f"{who}.crt", f"{who}.key")
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        assert answer.status == 200, f"{method} {path}: {answer.status} {said[:500]!r}"
        return json.loads(said)

    def enrol(self, policy="true", reference=None, volumes=("root",), clones=None, recovery=None):
        """A machine that may open its volumes when `policy` holds, a condition in Cedar; or a golden image of so many
        clones."""
        name = f"machine-{uuid.uuid4()}"
        new = {"name": name, "key": self.key, "volumes": volumes, "reference": listed(reference or {})}
        if clones:
            new |= {"clones": clones, "recovery": recovery}
        machine = self.call(self.keys, "POST", "/v1/machines", new)["id"]
        text = (
            f'permit (principal == Keyhearth::Principal::"{machine}", action == Keyhearth::Action::"release-volumes", '
            f'resource == Keyhearth::Key::"{self.key}") when {{ {policy} }};'
        )
        if clones:
            text = (
                'permit (principal, action in [Keyhearth::Action::"clone-image", Keyhearth::Action::"release-volumes"], '
                f'resource == Keyhearth::Key::"{self.key}") when {{ context.boot.image == "{machine}" && ({policy}) }};'
            )
        self.call(self.admin, "PUT", f"/v1/policies/{name}", {"text": text})
        return Enrolled(machine, self.secret(machine, "root"))

    def secret(self, machine, volume):
        """The next secret of a volume."""
        volume = {"machine": machine, "volume": volume}
        given = self.call(self.keys, "POST", f"/v1/keys/{self.key}/volume-secret", volume)
        return base64.b64decode(given["secret"])

    def prepared(self, enrolled, disk, volume="root"):
        """Tells the server which header the volume has, as the agent reads it."""
        look = self.folder / f"{enrolled.id}.toml"
        look.write_text(
            f'servers = ["https://{HOST}:{self.boot_port}"]\nca = "{self.data}/ca.crt"\n'
            f'release_key = "{self.release_key}"\nserver = "{self.deployment}"\nmachine = "{enrolled.id}"\n'
            f'tee = "none"\n[[volumes]]\nname = "{volume}"\ndevice = "{disk}"\nmapping = "{volume}"\n'
        )
        words = [self.agent, "--config", look, "check", "--json"]
        found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        volume = {"name": volume, "generation": 1, "header": found["volumes"][0]["header"]}
        self.call(self.keys, "PATCH", f"/v1/machines/{enrolled.id}", {"volumes": [volume]})

    def refer(self, enrolled, reference):
        """Says what the machine's evidence has to claim."""
        self.call(self.keys, "PATCH", f"/v1/machines/{enrolled.id}", {"reference": listed(reference)})

    def suspend(self):
        """Suspends the key of all machines."""
        self.call(self.keys, "POST", f"/v1/keys/{self.key}/suspend", {})

    def forbid(self, enrolled):
        """Forbids it everything from now on."""
        text = f'forbid (principal == Keyhearth::Principal::"{enrolled.id}", action, resource);'
        self.call(self.admin, "PUT", f"/v1/policies/end-{enrolled.id}", {"text": text})

    def machine(self, enrolled):
        return self.call(self.keys, "GET", f"/v1/machines/{enrolled.id}")

    def decide(self, approval, approve=True):
        return self.call(self.keys, "POST", f"/v1/approvals/{approval}", {"approve": approve})


def listed(reference):
    return [{"claim": claim, "values": [value]} for claim, value in reference.items()]


def authority():
    """A CA that nobody has the key of, as PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody's CA")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
