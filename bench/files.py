#!/usr/bin/env python3
"""Measures sealing and opening files beside other people's programs, at the same work and in the same run.

    bench/files.py [--mib 1024] [--files 10000] [--rounds 3] [--folder /dev/shm] [--program target/release/keyhearth] [--json]

One large file on one thread: Keyhearth in both formats, Debian's age, rage; and through mounts, of gocryptfs too, each mounted
anew, so that nothing is in a cache. Many small ones: Keyhearth,
with a key, a decision and a log entry for each, over mutual TLS with the durable log; rclone crypt and gocryptfs, each
with one key for all. Bare is `cp`. A throw-away server on loopback lets one identity ask as often as it wants. Figures
are medians; user time is what counts for one large file, since other work on the machine changes it less. What is held
in memory is never less than what this program holds itself.

Debian has age, gocryptfs and rclone; rage is built here, beside this build, if it is not installed. A program that is
missing has no rows.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

RAGE = "0.12.1"
SMALL_BYTES = 10 << 10
PASSPHRASE = "a passphrase of the measurement"
CONFIGURATION = """
data = "{folder}/data"
listen = "127.0.0.1:0"
health = "127.0.0.1:0"
anchor = "{folder}/anchor"
[limits]
principal_per_second = 1000000
tenant_per_second = 1000000
[aws]
listen = "127.0.0.1:0"
"""


class Server:
    """A server on a disk, and somebody who has a key."""

    def __init__(self, program, folder):
        self.program, folder = program, pathlib.Path(folder)
        passphrase, configuration = folder / "passphrase", folder / "keyhearth.toml"
        passphrase.write_text(PASSPHRASE)
        passphrase.chmod(0o600)
        configuration.write_text(CONFIGURATION.format(folder=folder))
        words = ["init", "--data", folder / "data", "--passphrase-file", passphrase, "--anchor", folder / "anchor"]
        done([program, *words])
        words = [program, "serve", "--config", configuration, "--passphrase-file", passphrase]
        said = folder / "said"
        with said.open("w") as stderr:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stderr, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"the server ended before it was ready: {said.read_text()}")
        url = re.search(r"listening on (https://\S+?)[;\s]", said.read_text())[1]
        self.environment = {"KEYHEARTH_URL": url, "KEYHEARTH_CA_FILE": str(folder / "data/ca.crt")}
        self.become(folder / "data/operator/operator")
        done([program, "tenant", "create", "bench", "--admin", "admin", "--out", folder], self.environment)
        self.become(folder / "admin")
        for role in ("key-admin", "key-user"):
            done([program, "identity", "issue", role, "--role", role, "--out", folder], self.environment)
        self.become(folder / "key-admin")
        done([program, "key", "create", "aes-256", "--alias", "files"], self.environment)
        self.become(folder / "key-user")

    def become(self, who):
        self.environment |= {"KEYHEARTH_CERT_FILE": f"{who}.crt", "KEYHEARTH_KEY_FILE": f"{who}.key"}

    def stop(self):
        self.process.terminate()
        self.process.wait()


def done(words, environment=None):
    """Runs a program to its end; returns what it printed."""
    ended = subprocess.run(words, env={**os.environ, **(environment or {})}, capture_output=True)
    if ended.returncode:
        raise SystemExit(f"{words[0]} {words[1]} failed: {ended.stderr.decode()}")
    return ended.stdout


def run(words, environment, output=None):
    """Seconds and user seconds that a program took, and the bytes that it held at most."""
    began = time.monotonic()
    stdout = open(output, "wb") if output else subprocess.DEVNULL
    process = subprocess.Popen(words, env={**os.environ, **environment}, stdout=stdout, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words[0]} {words[1]} failed: {error.decode()}")
    return {"seconds": time.monotonic() - began, "user": usage.ru_utime, "memory": usage.ru_maxrss * 1024}


def rage():
    """The path of rage, which is built if it is not installed."""
    if installed := shutil.which("rage"):
        return installed
    root = os.path.abspath("target/rage")
    if not os.path.exists(f"{root}/bin/rage"):
        done(["cargo", "install", "--quiet", "--locked", "--root", root, "--version", RAGE, "rage"])
    return f"{root}/bin/rage"


class Rows:
    """What was measured, as medians of rounds."""

    def __init__(self, rounds):
        self.rounds, self.rows = rounds, []

    def measure(self, what, who, act, before=lambda: None):
        figures = []
        for _ in range(self.rounds):
            before()
            figures.append(act())
        medians = {name: statistics.median(one[name] for one in figures) for name in figures[0]}
        self.rows.append({"what": what, "who": who, **medians})


def pairs(rows, folder, server, big):
    """One large file: sealed and opened by each program on one thread."""
    sealed, opened = folder / "sealed", folder / "opened"
    environment = server.environment | {"GOMAXPROCS": "1"}

    def clean():
        opened.unlink(missing_ok=True)

    def program(who, seal, open, output=True):
        def before_seal():
            sealed.unlink(missing_ok=True)

        place = (lambda path: path) if output else (lambda path: None)
        rows.measure("seal", who, lambda: run(seal, environment, place(sealed)), before_seal)
        rows.measure("open", who, lambda: run(open, environment, place(opened)), clean)
        if opened.exists():
            done(["cmp", big, opened])
        clean()

    rows.measure("copy", "cp", lambda: run(["cp", big, opened], environment), clean)
    clean()
    one = [server.program, "--quiet", "file"]
    for name, form in [("Keyhearth age", "age"), ("Keyhearth AES", "esdk")]:
        seal = [*one, "seal", big, "--key", "files", "--format", form, "--threads", "1", "--output", sealed]
        program(name, seal, [*one, "open", sealed, "--threads", "1", "--output", opened], output=False)
    identity = folder / "identity"
    if shutil.which("age"):
        done(["age-keygen", "-o", identity])
        to = re.search("public key: (age1\\S+)", identity.read_text())[1]
        program("age", ["age", "-r", to, big], ["age", "-d", "-i", identity, sealed])
        program("rage", [rage(), "-r", to, big], [rage(), "-d", "-i", identity, sealed])
    sealed.unlink()


@contextlib.contextmanager
def mounted(words, environment, mount):
    """A folder that a program shows in another one, until it is unmounted."""
    mount.mkdir(exist_ok=True)
    process = subprocess.Popen(words, env={**os.environ, **environment}, stderr=subprocess.PIPE)
    try:
        while not os.path.ismount(mount):
            if process.poll() is not None:
                raise SystemExit(f"{words[0]} mounted nothing: {process.stderr.read().decode()}")
            time.sleep(0.01)
        yield
    finally:
        subprocess.run(["fusermount", "-u", mount], check=True)
        if process.wait():
            raise SystemExit(f"{words[0]} failed: {process.stderr.read().decode()}")


def mounts(rows, folder, server, big):
    """The same file through mounts, in pieces of 1 MiB."""
    mount = folder / "mount"

    def copied(source, target):
        return run(["dd", f"if={source}", f"of={target}", "bs=1M", "conv=fsync", "status=none"], {})

    def each(who, words, environment, make=lambda: None):
        def write():
            with mounted(words, environment, mount):
                return copied(big, mount / "big")

        def read():
            with mounted(words, environment, mount):
                # What is read goes nowhere; that it is the same was seen before.
                return run(["dd", f"if={mount / 'big'}", "of=/dev/null", "bs=1M", "status=none"], {})

        def empty():
            shutil.rmtree(folder / "mounted", ignore_errors=True)
            (folder / "mounted").mkdir()
            make()

        rows.measure("write", who, write, empty)
        with mounted(words, environment, mount):
            done(["cmp", big, mount / "big"])
        rows.measure("read", who, read)
        empty()

    (folder / "mounted").mkdir()
    one = [server.program, "--quiet", "file", "mount", "--key", "files", folder / "mounted", mount]
    each("Keyhearth age", one, server.environment)
    if shutil.which("gocryptfs"):
        password = ["-q", "-extpass", f"echo {PASSPHRASE}"]
        words = ["gocryptfs", "-fg", *password, folder / "mounted", mount]
        each("gocryptfs", words, {}, lambda: done(["gocryptfs", "-init", *password, folder / "mounted"]))


def remote(folder):
    """Rclone's words for a crypt remote in a folder."""
    password = done(["rclone", "obscure", PASSPHRASE]).decode().strip()
    return f":crypt,remote='{folder}',password={password}:"


def many(rows, folder, server, plain, count):
    """Many small files, each program as it comes."""
    sealed, opened = folder / "sealed-many", folder / "opened-many"

    def clean(*folders):
        def act():
            for one in folders:
                shutil.rmtree(one, ignore_errors=True)

        return act

    def each(who, seal, open):
        rows.measure("seal many", who, lambda: run(seal, server.environment), clean(sealed))
        rows.measure("open many", who, lambda: run(open, server.environment), clean(opened))
        if subprocess.run(["diff", "-rq", plain, opened], stdout=subprocess.DEVNULL).returncode:
            raise SystemExit(f"{who} opened something else")
        clean(sealed, opened)()

    rows.measure("copy many", "cp", lambda: run(["cp", "-r", plain, opened], {}), clean(opened))
    clean(opened)()
    one = [server.program, "--quiet", "file"]
    for name, form in [("Keyhearth age", "age"), ("Keyhearth AES", "esdk")]:
        seal = [*one, "seal", plain, "--key", "files", "--format", form, "--output", sealed]
        each(name, seal, [*one, "open", sealed, "--output", opened])
    if shutil.which("rclone"):
        words = ["rclone", "copy", "--transfers", "16", "--checkers", "16"]
        each("rclone crypt", [*words, plain, remote(sealed)], [*words, remote(sealed), opened])
    if shutil.which("gocryptfs"):
        mount = folder / "mount"
        mount.mkdir(exist_ok=True)
        password = ["-q", "-extpass", f"echo {PASSPHRASE}"]

        def mounted(words):
            done(["gocryptfs", *password, sealed, mount])
            try:
                return run(words, {})
            finally:
                done(["fusermount", "-u", mount])

        def empty():
            clean(sealed)()
            sealed.mkdir()
            done(["gocryptfs", "-init", *password, sealed])

        rows.measure("seal many", "gocryptfs", lambda: mounted(["cp", "-r", plain, f"{mount}/files"]), empty)
        rows.measure("open many", "gocryptfs", lambda: mounted(["cp", "-r", f"{mount}/files", opened]), clean(opened))
        clean(sealed, opened)()


def table(rows, mib, count):
    print(f"{'':10} {'':14} {'seconds':>8} {'user s':>7} {'rate':>12} {'of bare':>8} {'MiB held':>9}")
    for row in rows:
        is_many = row["what"].endswith("many")
        bare = next(one["seconds"] for one in rows if one["what"] == ("copy many" if is_many else "copy"))
        rate = f"{count / row['seconds']:,.0f} files/s" if is_many else f"{mib / 1024 / row['seconds']:.2f} GiB/s"
        ratio, held = bare / row["seconds"], row["memory"] / (1 << 20)
        figures = f"{row['seconds']:8.2f} {row['user']:7.2f} {rate:>14} {ratio:8.2f} {held:9.0f}"
        print(f"{row['what']:10} {row['who']:14} {figures}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="target/release/keyhearth")
    parser.add_argument("--folder", default="/dev/shm", help="where files are; the server is in the current folder")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    rows = Rows(options.rounds)
    disk = tempfile.TemporaryDirectory(prefix="keyhearth-bench-", dir="target")
    work = tempfile.TemporaryDirectory(prefix="keyhearth-bench-", dir=options.folder)
    with disk as disk, work as folder:
        folder = pathlib.Path(folder)
        server = Server(os.path.abspath(options.program), os.path.abspath(disk))
        try:
            big = folder / "big"
            with big.open("wb") as file:
                for _ in range(options.mib):
                    file.write(os.urandom(1 << 20))
            pairs(rows, folder, server, big)
            mounts(rows, folder, server, big)
            big.unlink()
            plain = folder / "plain"
            for number in range(options.files):
                path = plain / str(number // 100) / str(number)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(os.urandom(SMALL_BYTES))
            many(rows, folder, server, plain, options.files)
        finally:
            server.stop()
    if options.json:
        print(json.dumps({"mib": options.mib, "files": options.files, "rows": rows.rows}))
    else:
        table(rows.rows, options.mib, options.files)


if __name__ == "__main__":
    main()
