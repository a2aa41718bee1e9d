"""A development server for each test that asks for one, and the program itself.

KEYHEARTH_BIN names the program; otherwise it is the newest one that cargo built.
"""

import http.client
import json
import os
import pathlib
import shlex
import signal
import ssl
import subprocess
import threading

import pytest

from aws_kms import Access
from aws_records import ANSWERS, DIFFERENT

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
START_S_MAX = 60


def pytest_terminal_summary(terminalreporter):
    passed = [dict(report.user_properties) for report in terminalreporter.stats.get("passed", [])]
    compared = [properties for properties in passed if ANSWERS in properties]
    if not compared:
        terminalreporter.write_line("no recorded AWS answers compared: KEYHEARTH_VECTORS names none")
    else:
        terminalreporter.write_line(
            f"{sum(properties[ANSWERS] for properties in compared)} recorded AWS answers of {len(compared)} records "
            f"compared, {sum(properties[DIFFERENT] for properties in compared)} of them differ as documented"
        )


@pytest.fixture(scope="session")
def program():
    """Path of the program under test."""
    if named := os.environ.get("KEYHEARTH_BIN"):
        return pathlib.Path(named).resolve()
    built = [REPOSITORY / "target" / profile / "keyhearth" for profile in ("release", "debug")]
    built = [path for path in built if path.exists()]
    assert built, "build it first: cargo build --release"
    return max(built, key=lambda path: path.stat().st_mtime)


@pytest.fixture
def server(program, tmp_path):
    """A development server in an empty folder."""
    with Server(program, tmp_path / "data") as server:
        yield server


@pytest.fixture(scope="session")
def aws(program, tmp_path_factory):
    """A development server for the tests of the AWS KMS API; each makes keys of its own."""
    with Server(program, tmp_path_factory.mktemp("aws") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def access(aws):
    """What the AWS clients of the developer are told."""
    return Access(aws.environment)


@pytest.fixture(scope="session")
def kms(access):
    """A boto3 client of the developer."""
    return access.client()


class Answer:
    """Status, headers and body of an answer; members of a JSON object by `answer["name"]`."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __getitem__(self, name):
        return json.loads(self.body)[name]

    def ok(self):
        assert self.status == 200, f"{self.status}: {self.body[:500]!r}"
        return self


class Identity:
    """A client certificate and its key, as files, and the CA to believe."""

    def __init__(self, url, ca, certificate, key):
        self.url, self.ca, self.certificate, self.key = url, str(ca), str(certificate), str(key)

    def environment(self):
        return {
            "KEYHEARTH_URL": self.url,
            "KEYHEARTH_CA_FILE": self.ca,
            "KEYHEARTH_CERT_FILE": self.certificate,
            "KEYHEARTH_KEY_FILE": self.key,
        }

    def connect(self, timeout_s=30, source="127.0.0.1"):
        """A connection of its own, for one request after the other."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        host, port = self.url.removeprefix("https://").split(":")
        connection = http.client.HTTPSConnection(
            host, int(port), timeout=timeout_s, context=context, source_address=(source, 0)
        )
        return Connection(connection)

    def call(self, method, path, body=None, headers=None):
        """One request on a new connection."""
        with self.connect() as connection:
            return connection.call(method, path, body, headers)


class Connection:
    def __init__(self, http):
        self.http = http

    def call(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        self.http.request(method, path, body, headers)
        answer = self.http.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()


class Server:
    """`keyhearth serve --dev` on a folder, which it makes or goes on with."""

    def __init__(self, program, data):
        self.program, self.data, self.process = program, data, None

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "serve", "--dev", "--data", self.data], stderr=subprocess.PIPE, text=True
        )
        timer = threading.Timer(START_S_MAX, self.process.kill)
        timer.start()
        said = []
        for line in self.process.stderr:
            said.append(line)
            if "dev.env" in line:
                break
        timer.cancel()
        assert said and "dev.env" in said[-1], f"it did not start: {said}"
        # What it says later is not read; a full pipe must not stop it.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        lines = shlex.split((self.data / "dev.env").read_text(), comments=True)
        self.environment = dict(word.split("=", 1) for word in lines if "=" in word)
        self.url = self.environment["KEYHEARTH_URL"]
        self.health_port = int((self.data / "dev.ports").read_text().split()[1])
        self.developer = self.identity(self.data / "dev.crt", self.data / "dev.key")
        self.operator = self.identity(self.data / "operator/operator.crt", self.data / "operator/operator.key")
        return self

    def identity(self, certificate, key):
        return Identity(self.url, self.data / "ca.crt", certificate, key)

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()

    def health(self, path="/readyz"):
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def command(self, identity, *words, stdin=None):
        """Runs the command line as `identity`; returns the finished process."""
        environment = {**os.environ, **identity.environment()}
        return subprocess.run(
            [self.program, *map(str, words)], input=stdin, env=environment, capture_output=True, timeout=120
        )

    def done(self, identity, *words, stdin=None):
        """Runs the command line, which must succeed; returns its standard output."""
        process = self.command(identity, *words, stdin=stdin)
        assert process.returncode == 0, process.stderr.decode()
        return process.stdout

    def refused(self, identity, *words, stdin=None):
        """Runs the command line, which the server must refuse; returns the problem's code."""
        process = self.command(identity, "--json", *words, stdin=stdin)
        assert process.returncode == 1, process.stdout
        return json.loads(process.stderr)["code"]

    def issue(self, admin, name, folder, *roles):
        """Issues an identity on the command line."""
        words = ["identity", "issue", name, "--out", folder]
        self.done(admin, *words, *(word for role in roles for word in ("--role", role)))
        return self.identity(folder / f"{name}.crt", folder / f"{name}.key")

    def id_of(self, identity):
        return json.loads(self.done(identity, "--json", "whoami"))["identity"]

    def tenant(self, name, folder):
        """Makes a tenant on the command line; returns its administrator."""
        self.done(self.operator, "tenant", "create", name, "--admin", f"{name}-admin", "--out", folder)
        return self.identity(folder / f"{name}-admin.crt", folder / f"{name}-admin.key")
