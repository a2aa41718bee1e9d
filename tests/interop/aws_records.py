"""How answers are compared with those that were recorded from AWS, and in which ways they are known to differ."""

import contextlib
import dataclasses
import datetime
import fnmatch
import re

import pytest
from botocore.exceptions import ClientError

# Of a test run: how many answers of each record were compared.
COMPARED = pytest.StashKey[dict]()


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
DEVIATIONS = []

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
# The order of the values is a hash map's, and newer ones were not there yet.
ENUM = re.compile(r"(.*enum value set: )\[(.*)\]")


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
        if isinstance(recorded, dict) and isinstance(ours, dict):
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
        known, enum = ENUM.fullmatch(recorded), ENUM.fullmatch(ours)
        if known and enum:
            return known[1] == enum[1] and set(known[2].split(", ")) <= set(enum[2].split(", "))
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
