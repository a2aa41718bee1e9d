"""How answers are compared with those that were recorded from AWS, and in which ways they are known to differ."""

import contextlib
import dataclasses
import datetime
import fnmatch
import re

from botocore.exceptions import ClientError

# Properties of the test of a record: how many of its answers were compared, and how many of them differ as documented.
ANSWERS, DIFFERENT = "recorded AWS answers", "of them different"


@dataclasses.dataclass
class Deviation:
    """One way in which answers differ, as the documentation tells it, and where it shows in the records."""

    what: str
    aws: str
    ours: str
    why: str
    # Record, answer and member, as patterns of fnmatch, and a regular expression of what is there instead.
    at: list
    seen: set = dataclasses.field(default_factory=set)

    def row(self):
        return f"| {self.what} | {self.aws} | {self.ours} | {self.why} |"


ABSENT = "absent"
HEX = "[0-9a-f]{64}"
ONE_REGION = "This deployment has one region: there are no multi-Region keys."
DEVIATIONS = [
    Deviation(
        "CreateKey with `MultiRegion`, ReplicateKey, UpdatePrimaryRegion",
        "keys that several regions share",
        f"UnsupportedOperationException: {ONE_REGION}",
        "a deployment is one region with one log",
        [
            ("test_create_multi_region_key", "*", "", f"UnsupportedOperationException: {ONE_REGION}"),
            ("test_replicate_key", "replicate-key", "", f"UnsupportedOperationException: {ONE_REGION}"),
            (
                "test_replicate_key",
                "describe-key-from-different-region",
                "*essage",
                "Key '.*' does not exist",
            ),
            ("test_replicate_key", "describe-key-from-region", "KeyMetadata.MultiRegion", "False"),
            (
                "test_replicate_key",
                "describe-key-from-region",
                "KeyMetadata.MultiRegionConfiguration",
                ABSENT,
            ),
            (
                "test_replicate_key",
                "describe-replicated-key",
                "",
                "NotFoundException: Invalid arn ap-southeast-1",
            ),
            ("test_replicate_replica_key_should_fail", "*", "*essage", ONE_REGION),
        ],
    ),
    Deviation(
        "The six operations of custom key stores, CreateKey with `Origin` AWS_CLOUDHSM or EXTERNAL_KEY_STORE",
        "keys in the caller's own HSM",
        "UnsupportedOperationException: This deployment has no custom key stores.",
        "keys are in this server",
        [],
    ),
    Deviation(
        "SM2",
        "in the Chinese regions",
        "UnsupportedOperationException",
        "no implementation of it is built in",
        [],
    ),
    Deviation(
        "`Recipient`",
        "encrypts the answer for an attested enclave",
        "UnsupportedOperationException",
        "attestation documents are not verified, and what is not verified gets no secret",
        [],
    ),
    Deviation(
        "GenerateDataKey and GenerateDataKeyPair, with and without plaintext; ReEncrypt",
        "recorded without the ids of the key material, which came later",
        "`KeyMaterialId`, `SourceKeyMaterialId`, `DestinationKeyMaterialId`",
        "AWS's present model has them",
        [
            ("test_generate_data_key*", "generate-*", "KeyMaterialId", HEX),
            ("test_re_encrypt(SYMMETRIC*", "*", "*KeyMaterialId", HEX),
        ],
    ),
    Deviation(
        "RotateKeyOnDemand of imported material when none awaits",
        "recorded early: UnsupportedOperationException; later: KMSInvalidStateException",
        "KMSInvalidStateException: No available key material pending rotation for the key: ARN.",
        "AWS's later answer",
        [
            ("*_given_key_with_imported_key_material", "*", "Error.Code", "KMSInvalidStateException"),
            (
                "*_given_key_with_imported_key_material",
                "*",
                "*essage",
                "No available key material pending .*",
            ),
        ],
    ),
    Deviation(
        "RotateKeyOnDemand many times",
        "LimitExceededException after so many",
        "rotates",
        "a version of a key is a row, not a place in an HSM",
        [("test_key_rotations_limits", "error-response", "", ABSENT)],
    ),
    Deviation(
        "The values that a ValidationException lists",
        "in the order of a hash table, newer ones not there yet",
        "all values of the present model, in its order",
        "the order has no meaning",
        [
            ("test_hmac_create_key_invalid_operations", f"*-invalid-{member}", "Error.Message", text)
            for member, text in (
                (
                    "spec",
                    r"1 .* 'keySpec' failed to satisfy constraint: .*: \[RSA_2048, .*HMAC_512.*, ML_KEM_1024\]",
                ),
                (
                    "key-usage",
                    r"1 .* 'keyUsage' failed to satisfy constraint: .*: \[SIGN_VERIFY, ENCRYPT_DECRYPT, .*\]",
                ),
            )
        ],
    ),
]

ARN = r"arn:aws:kms:[a-z0-9-]+:\d{12}:key/(?:mrk-)?[0-9a-f-]{32,36}"
ID = r"(?:mrk-)?[0-9a-f-]{32,36}"
PLACEHOLDERS = {
    "partition": "aws",
    "region": "[a-z]+-[a-z]+-[0-9]",
    "secondary-region": "[a-z]+-[a-z]+-[0-9]",
    "key-id": f"{ARN}|{ID}",
    "resource": ID,
    "key-arn": ARN,
    "mrk-key-arn": ARN,
    "key-material-id": "[0-9a-f]{64}",
    "current-key-material-id": "[0-9a-f]{64}",
    "description": ".*",
}
BYTES = {
    "ciphertext-blob", "import-token", "plaintext", "private-key-ciphertext-blob", "private-key-plaintext",
    "public-key", "shared-secret", "<mac>", "<signature>",
}  # fmt: skip
ACCOUNT = "111111111111"


class Replay:
    """The answers of one record, compared with ours."""

    def __init__(self, name, answers, kms, lax):
        self.name, self.answers, self.kms, self.lax = name, answers, kms, lax
        self.bound = {}
        self.compared, self.found = set(), []

    def same(self, answer, ours):
        """Compares an answer of ours, or part of one, with the recorded one of this name."""
        assert answer not in self.compared
        self.compared.add(answer)
        for member, recorded, here in self.differences("", self.answers[answer], ours):
            deviation = next((known for known in DEVIATIONS if self.explains(known, answer, member, here)), None)
            if deviation:
                deviation.seen.add((self.name, answer))
            else:
                self.found.append(f"{answer}: {member or 'all'} is {here!r}, recorded {recorded!r}")

    def explains(self, known, answer, member, here):
        return any(
            all(map(fnmatch.fnmatchcase, (self.name.replace("[", "("), answer, member), patterns))
            and re.fullmatch(text, str(here), re.DOTALL)
            for *patterns, text in known.at
        )

    @contextlib.contextmanager
    def refused(self, answer):
        """What is done inside must be refused; the refusal is compared."""
        try:
            yield
        except ClientError as error:
            self.same(answer, error.response)
        else:
            self.same(answer, ABSENT)

    def finish(self):
        assert self.compared == set(self.answers)
        assert not self.found, "\n".join(self.found)

    def differences(self, member, recorded, ours):
        if recorded == ours or member == "ResponseMetadata.HTTPHeaders":
            return
        if isinstance(ours, dict) and "Error" in ours and not (isinstance(recorded, dict) and "Error" in recorded):
            yield member, recorded, "{Code}: {Message}".format(**ours["Error"])
        elif isinstance(recorded, dict) and isinstance(ours, dict):
            # Text of an error that newer SDKs show twice.
            optional = {"message"} if "Error" in recorded else set()
            optional |= set(ours) if member == "ResponseMetadata" else set()
            for name in sorted(set(recorded) | set(ours) - optional):
                below = f"{member}.{name}".removeprefix(".")
                yield from self.differences(below, recorded.get(name, ABSENT), ours.get(name, ABSENT))
        elif isinstance(recorded, list) and isinstance(ours, list) and len(recorded) == len(ours):
            for at, (one, other) in enumerate(zip(recorded, ours)):
                yield from self.differences(f"{member}.{at}".removeprefix("."), one, other)
        elif recorded == "datetime" and isinstance(ours, datetime.datetime):
            return
        elif isinstance(ours, bytes) and ours and str(recorded) in BYTES:
            return
        elif not (isinstance(recorded, str) and isinstance(ours, str) and self.same_text(recorded, ours)):
            yield member, recorded, ours

    def same_text(self, recorded, ours):
        """Whether a text is the recorded one; binds its placeholders."""
        names, pattern = {}, ""
        for part in re.split("(<[a-z0-9:-]+>)", recorded.replace(ACCOUNT, "<account>")):
            if not part.startswith("<"):
                pattern += re.escape(part)
            elif part in self.bound:
                pattern += re.escape(self.bound[part])
            elif part in names.values():
                pattern += f"(?P={next(group for group, name in names.items() if name == part)})"
            else:
                group = f"g{len(names)}"
                names[group] = part
                kind = part.strip("<>").split(":")[0]
                pattern += f"(?P<{group}>{PLACEHOLDERS.get(kind, '[0-9]{12}' if kind == 'account' else 'no such')})"
        found = re.fullmatch(pattern, ours, re.DOTALL)
        if found:
            self.bound |= {name: found[group] for group, name in names.items()}
        return bool(found)
