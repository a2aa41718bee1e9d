#!/usr/bin/env python3
"""Measures the AWS KMS API beside the server of moto, at the same work and in the same run.

    bench/aws_vs_moto.py [--program target/release/keyhearth] [what `keyhearth bench` takes…]

Installs moto beside the build, starts its server on a loopback port, and ends it afterwards. Moto does not check
signatures, encrypts in memory, keeps no log, and closes the connection after each answer; none of that is changed.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
import venv

PINNED = ["moto[server]==5.2.5", "flask==3.1.3", "werkzeug==3.1.9"]


def environment(folder):
    """Path of the programs of a Python environment with moto in it."""
    if not os.path.exists(os.path.join(folder, "bin", "moto_server")):
        venv.create(folder, with_pip=True, clear=True)
        pip = [os.path.join(folder, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(pip + PINNED, check=True)
    return os.path.join(folder, "bin")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(programs):
    """Starts moto and waits until it accepts connections; returns the process and its URL."""
    port = free_port()
    moto = subprocess.Popen(
        [os.path.join(programs, "moto_server"), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while moto.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return moto, f"http://127.0.0.1:{port}"
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("moto's server ended before it was ready")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="target/release/keyhearth")
    parser.add_argument("--environment", default="target/moto", help="where moto is installed")
    options, others = parser.parse_known_args()
    moto, url = start(environment(os.path.abspath(options.environment)))
    try:
        bench = [os.path.abspath(options.program), "bench", "--protocol", "aws", "--peer", url]
        ended = subprocess.run(bench + others)
    finally:
        moto.terminate()
        moto.wait()
    sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
