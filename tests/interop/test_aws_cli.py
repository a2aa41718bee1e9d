"""The AWS command line, told where to go by `dev.env` alone."""

import base64
import json
import os
import pathlib
import subprocess
import sys

import pytest

from aws_kms import create

AWS = pathlib.Path(sys.executable).with_name("aws")


@pytest.fixture
def run(aws, tmp_path):
    """Runs shell text with dev.env sourced, as a reader of the documentation would; returns its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    kept |= {
        "PATH": f"{AWS.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DEV_ENV": str(aws.data / "dev.env"),
    }
    kept["AWS_EC2_METADATA_DISABLED"] = "true"

    def run(text, status=0):
        text = f'set -euo pipefail; . "$DEV_ENV"; {text}'
        done = subprocess.run(["bash", "-c", text], cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


def test_a_keys_life(run, tmp_path):
    (tmp_path / "salaries.csv").write_bytes(b"a,1\n")
    key = json.loads(run("aws kms create-key --description payroll --tags TagKey=team,TagValue=hr"))["KeyMetadata"]
    assert key["Description"] == "payroll" and key["CreationDate"] > 0
    id_, alias = key["KeyId"], f"alias/payroll-{key['KeyId']}"
    run(f"aws kms create-alias --alias-name {alias} --target-key-id {id_}")
    opened = run(f"""
        aws kms encrypt --key-id {alias} --plaintext fileb://salaries.csv --encryption-context table=staff \
            --query CiphertextBlob --output text | base64 -d > salaries.enc
        aws kms decrypt --ciphertext-blob fileb://salaries.enc --encryption-context table=staff \
            --query Plaintext --output text | base64 -d
    """)
    assert opened == "a,1\n"
    listed = json.loads(
        run(f"""
        echo [; aws kms list-keys --query "length(Keys[?KeyId=='{id_}'])"
        echo ,; aws kms list-aliases --key-id {id_} --query "Aliases[].AliasName | [0]"
        echo ,; aws kms list-resource-tags --key-id {id_} --query "Tags[0].TagValue"
        echo ,; aws kms get-key-policy --key-id {id_} --policy-name default --query PolicyName; echo ]
    """)
    )
    assert listed == [1, alias, "hr", "default"]
    assert "InvalidCiphertextException" in run("aws kms decrypt --ciphertext-blob fileb://salaries.enc", 255)
    run(f"aws kms disable-key --key-id {id_}")
    decrypt = "aws kms decrypt --ciphertext-blob fileb://salaries.enc --encryption-context table=staff"
    assert f"(DisabledException) when calling the Decrypt operation: {key['Arn']} is disabled." in run(decrypt, 255)
    run(f"aws kms enable-key --key-id {id_} && {decrypt}")
    gone = json.loads(run(f"aws kms schedule-key-deletion --key-id {id_} --pending-window-in-days 7"))
    assert gone["KeyState"] == "PendingDeletion"


def test_data_keys_and_signatures(run, tmp_path):
    key = json.loads(run("aws kms create-key --query KeyMetadata.Arn"))
    made = json.loads(run(f"aws kms generate-data-key --key-id {key} --key-spec AES_256"))
    (tmp_path / "wrapped").write_bytes(base64.b64decode(made["CiphertextBlob"]))
    opened = json.loads(run(f"aws kms decrypt --ciphertext-blob fileb://wrapped --key-id {key}"))
    assert opened["Plaintext"] == made["Plaintext"]
    signing = "--key-spec ECC_NIST_P256 --key-usage SIGN_VERIFY"
    key = json.loads(run(f"aws kms create-key {signing} --query KeyMetadata.KeyId"))
    (tmp_path / "message").write_bytes(b"a message")
    checked = run(f"""
        members="--key-id {key} --signing-algorithm ECDSA_SHA_256 --message fileb://message"
        aws kms sign $members --query Signature --output text | base64 -d > message.sig
        aws kms get-public-key --key-id {key} --query PublicKey --output text | base64 -d > public.der
        aws kms verify $members --signature fileb://message.sig --query SignatureValid > valid
        openssl pkey -pubin -inform der -in public.der -out public.pem
        openssl dgst -sha256 -verify public.pem -signature message.sig message
        cat valid
    """)
    assert checked.split("\n")[:2] == ["Verified OK", "true"]


def test_the_pages_of_a_list(run, kms):
    made = {create(kms)["KeyId"] for _ in range(3)}
    listed = json.loads(run("aws kms list-keys --page-size 2 --query 'Keys[].KeyId'"))
    assert made <= set(listed) and len(set(listed)) == len(listed)
