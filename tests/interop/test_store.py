"""Sealed files in a store that others run: Debian's rclone fills it, and a second machine opens what came out of it."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from deployment import Deployment
from store import Apart, Machine, Store, file_key

CONTENTS = {
    "report.txt": b"the figures of the quarter, for nobody else\n",
    "empty": b"",
    "plans/house.bin": os.urandom(300_000),
    "plans/with blanks.txt": b"the figures of the quarter, once more\n" * 5_000,
}
FOLDER_POLICY = """
permit (principal, action == Keyhearth::Action::"decrypt", resource is Keyhearth::Key)
when {{ principal in [{people}] && resource.hasTag("folder") && resource.getTag("folder") == "shared" }};
"""


@pytest.fixture(scope="module", autouse=True)
def installed():
    """These tests are of other people's programs: without them they fail, and are not skipped."""
    missing = [name for name in ("age", "rclone", "ip") if not shutil.which(name)]
    assert not missing, f"missing: {missing}; scripts/test install"


@pytest.fixture
def apart():
    with Apart() as machine:
        yield machine


@pytest.fixture
def deployment(program, tmp_path, apart):
    (tmp_path / "server").mkdir()
    with Deployment(program, tmp_path / "server", address=apart.host) as deployment:
        yield deployment


@pytest.fixture
def store(tmp_path, apart):
    with Store(tmp_path / "store", apart.host) as store:
        yield store


def test_a_second_machine_opens_what_a_store_holds_and_the_store_nothing(deployment, store, apart, tmp_path):
    admin = deployment.tenant("acme", tmp_path)
    keys = deployment.issue(admin, "keys", tmp_path, "key-admin")
    owner = deployment.issue(admin, "owner", tmp_path, "key-user")
    colleague = deployment.issue(admin, "colleague", tmp_path)
    stranger = deployment.issue(admin, "stranger", tmp_path)
    deployment.done(keys, "key", "create", "aes-256", "--alias", "shared", "--tag", "folder=shared")
    people = f'Keyhearth::Principal::"{deployment.id_of(colleague)}"'
    (tmp_path / "folder.cedar").write_text(FOLDER_POLICY.format(people=people))
    deployment.done(admin, "policy", "set", "folder", tmp_path / "folder.cedar", "--yes")

    plain, sealed, come = tmp_path / "plain", tmp_path / "sealed", tmp_path / "come"
    for name, content in CONTENTS.items():
        (plain / name).parent.mkdir(parents=True, exist_ok=True)
        (plain / name).write_bytes(content)
    deployment.done(owner, "file", "seal", plain, "--key", "shared", "--output", sealed)
    store.sync(Machine(), sealed, None)

    held = {path.relative_to(store.folder): path for path in store.folder.rglob("*") if path.is_file()}
    assert sorted(map(str, held)) == sorted(f"{name}.age" for name in CONTENTS)
    everything = b"".join(path.read_bytes() for path in held.values())
    assert b"figures" not in everything
    file_keys = {file_key(owner, path) for path in held.values()}
    assert len(file_keys) == len(CONTENTS) and not any(key in everything for key in file_keys)

    # The other machine: its loopback reaches nothing, its one link the store and the server.
    assert apart.ended("ip", "route", "get", "198.51.100.1")[0] != 0
    store.sync(apart, None, come)
    program = deployment.program
    opened = tmp_path / "opened"
    apart.run(program, "file", "open", come, "--output", opened, environment=colleague.environment())
    assert {name: (opened / name).read_bytes() for name in CONTENTS} == CONTENTS
    status, _, error = apart.ended(
        program, "file", "open", come / "report.txt.age", "--output", "-", environment=stranger.environment()
    )
    assert status == 1 and "not allowed" in error, error

    # Stock age there does the same.
    path = tmp_path / "path"
    path.mkdir()
    (path / "age-plugin-keyhearth").symlink_to(program)
    environment = colleague.environment() | {"PATH": f"{path}:{os.environ['PATH']}"}
    shown = apart.run("age", "-d", "-j", "keyhearth", come / "report.txt.age", environment=environment)
    assert shown == CONTENTS["report.txt"]

    # Who leaves opens nothing from then on, though the files are still on that machine.
    deployment.done(admin, "identity", "revoke", deployment.id_of(colleague))
    status, output, _ = apart.ended("age", "-d", "-j", "keyhearth", come / "report.txt.age", environment=environment)
    assert (status, output) == (1, b"")


def test_the_demonstration_ends_as_it_is_told(program):
    demo = pathlib.Path(__file__).with_name("demo_files.py")
    ended = subprocess.run([sys.executable, demo, program], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert all(word in ended.stdout for word in ("found: 0", "swapped", "rolled_back", "the SDK reads")), ended.stdout
