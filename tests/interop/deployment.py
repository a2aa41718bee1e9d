"""A deployment as operators make it: sealed with a passphrase, configured by a file."""

import re
import subprocess
import threading

from conftest import START_S_MAX, Server

PASSPHRASE = b"a passphrase of the tests, long enough"
CONFIGURATION = """
data = "{data}"
listen = "{address}:0"
health = "127.0.0.1:0"
anchor = "{anchor}"
[limits]
principal_per_second = {rate}
[aws]
listen = "{address}:0"
"""


class Deployment(Server):
    """`init` and `serve --config`, with the anchor outside the data directory. `rate` is requests per second of one identity."""

    def __init__(self, program, folder, rate=5_000, address="127.0.0.1"):
        super().__init__(program, folder / "data")
        self.secret, self.configuration = folder / "passphrase", folder / "keyhearth.toml"
        self.secret.write_bytes(PASSPHRASE)
        self.secret.chmod(0o600)
        values = {"data": self.data, "anchor": folder / "anchor", "rate": rate, "address": address}
        self.configuration.write_text(CONFIGURATION.format(**values))
        words = ["init", "--data", self.data, "--passphrase-file", self.secret, "--anchor", folder / "anchor"]
        names = [word for name in ("localhost", address) for word in ("--name", name)]
        subprocess.run([program, *words, *names], check=True, capture_output=True)

    def start(self):
        words = ["serve", "--config", self.configuration, "--passphrase-file", self.secret]
        self.process = subprocess.Popen([self.program, *words], stderr=subprocess.PIPE, text=True)
        timer = threading.Timer(START_S_MAX, self.process.kill)
        timer.start()
        said = ""
        for line in self.process.stderr:
            said += line
            if line.rstrip().endswith("for AWS clients"):
                break
        timer.cancel()
        urls = re.findall(r"listening on (https://\S+?)[;\s]", said)
        assert len(urls) == 2, f"it did not start: {said}"
        self.url, self.aws_url = urls
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.operator = self.identity(self.data / "operator/operator.crt", self.data / "operator/operator.key")
        return self
