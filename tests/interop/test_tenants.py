"""Tenants see nothing of each other, and roles keep duties apart; all by the command line."""

import json

import pytest

CONTEXT = ("--context", "purpose=test")


class Tenant:
    """A tenant with an identity for each of three roles, and a key that its key-admin made."""

    def __init__(self, server, name, folder):
        self.admin = server.tenant(name, folder)
        for role in ("key-admin", "key-user", "auditor"):
            setattr(self, role.replace("-", "_"), server.issue(self.admin, role, folder, role))
        self.key = json.loads(server.done(self.key_admin, "--json", "key", "create", "aes-256"))["id"]
        self.encrypted = self.encrypt(server, self.key_user)

    def encrypt(self, server, identity):
        return server.done(identity, "encrypt", self.key, *CONTEXT, stdin=b"a secret")

    def decrypt(self, server, identity):
        return server.done(identity, "decrypt", self.key, *CONTEXT, stdin=self.encrypted)


@pytest.fixture
def tenants(server, tmp_path):
    return [Tenant(server, name, tmp_path / name) for name in ("red", "blue")]


def keys(server, identity):
    return {key["id"] for key in json.loads(server.done(identity, "--json", "key", "list"))["keys"]}


def test_a_tenant_sees_and_uses_its_own_keys_only(server, tenants):
    red, blue = tenants
    assert red.decrypt(server, red.key_user) == b"a secret"
    for one, other in ((red, blue), (blue, red)):
        assert keys(server, one.key_user) == {one.key}
        missing = server.refused(one.key_user, "key", "show", "01990a3f-1b7a-7c04-8e55-64d0c9a2f7e1")
        for words in (
            ("key", "show", other.key),
            ("decrypt", other.key, *CONTEXT),
            ("data-key", other.key),
            ("grant", "list", other.key),
        ):
            # Another tenant's key is answered as one that does not exist.
            assert server.refused(one.key_user, *words, stdin=other.encrypted) == missing == "not_found"
        assert server.refused(one.key_admin, "key", "rotate", other.key) == "not_found"
        identities = json.loads(server.done(one.admin, "--json", "identity", "list"))["identities"]
        assert len(identities) == 4
        whose = json.loads(server.done(one.key_user, "--json", "whoami"))["tenant"]
        assert {identity["tenant"] for identity in identities} == {whose}


def test_an_auditor_reads_its_tenants_log_and_uses_nothing(server, tenants):
    red, _ = tenants
    listed = json.loads(server.done(red.auditor, "--json", "audit", "list", "--limit", 1000))
    entries = [logged["entry"] for logged in listed["entries"]]
    tenant = json.loads(server.done(red.auditor, "--json", "whoami"))["tenant"]
    assert {entry["tenant"] for entry in entries} == {tenant}
    assert {"create-key", "encrypt", "issue-identity"} <= {entry["operation"] for entry in entries}
    for words in (("decrypt", red.key, *CONTEXT), ("encrypt", red.key), ("data-key", red.key), ("key", "rotate", red.key)):
        assert server.refused(red.auditor, *words, stdin=red.encrypted) == "denied"
    refusals = json.loads(server.done(red.auditor, "--json", "audit", "list", "--limit", 1000))["entries"]
    refusals = [logged["entry"]["operation"] for logged in refusals if logged["entry"]["result"] == "refused"]
    assert refusals == ["decrypt", "encrypt", "data-key", "rotate-key"]


def test_who_manages_keys_does_not_use_them(server, tenants):
    red, _ = tenants
    assert server.refused(red.key_admin, "decrypt", red.key, *CONTEXT, stdin=red.encrypted) == "denied"
    server.done(red.key_admin, "key", "rotate", red.key)
    assert red.decrypt(server, red.key_user) == b"a secret"
    # Nor by giving the role to itself or passing the use on.
    whoami = json.loads(server.done(red.key_admin, "--json", "whoami"))["identity"]
    assert server.refused(red.key_admin, "identity", "roles", whoami, "--role", "key-user") == "denied"
    words = ("identity", "roles", whoami, "--role", "key-admin", "--role", "key-user")
    assert server.refused(red.admin, *words) == "invalid"
    assert server.refused(server.operator, "key", "show", red.key) in ("denied", "not_found")


def test_a_revoked_identity_and_a_disabled_tenant_end_at_once(server, tenants):
    red, blue = tenants
    identity = json.loads(server.done(red.key_user, "--json", "whoami"))["identity"]
    with red.key_user.connect() as connection:
        connection.call("GET", f"/v1/keys/{red.key}").ok()
        server.done(red.admin, "identity", "revoke", identity)
        assert connection.call("GET", f"/v1/keys/{red.key}").status == 401
    tenant = json.loads(server.done(blue.key_user, "--json", "whoami"))["tenant"]
    server.done(server.operator, "tenant", "disable", tenant)
    assert server.command(blue.key_user, "decrypt", blue.key, *CONTEXT, stdin=blue.encrypted).returncode == 1
    server.done(server.operator, "tenant", "enable", tenant)
    assert blue.decrypt(server, blue.key_user) == b"a secret"
