#!/usr/bin/env python3
"""Makes many keys on a throw-away development server, starts it again, and says how long that took.

    bench/million_keys.py [--keys 1000000] [--program target/release/keyhearth] [--within /tmp]

Prints JSON: keys made, keys per second, seconds from start to `ready`, and memory per key that is not in use.
Everything lies in a folder that is removed at the end. Needs about 750 bytes of disk for each key.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
import time


def start(program, data):
    """Starts the server and waits for `ready`; returns the process and the seconds it took."""
    began = time.monotonic()
    server = subprocess.Popen([program, "serve", "--dev", "--data", data], stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if line.strip() == "ready":
            return server, time.monotonic() - began
    raise SystemExit("the server ended before it was ready")


def stop(server):
    server.terminate()
    server.wait()


def resident_bytes(server):
    status = open(f"/proc/{server.pid}/status").read()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


def load_job(data, milliseconds):
    """What the load process reads: 64 connections that each make one key after another."""
    environment = dict(re.findall(r"export (\w+)='([^']*)'", open(f"{data}/dev.env").read()))
    port = environment["KEYHEARTH_URL"].rsplit(":", 1)[1]
    request = {"method": "POST", "path": "/v1/keys", "content_type": "application/json", "body": '{"algorithm":"aes-256"}'}
    file = {name: open(f"{data}/{name}").read() for name in ("ca.crt", "dev.crt", "dev.key")}
    client = {"chain": file["dev.crt"], "key": file["dev.key"]}
    tls = {"server_name": "localhost", "roots": file["ca.crt"], "client": client}
    target = {"address": f"127.0.0.1:{port}", "tls": tls}
    times = {"warm_up_ms": 0, "measure_ms": milliseconds}
    return {"target": target, "request": request, "connections": 64, "threads": 1, **times}


def make(program, data, wanted):
    """Makes about as many keys as wanted; returns how many and how fast."""
    made, busy = 0, 0.0
    while made < wanted:
        job = json.dumps(load_job(data, 10_000)) + "\n"
        answer = subprocess.run([program, "bench-load"], input=job, capture_output=True, text=True, check=True)
        result = json.loads(answer.stdout)
        if result["errors"]:
            raise SystemExit(f"the server refused: {result['first_error']}")
        made, busy = made + round(result["ops_s"] * 10), busy + 10
    return made, made / busy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--program", default="target/release/keyhearth")
    parser.add_argument("--within", default=tempfile.gettempdir())
    options = parser.parse_args()
    program = os.path.abspath(options.program)
    with tempfile.TemporaryDirectory(dir=options.within) as folder:
        data = os.path.join(folder, "data")
        server, _ = start(program, data)
        empty = resident_bytes(server)
        made, per_second = make(program, data, options.keys)
        stop(server)
        server, ready_s = start(program, data)
        memory = resident_bytes(server)
        stop(server)
    print(json.dumps({
        "keys": made,
        "keys_per_second": round(per_second),
        "ready_seconds": round(ready_s, 2),
        "resident_bytes": memory,
        "bytes_per_unused_key": round((memory - empty) / made),
    }))


if __name__ == "__main__":
    main()
