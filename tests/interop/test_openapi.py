"""Generated requests against the description that the server gives of itself.

The description is fetched from the server, so what is tested is what clients read.
"""

import pathlib
import subprocess
import sys

import pytest

SEED = 20261120
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance"
)
# What would end the identity that the requests are made with; and what only the listener for health answers.
LEFT_OUT = ("--exclude-operation-id-regex", "^(revoke-identity|set-roles|seal|disable-tenant)$",
            "--exclude-path", "/metrics")  # fmt: skip
# What changes a key's state or material would leave the rest with a key that does nothing.
KEEPS_KEY = ("--include-tag", "protect", "--include-tag", "process", "--include-tag", "inspect",
             "--include-operation-id-regex", "^(update-key|rotate-key|set-alias|create-grant|who-can)$")  # fmt: skip


def generated(server, identity, folder, examples, *only, settings=""):
    """Runs generated requests as `identity`; every answer must be as described."""
    description, configuration = folder / "openapi.json", folder / "schemathesis.toml"
    description.write_bytes(identity.call("GET", "/v1/openapi.json").ok().body)
    configuration.write_text(settings)
    finished = subprocess.run(
        [pathlib.Path(sys.executable).parent / "schemathesis", "--config-file", configuration, "run", description,
         "--url", server.url, "--tls-verify", identity.ca,
         "--request-cert", identity.certificate, "--request-cert-key", identity.key,
         "--phases", "examples,coverage,fuzzing", "--checks", CHECKS, "--max-examples", str(examples),
         "--seed", str(SEED), "--no-shrink", "--no-color", *LEFT_OUT, *only],
        cwd=folder, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    print(finished.stdout[-8000:], finished.stderr[-2000:])
    assert finished.returncode == 0
    # Still who it was: otherwise most of the answers were refusals.
    identity.call("GET", "/v1/whoami").ok()
    assert server.health() == 200


def test_every_operation(server, tmp_path):
    generated(server, server.developer, tmp_path, 12)


@pytest.mark.parametrize("tag", ["operate", "audit", "govern"])
def test_operations_on_the_deployment(server, tmp_path, tag):
    generated(server, server.operator, tmp_path, 6, "--include-tag", tag)


@pytest.mark.parametrize("algorithm", ["aes-256", "ec-p256", "hmac-sha256", "x25519", "ml-kem-768", "rsa-2048"])
def test_operations_on_a_key_that_exists(server, tmp_path, algorithm):
    body = {"algorithm": algorithm, "alias": "known", "exportable": True}
    server.developer.call("POST", "/v1/keys", body).ok()
    generated(server, server.developer, tmp_path, 8, *KEEPS_KEY, settings='[parameters]\nkey = "known"\n')
    server.developer.call("GET", "/v1/keys/known").ok()
