#!/usr/bin/env python3
"""Measures how long a machine waits for its disk key: one machine, many at once, and how fast evidence is appraised.

    bench/boot.py [--machines 100] [--samples 20] [--program target/release/keyhearth] [--agent keyhearth-boot] [--json]

Agents run here, without a virtual machine, against a throw-away development server on loopback, each for an image file
of its own. A machine is asked for once: the lease of a release keeps it from being given another. Bare is what the
same work costs without any server, in the same run: `cryptsetup` with a key file. Beside the agent stands Debian's
clevis, with a pin of the same server's Tang front. The column `cpu` is processor time, which other work on the
machine changes less than the others. Needs cryptsetup, strace, and for its rows clevis.
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

PASSPHRASE = b"a passphrase to set it up"
# As the agent's own keyslots are made: keys are random, so that deriving from them slowly protects nothing.
FAST = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]


class Server:
    """A development server, with machines enrolled as a stranger would."""

    def __init__(self, program, agent, folder):
        self.program, self.agent, self.folder = program, agent, folder
        words = [program, "serve", "--dev", "--data", os.path.join(folder, "dev")]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if not any(line == "ready\n" for line in self.process.stdout):
            raise SystemExit("the server ended before it was ready")
        exported = re.findall(r"export (\w+)='([^']*)'", open(os.path.join(folder, "dev/dev.env")).read())
        self.environment = os.environ | dict(exported)
        self.passphrase = self.path("passphrase")
        with open(self.passphrase, "wb") as file:
            file.write(PASSPHRASE)
        self.blank = self.path("blank.img")
        with open(self.blank, "wb") as file:
            file.truncate(20 << 20)
        self.run("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", *FAST, self.blank, self.passphrase)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, *words, stdin=None):
        done = subprocess.run(words, input=stdin, capture_output=True, env=self.environment)
        if done.returncode:
            raise SystemExit(f"{words[0]} {words[1]} failed: {done.stderr.decode()}")
        return done.stdout

    def disk(self, name):
        return shutil.copy(self.blank, self.path(f"{name}.img"))

    def enrol(self, name):
        """A machine with a disk; returns the words that ask for its key."""
        disk, config = self.disk(name), self.path(f"{name}.toml")
        words = ["--volume", f"root={disk}", "--passphrase-file", self.passphrase, "--template", "any-vm"]
        words += ["--server", self.environment["KEYHEARTH_BOOT_URL"], "--config", config]
        self.run(self.program, "--quiet", "boot", "enroll", name, *words)
        text = open(config).read()
        for key, value in [("ca", self.environment["KEYHEARTH_CA_FILE"]), ("device", disk)]:
            text = re.sub(f"^{key} = .*", f'{key} = "{value}"', text, flags=re.MULTILINE)
        with open(config, "w") as file:
            file.write(text)
        return [self.agent, "try", "--stay", "--config", config]

    def bind(self, name):
        """What clevis is told of a pair of keys, and a disk bound to it."""
        shown = json.loads(self.run(self.program, "--json", "tang", "create", name))
        pin = json.dumps({"url": self.environment["KEYHEARTH_TANG_URL"] + shown["path"], "thp": shown["thumbprint"]})
        disk = self.disk(name)
        self.run("clevis", "luks", "bind", "-d", disk, "-k", self.passphrase, "tang", pin)
        return pin, disk

    def cpu_ms(self):
        """Processor time that the server has taken."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def cpu_ms():
    """Processor time of all programs that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def sampled(count, measure):
    """Milliseconds of `count` measurements, and processor time of each."""
    before = cpu_ms()
    took = [measure(number) for number in range(count)]
    return took, (cpu_ms() - before) / count


def timed_ms(words, stdin=None):
    """Milliseconds that a program takes, which must succeed."""
    began = time.monotonic()
    done = subprocess.run(words, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    took = (time.monotonic() - began) * 1000
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stdout.decode()}")
    return took


def until_key_ms(words, trace):
    """Milliseconds from the start of the agent until it starts cryptsetup, with the key in hand."""
    # Nothing but starts of programs stops for the trace, so it costs two of them.
    timed_ms(["strace", "-f", "--seccomp-bpf", "-ttt", "-e", "trace=execve", "-e", "signal=none", "-o", trace, *words])
    lines = [line.split() for line in open(trace) if "execve(" in line and line.rstrip().endswith("= 0")]
    if not (words[0] in lines[0][2] and "cryptsetup" in lines[1][2]):
        raise SystemExit(f"the agent did not start cryptsetup: {lines}")
    return (float(lines[1][1]) - float(lines[0][1])) * 1000


def at_once(commands):
    """Starts all commands at one moment; returns the milliseconds of those that succeed, and what the others said."""
    # Each waits in its own process for a line, so that starting them is not measured.
    words = ["sh", "-c", 'read -r _ && exec "$0" "$@" </dev/null 2>&1']
    pipe = subprocess.PIPE
    waiting = [subprocess.Popen([*words, *command], stdin=pipe, stdout=pipe) for command in commands]
    took, failed = [], []

    def wait(process):
        said = process.stdout.read()
        ended = (time.monotonic() - began) * 1000
        if process.wait():
            failed.append(said.decode())
        else:
            took.append(ended)

    threads = [threading.Thread(target=wait, args=[process]) for process in waiting]
    time.sleep(1)
    began = time.monotonic()
    for process in waiting:
        process.stdin.write(b"\n")
        process.stdin.flush()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took, failed


def row(name, measured, failed=0, bare=None):
    """A line of the result, of times and processor time, which may be None; `bare` is what it is compared with."""
    took, cpu = measured
    ordered = sorted(took)
    p50, p95 = statistics.median(ordered), ordered[(len(ordered) * 95 + 99) // 100 - 1]
    figures = {"p50_ms": p50, "p95_ms": p95, "max_ms": ordered[-1], "cpu_ms": cpu}
    line = {"what": name, "count": len(took), "failed": failed}
    line |= {key: value if value is None else round(value, 2) for key, value in figures.items()}
    return line | {"times_bare": round(p50 / bare["p50_ms"], 2) if bare else None}


def one_machine(server, samples):
    """A machine that starts when nothing else does."""
    alone = ["cryptsetup", "open", "--test-passphrase", "--batch-mode", "--key-file", server.passphrase, server.blank]
    whole = [server.enrol(f"whole-{number}") for number in range(samples)]
    until = [server.enrol(f"until-{number}") for number in range(samples)]
    trace = server.path("trace")
    bare = row("bare: cryptsetup with a key file", sampled(samples, lambda _: timed_ms(alone)))
    key = sampled(samples, lambda number: until_key_ms(until[number], trace))
    # The tracer takes more than the agent, and is no part of it.
    rows = [bare, row("agent: until cryptsetup has the key", (key[0], None), bare=bare)]
    done = sampled(samples, lambda number: timed_ms(whole[number]))
    rows.append(row("agent: `try`, cryptsetup and all", done, bare=bare))
    if shutil.which("clevis"):
        pin, disk = server.bind("tang")
        jwe = server.run("clevis", "encrypt", "tang", pin, stdin=PASSPHRASE)
        for name, words, stdin in [
            ("clevis: decrypt, until it has the key", ["clevis", "decrypt"], jwe),
            ("clevis: luks unlock, cryptsetup and all", ["clevis", "luks", "unlock", "-t", "1", "-d", disk], None),
        ]:
            done = sampled(samples, lambda _, words=words, stdin=stdin: timed_ms(words, stdin))
            rows.append(row(name, done, bare=bare))
    return rows


def all_at_once(server, machines):
    """Many machines that start at the same moment, as after the power was out."""
    alone = ["cryptsetup", "open", "--test-passphrase", "--batch-mode", "--key-file", server.passphrase]
    disks = [server.disk(f"bare-{number}") for number in range(machines)]
    asking = [server.enrol(f"all-{number}") for number in range(machines)]
    begun = cpu_ms()
    took, failed = at_once([[*alone, disk] for disk in disks])
    bare = row(f"bare: {machines} times cryptsetup at once", (took, (cpu_ms() - begun) / machines), len(failed))
    begun, busy = cpu_ms(), server.cpu_ms()
    took, failed = at_once(asking)
    if not took:
        raise SystemExit(failed[0])
    cpu, served = (cpu_ms() - begun) / machines, (server.cpu_ms() - busy) / machines
    agents = row(f"agents of {machines} machines at once", (took, cpu), len(failed), bare)
    return [bare, agents], round(served, 2), failed


def table(rows, served, appraisals):
    print(f"{'milliseconds':<40} {'count':>5} {'failed':>6} {'p50':>7} {'p95':>7} {'max':>7} {'cpu':>6} {'times':>6}")
    for line in rows:
        figures = " ".join(f"{line[name]:>7.1f}" for name in ("p50_ms", "p95_ms", "max_ms"))
        cpu = f"{line['cpu_ms']:>6.1f}" if line["cpu_ms"] else " " * 6
        times = line["times_bare"] or ""
        print(f"{line['what']:<40} {line['count']:>5} {line['failed']:>6} {figures} {cpu} {times:>6}".rstrip())
    print(f"the server's processor time for each of the machines at once: {served} ms")
    print(f"\n{'appraisals on one core':<40} {'per s':>8} {'p50 us':>8} {'p99 us':>8}")
    for line in appraisals:
        figures = line["appraisals"]
        print(f"{line['evidence']:<40} {figures['ops_s']:>8.0f} {figures['p50_us']:>8.0f} {figures['p99_us']:>8.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="target/release/keyhearth")
    parser.add_argument("--agent", default=f"target/{os.uname().machine}-unknown-linux-gnu/boot/keyhearth-boot")
    parser.add_argument("--machines", type=int, default=100, help="how many start at once")
    parser.add_argument("--samples", type=int, default=20, help="how often one starts alone")
    parser.add_argument("--within", default=tempfile.gettempdir())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    program, agent = os.path.abspath(options.program), os.path.abspath(options.agent)
    with tempfile.TemporaryDirectory(dir=options.within) as folder:
        server = Server(program, agent, folder)
        try:
            rows = one_machine(server, options.samples)
            herd, served, failed = all_at_once(server, options.machines)
        finally:
            server.stop()
    said = subprocess.run([program, "bench", "--protocol", "boot", "--json"], stdout=subprocess.PIPE, check=True).stdout
    appraisals = json.loads(said)["rows"]
    if options.json:
        print(json.dumps({"machines": rows + herd, "server_cpu_ms": served, "appraisals": appraisals}))
    else:
        table(rows + herd, served, appraisals)
    if failed:
        raise SystemExit(f"{len(failed)} machines got no key; the first said:\n{failed[0]}")


if __name__ == "__main__":
    main()
