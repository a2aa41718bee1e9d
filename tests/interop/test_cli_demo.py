"""The demonstration: short, right, and gone afterwards."""

import json
import os
import signal
import subprocess

import pytest


def demo(program, tmp_path, *words):
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [program, "demo", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def left_behind(tmp_path):
    return list((tmp_path / "tmp").iterdir())


def test_tells_a_story_that_fits_and_leaves_nothing(program, tmp_path):
    file = tmp_path / "file with a name that is too long for its column.bin"
    file.write_bytes(bytes(range(256)) * 9000)
    before = file.read_bytes(), file.stat().st_mtime_ns
    process = demo(program, tmp_path, file)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    lines = out.splitlines()
    assert len(lines) <= 40 and all(len(line) <= 80 for line in lines if str(tmp_path) not in line), out
    for verb in "seal open refuse suspend resume rotate deactivate destroy log done".split():
        assert any(line.startswith(verb) for line in lines), f"no {verb} in\n{out}"
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert left_behind(tmp_path) == []


def test_json_has_a_step_each(program, tmp_path):
    file = tmp_path / "small"
    file.write_bytes(b"")
    out, err = demo(program, tmp_path, "--json", file).communicate(timeout=120)
    steps = json.loads(out)
    assert err == "" and [step["step"] for step in steps][-2:] == ["log", "removed"]
    log = steps[-2]
    assert log["entries"] == log["done"] + log["refused"] and log["refused"] >= 7


def test_nothing_is_left_after_an_error(program, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "pipe", "."):
        process = demo(program, tmp_path, tmp_path / name)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1 and str(tmp_path / name) in err and left_behind(tmp_path) == []


@pytest.mark.parametrize("ended", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_after_an_interruption(program, tmp_path, ended):
    file = tmp_path / "large"
    file.touch()
    os.truncate(file, 256 << 20)  # so that there is something to interrupt
    process = demo(program, tmp_path, file)
    while not process.stdout.readline().startswith("seal"):
        assert process.poll() is None
    process.send_signal(ended)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "interrupted" in err and left_behind(tmp_path) == []
