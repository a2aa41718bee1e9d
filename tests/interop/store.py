"""A store that speaks S3, and a second machine: a network of its own, in which only that store and the server can be reached."""

import base64
import contextlib
import os
import pathlib
import re
import secrets
import subprocess
import time
import urllib.error
import urllib.request

# Of a program that has the servers of its kind, newer than Debian's; the client is Debian's.
SERVER = pathlib.Path(__file__).resolve().parents[2] / ".venv/programs/bin/rclone"
BUCKET = "shared"


class Store:
    """`rclone serve s3` with one bucket. `folder` is what lies in it."""

    def __init__(self, root, address):
        self.folder, self.root = root / BUCKET, root
        self.folder.mkdir(parents=True)
        self.key_id, self.secret = secrets.token_hex(8), secrets.token_hex(16)
        self.address = address

    def __enter__(self):
        log = self.root.with_suffix(".log")
        words = ["serve", "s3", self.root, "--auth-key", f"{self.key_id},{self.secret}", "--addr", f"{self.address}:0"]
        with log.open("w") as said:
            self.process = subprocess.Popen([SERVER, *words], stdout=said, stderr=said)
        self.url = self._url(log)
        return self

    def _url(self, log):
        deadline = time.monotonic() + 60
        while "[http" not in log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        url = log.read_text().split("[http", 1)[1].split("]", 1)[0]
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"http{url}", timeout=60)
        return f"http{url}"

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)

    def environment(self):
        """What a client of rclone is told: a remote of the name `cloud`."""
        settings = {
            "type": "s3",
            "provider": "Other",
            "endpoint": self.url,
            "access_key_id": self.key_id,
            "secret_access_key": self.secret,
        }
        return {f"RCLONE_CONFIG_CLOUD_{name.upper()}": value for name, value in settings.items()}

    def sync(self, machine, source, target):
        """`rclone sync` on a machine, between a folder and the bucket `None`."""
        words = ["rclone", "sync", *(f"cloud:{BUCKET}" if one is None else one for one in (source, target))]
        machine.run(*words, environment=self.environment())


class Machine:
    """Where programs run. This one is the test's own."""

    prefix = ()

    def start(self, *words, environment=None, **options):
        kept = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        return subprocess.Popen([*self.prefix, *map(str, words)], env=kept | (environment or {}), **options)

    def ended(self, *words, environment=None, stdin=None):
        """Runs a program to its end; returns its status, output and errors."""
        pipe = subprocess.PIPE
        process = self.start(*words, environment=environment, stdin=pipe, stdout=pipe, stderr=pipe)
        output, error = process.communicate(stdin, timeout=120)
        return process.returncode, output, error.decode()

    def run(self, *words, environment=None, stdin=None):
        """Runs a program that must succeed; returns its output."""
        status, output, error = self.ended(*words, environment=environment, stdin=stdin)
        assert status == 0, f"{words[0]} ended with {status}: {error}"
        return output


class Apart(Machine):
    """A machine with a network of its own, of two addresses: `host` is this machine's. It needs root's rights."""

    def __init__(self, number=None):
        number = os.getpid() % 64 if number is None else number
        self.name, self.link = f"keyhearth-{os.getpid()}", f"kh{os.getpid() % 100_000}"
        self.host, self.address = (f"192.0.2.{4 * number + at}" for at in (1, 2))
        self.prefix = ("ip", "netns", "exec", self.name)

    def __enter__(self):
        ip(f"netns add {self.name}")
        ip(f"link add {self.link} type veth peer name eth0 netns {self.name}")
        ip(f"address add {self.host}/30 dev {self.link}")
        ip(f"link set {self.link} up")
        ip(f"-n {self.name} address add {self.address}/30 dev eth0")
        ip(f"-n {self.name} link set eth0 up")
        ip(f"-n {self.name} link set lo up")
        return self

    def __exit__(self, *_):
        ip(f"netns delete {self.name}")


def ip(words):
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def file_key(who, path):
    """The key of a sealed file, as whoever may have it asks for it without our command line."""
    stanza = rb"^-> keyhearth/wrap1 (\S+) (\S+) \S+\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]*\n)"
    key, file, body = re.search(stanza, path.read_bytes(), re.MULTILINE).groups()
    wrapped = base64.b64decode(body.replace(b"\n", b"") + b"==")
    asked = {"ciphertext": base64.b64encode(wrapped).decode(), "context": {"file": file.decode()}}
    return base64.b64decode(who.call("POST", f"/v1/keys/{key.decode()}/decrypt", asked).ok()["plaintext"])
