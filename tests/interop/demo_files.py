"""Two people share a folder through a store that a third party runs; prints what each of them sees.

Called by `scripts/demo-files`. Whatever is not as it is told here ends it with an error.
"""

import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

import aws_encryption_sdk
import botocore.session

from deployment import Deployment
from store import Apart, Machine, Store, file_key

# Of what a command prints, so many lines are shown.
LINES = 6
SAYING = b"the figures of the quarter, for nobody else\n"
CONTENTS = {"report.txt": SAYING, "plan.txt": SAYING * 3_000, "old/minutes.txt": SAYING * 9}
POLICY = """
permit (principal, action == Keyhearth::Action::"decrypt", resource is Keyhearth::Key)
when {{ principal in [{people}] && resource.hasTag("folder") && resource.getTag("folder") == "shared" }};
"""


class Person:
    """Somebody at a machine: commands are shown, then what they print."""

    def __init__(self, deployment, machine, name, identity):
        self.deployment, self.machine, self.name, self.identity = deployment, machine, name, identity
        path = deployment.data.parent / "path"
        path.mkdir(exist_ok=True)
        for program in ("keyhearth", "age-plugin-keyhearth"):
            (path / program).unlink(missing_ok=True)
            (path / program).symlink_to(deployment.program)
        self.environment = identity.environment() | {
            "PATH": f"{path}:{os.environ['PATH']}",
            "XDG_STATE_HOME": str(deployment.data.parent / f"state-{name}"),
        }

    def does(self, *words, expect=0):
        """Runs a program in the folder of the story; what it prints, both to the screen and back."""
        words = [os.path.relpath(word) if isinstance(word, pathlib.Path) else word for word in words]
        print(f"\n{self.name}$ {' '.join(words)}")
        status, output, error = self.machine.ended(*words, environment=self.environment)
        text = (output.decode(errors="replace") + error).strip()
        if text:
            print("  " + "\n  ".join(text.splitlines()[:LINES]))
        if status != expect:
            raise SystemExit(f"that ended with {status}, and not with {expect}")
        return text


def tell(text):
    print(f"\n— {text}")


def opened_by_the_sdk(deployment, owner, path):
    """What the AWS Encryption SDK for Python makes of a file, by the AWS KMS API alone."""
    admin = deployment.identity(deployment.data.parent / "acme-admin.crt", deployment.data.parent / "acme-admin.key")
    made = json.loads(deployment.done(admin, "--json", "access-key", "create", deployment.id_of(owner.identity)))
    os.environ |= {"AWS_CA_BUNDLE": str(deployment.data / "ca.crt"), "AWS_ENDPOINT_URL_KMS": deployment.aws_url}
    arn = re.search(rb"arn:aws:kms:[a-z0-9-]+:\d{12}:key/[0-9a-f-]{36}", path.read_bytes())[0].decode()
    session = botocore.session.Session()
    session.set_credentials(made["id"], made["secret"])
    provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[arn], botocore_session=session)
    return aws_encryption_sdk.EncryptionSDKClient().decrypt(source=path.read_bytes(), key_provider=provider)[0]


def main(program, root):
    with Apart() as apart:
        (root / "server").mkdir()
        deployment, store = Deployment(program, root / "server", address=apart.host), Store(root / "store", apart.host)
        with deployment, store:
            story(deployment, store, apart, root)


def story(deployment, store, apart, root):
    folder, here = deployment.data.parent, Machine()
    admin = deployment.tenant("acme", folder)
    people = [("keys", here, ["key-admin"]), ("owner", here, ["key-user"])]
    people += [("colleague", apart, []), ("leaver", apart, []), ("auditor", here, ["auditor"])]
    keys, owner, colleague, leaver, auditor = (
        Person(deployment, machine, name, deployment.issue(admin, name, folder, *roles))
        for name, machine, roles in people
    )
    named = [f'Keyhearth::Principal::"{deployment.id_of(one.identity)}"' for one in (colleague, leaver)]
    (root / "folder.cedar").write_text(POLICY.format(people=", ".join(named)))
    deployment.done(admin, "policy", "set", "folder", root / "folder.cedar", "--yes")
    plain, sealed, come = root / "plain", root / "sealed", root / "colleague"
    for name, content in CONTENTS.items():
        (plain / name).parent.mkdir(parents=True, exist_ok=True)
        (plain / name).write_bytes(content)
    os.chdir(root)

    tell("The owner keeps a folder sealed, and signed; a store that others run gets that.")
    keys.does("keyhearth", "key", "create", "aes-256", "--alias", "shared", "--tag", "folder=shared")
    keys.does("keyhearth", "key", "create", "ed25519", "--alias", "names", "--tag", "folder=shared")
    sealed.mkdir()
    owner.does("keyhearth", "file", "manifest", sealed, "--sign-key", "names")
    in_step = ["sync", "watch", "--plain", plain, "--sealed", sealed, "--key", "shared", "--sign-key", "names", "--once"]
    owner.does("keyhearth", *in_step)
    owner.does("keyhearth", "key", "public", "names", "--output", root / "names.pem")
    store.sync(here, sealed, None)

    tell("The store has neither plaintext nor keys.")
    held = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    secrets = [file_key(owner.identity, path) for path in sealed.rglob("*.age")]
    found = sum(secret in held for secret in secrets) + held.count(b"figures")
    print(f"  {len(held)} bytes in the store; of {len(secrets)} keys and the plaintext found: {found}")
    if found or len(secrets) != len(CONTENTS):
        raise SystemExit("that is wrong")

    tell("A colleague, on a machine of another network, has the files of the store, and opens them.")
    store.sync(apart, None, come)
    verify = ["keyhearth", "file", "verify", come, "--deep", "--public-key", root / "names.pem"]
    colleague.does(*verify)
    colleague.does("keyhearth", "file", "open", come, "--output", root / "opened")
    if {name: (root / "opened" / name).read_bytes() for name in CONTENTS} != CONTENTS:
        raise SystemExit("what was opened is something else")
    colleague.does("age", "-d", "-j", "keyhearth", come / "report.txt.age")

    tell("Somebody leaves. The files stay where they are, and do not open any more.")
    leaver.does("keyhearth", "file", "open", come / "report.txt.age", "--output", "-")
    deployment.done(admin, "identity", "revoke", deployment.id_of(leaver.identity))
    leaver.does("keyhearth", "file", "open", come / "report.txt.age", "--output", "-", expect=1)
    leaver.does("age", "-d", "-j", "keyhearth", come / "report.txt.age", expect=1)

    tell("The store swaps two files, and puts an older version of a third back.")
    shutil.copy(store.folder / "old/minutes.txt.age", root / "older")
    (plain / "old/minutes.txt").write_bytes(SAYING * 10)
    owner.does("keyhearth", *in_step)
    store.sync(here, sealed, None)
    one, other = store.folder / "report.txt.age", store.folder / "plan.txt.age"
    for source, target in [(one, root / "swap"), (other, one), (root / "swap", other)]:
        shutil.move(source, target)
    shutil.copy(root / "older", store.folder / "old/minutes.txt.age")
    store.sync(apart, None, come)
    said = colleague.does(*verify, expect=1)
    if said.count("swapped") < 2 or "rolled" not in said:
        raise SystemExit("that is not what was done")

    tell("A file in the other format opens in the AWS Encryption SDK, by the AWS KMS API.")
    owner.does("keyhearth", "file", "seal", plain / "report.txt", "--key", "shared", "--format", "esdk")
    print("  the SDK reads: " + opened_by_the_sdk(deployment, owner, plain / "report.txt.esdk").decode().strip())

    tell("Each opening was decided and recorded.")
    entries = json.loads(deployment.done(auditor.identity, "--json", "audit", "list", "--limit", "1000"))["entries"]
    auditor.does("keyhearth", "audit", "list", "--from", str(entries[1 - LINES]["index"]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="keyhearth-demo-") as folder:
        main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(folder))
