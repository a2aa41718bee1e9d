"""What a deployment refuses: requests beyond a rate, and an old copy of its data."""

import os
import shutil
import subprocess

import pytest

from deployment import Deployment

# Requests per second of one identity.
RATE = 8


@pytest.fixture
def deployment(program, tmp_path):
    with Deployment(program, tmp_path, RATE) as deployment:
        yield deployment


def test_who_asks_too_often_waits_and_nobody_else(deployment, tmp_path):
    admin = deployment.tenant("red", tmp_path)
    greedy = deployment.issue(admin, "greedy", tmp_path, "key-user")
    other = deployment.issue(admin, "other", tmp_path, "key-user")
    with greedy.connect() as one, other.connect() as two:
        answers = [one.call("GET", "/v1/whoami") for _ in range(10 * RATE)]
        refused = [answer for answer in answers if answer.status != 200]
        assert refused and {answer.status for answer in refused} == {429}
        assert RATE <= len(answers) - len(refused) < 10 * RATE
        for answer in refused:
            assert int(answer.headers["Retry-After"]) >= 1 and answer["retry_after_ms"] > 0
        two.call("GET", "/v1/whoami").ok()
        # A client of ours waits as it was told, and is answered.
        deployment.done(greedy, "whoami")


def test_an_old_copy_of_the_data_is_noticed(program, tmp_path):
    deployment = Deployment(program, tmp_path, RATE)
    with deployment:
        admin = deployment.tenant("red", tmp_path)
        keys = deployment.issue(admin, "keys", tmp_path, "key-admin")
        deployment.done(keys, "key", "create", "aes-256", "--alias", "one")
        deployment.stop()
    shutil.copytree(deployment.data, tmp_path / "old")
    with deployment:
        deployment.done(keys_of(deployment, keys), "key", "schedule-destroy", "one")
        deployment.stop()
    os.rename(deployment.data, tmp_path / "new")
    os.rename(tmp_path / "old", deployment.data)
    words = ["serve", "--config", deployment.configuration, "--passphrase-file", deployment.secret]
    refused = subprocess.run([program, *words], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "log" in refused.stderr, refused.stderr
    # With the data that belongs to the anchor it goes on.
    shutil.rmtree(deployment.data)
    os.rename(tmp_path / "new", deployment.data)
    with deployment:
        shown = deployment.done(keys_of(deployment, keys), "key", "show", "one")
        assert b"destroy at" in shown
        deployment.stop()


def keys_of(deployment, identity):
    """The same identity at the port of this start."""
    return deployment.identity(identity.certificate, identity.key)
