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


@pytest.mark.parametrize(("who", "examples", "also"), [
    ("developer", 12, ()),
    ("operator", 6, ("--include-tag", "operate")),
    ("operator", 6, ("--include-tag", "audit")),
], ids=["developer", "operator", "operator-audit"])  # fmt: skip
def test_answers_are_as_described(server, tmp_path, who, examples, also):
    identity = getattr(server, who)
    description = tmp_path / "openapi.json"
    description.write_bytes(identity.call("GET", "/v1/openapi.json").ok().body)
    finished = subprocess.run(
        [pathlib.Path(sys.executable).parent / "schemathesis", "run", description, "--url", server.url,
         "--tls-verify", identity.ca, "--request-cert", identity.certificate, "--request-cert-key", identity.key,
         "--phases", "examples,coverage,fuzzing", "--checks", CHECKS, "--max-examples", str(examples),
         "--seed", str(SEED), "--no-shrink", "--no-color", *LEFT_OUT, *also],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    print(finished.stdout[-8000:], finished.stderr[-2000:])
    assert finished.returncode == 0
    # Still who it was: otherwise most of the answers were refusals.
    identity.call("GET", "/v1/whoami").ok()
    assert server.health() == 200
