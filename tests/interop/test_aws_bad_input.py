"""Requests to the AWS KMS API that are wrong: AWS's error for each, and afterwards the server still answers."""

import base64
import datetime
import hashlib
import hmac
import http.client
import json
import re
import ssl
import urllib.parse

import pytest

from aws_kms import Access, create, issue, refused

SKEW = datetime.timedelta(minutes=5)
NO_KEY = "01990a3f-1b7a-7c04-8e55-64d0c9a2f7e1"


class Answer:
    def __init__(self, answer):
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()

    @property
    def kind(self):
        return json.loads(self.body)["__type"]

    @property
    def message(self):
        return json.loads(self.body).get("message")


class Raw:
    """Requests of one access key by plain HTTPS, signed here; every part can be made wrong."""

    def __init__(self, access):
        self.access = access
        where = urllib.parse.urlsplit(access.endpoint)
        self.host, self.port = where.hostname, where.port
        self.context = ssl.create_default_context(cafile=access.ca)

    def sign(
        self,
        headers,
        body,
        when,
        *,
        secret=None,
        region=None,
        service="kms",
        day=None,
        signed=None,
        end="aws4_request",
    ):
        """The value of the header Authorization. Source: AWS IAM User Guide, Signature Version 4."""
        names = sorted(name.lower() for name in headers) if signed is None else signed
        values = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        lines = "".join(f"{name}:{values.get(name, '')}\n" for name in names)
        canonical = "\n".join(["POST", "/", "", lines, ";".join(names), hashlib.sha256(body).hexdigest()])
        day = day or when[:8]
        scope = [day, region or self.access.region, service, end]
        key = b"AWS4" + (secret or self.access.secret).encode()
        for part in scope:
            key = hmac.digest(key, part.encode(), "sha256")
        scope = "/".join(scope)
        text = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"{self.access.key_id}/{scope}"
        return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(names)}, Signature={signature}"

    def call(
        self, operation, body=b"{}", *, method="POST", path="/", when=None,
        headers=(), unsigned=(), drop=(), change=None, **sign,
    ):  # fmt: skip
        """Asks once. `headers` are signed too, `unsigned` come afterwards, `change` makes another Authorization."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        when = (when or datetime.datetime.now(datetime.UTC)).strftime("%Y%m%dT%H%M%SZ")
        sent = {
            "Host": f"{self.host}:{self.port}",
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Date": when,
            "X-Amz-Target": f"TrentService.{operation}",
        }
        sent = {name: value for name, value in (sent | dict(headers)).items() if name not in drop}
        authorization = self.sign(sent, body, when, **sign)
        authorization = change(authorization) if change else [authorization]
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=30, context=self.context)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in [*sent.items(), *dict(unsigned).items()]:
                connection.putheader(name, value)
            for value in authorization:
                connection.putheader("Authorization", value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return Answer(connection.getresponse())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def raw(access):
    return Raw(access)


@pytest.fixture(scope="module")
def key(kms):
    return create(kms)["Arn"]


@pytest.fixture(autouse=True)
def the_server_still_answers(raw):
    yield
    answer = raw.call("GenerateRandom", {"NumberOfBytes": 4})
    assert answer.status == 200 and len(base64.b64decode(json.loads(answer.body)["Plaintext"])) == 4


def expect(answer, kind, message=None, status=400):
    """The answer is this refusal, in AWS's shape; `message` is text, a pattern, or None for no text at all."""
    assert (answer.status, answer.kind) == (status, kind), answer.body
    assert answer.headers["Content-Type"] == "application/x-amz-json-1.1"
    assert re.fullmatch("[0-9a-f-]{36}", answer.headers["x-amzn-RequestId"])
    if isinstance(message, re.Pattern):
        assert message.fullmatch(answer.message), answer.message
    else:
        assert answer.message == message


# Who calls


def test_a_right_signature(raw):
    assert raw.call("ListKeys").status == 200
    # Other headers need no signature, and white space in values does not count.
    assert raw.call("ListKeys", unsigned={"User-Agent": "a"}, headers={"X-Other": "a   b "}).status == 200


WRONG = re.compile(
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


def altered(authorization):
    return [authorization[:-1] + ("0" if authorization[-1] != "0" else "1")]


@pytest.mark.parametrize("wrong", [
    {"change": altered},
    {"secret": "another"},
    {"body": b"{ }", "change": None, "path": "/?a=b"},
])  # fmt: skip
def test_a_wrong_signature(raw, wrong):
    expect(raw.call("ListKeys", **wrong), "InvalidSignatureException", WRONG)


def test_what_was_signed_is_what_is_sent(raw):
    sealed = []

    def keep(authorization):
        sealed.append(authorization)
        return [authorization]

    now = datetime.datetime.now(datetime.UTC)
    assert raw.call("ListKeys", when=now, change=keep).status == 200
    for changed in ({"operation": "ListAliases"}, {"operation": "ListKeys", "body": b"{ }"}):
        answer = raw.call(**changed, when=now, change=lambda _: sealed)
        expect(answer, "InvalidSignatureException", WRONG)


def test_a_date_that_is_too_far_away(raw):
    now = datetime.datetime.now(datetime.UTC)
    day = r"\d{8}T\d{6}Z"
    text = re.compile(rf"Signature expired: {day} is now earlier than {day} \({day} - 5 min\.\)")
    expect(raw.call("ListKeys", when=now - 2 * SKEW), "InvalidSignatureException", text)
    text = re.compile(rf"Signature not yet current: {day} is still later than {day} \({day} \+ 5 min\.\)")
    expect(raw.call("ListKeys", when=now + 2 * SKEW), "InvalidSignatureException", text)
    for near in (now - SKEW / 2, now + SKEW / 2):
        assert raw.call("ListKeys", when=near).status == 200


def test_a_date_that_is_none(raw):
    for value in ("now", "2026-11-21T02:00:00Z", "20261321T000000Z"):
        answer = raw.call("ListKeys", headers={"X-Amz-Date": value})
        assert answer.kind == "IncompleteSignatureException" and answer.message.startswith("Date must be in ISO-8601")
    answer = raw.call("ListKeys", drop={"X-Amz-Date"})
    assert answer.kind == "IncompleteSignatureException" and "'X-Amz-Date'" in answer.message


def test_the_scope_of_another_place(raw):
    for wrong, text in (
        ({"service": "s3"}, "Credential should be scoped to correct service: 'kms'. "),
        ({"region": "af-south-9"}, "Credential should be scoped to a valid region. "),
        (
            {"end": "aws5_request"},
            re.compile("Credential should be scoped with a valid terminator: 'aws4_request'.*"),
        ),
        (
            {"day": "20200101"},
            re.compile("Date in Credential scope does not match YYYYMMDD .*'20200101' != .*"),
        ),
    ):
        expect(raw.call("ListKeys", **wrong), "InvalidSignatureException", text)


def test_headers_that_must_be_signed(raw):
    all_ = ["content-type", "host", "x-amz-date", "x-amz-target"]
    for left_out in ("host", "x-amz-date", "x-amz-target"):
        answer = raw.call("ListKeys", signed=[name for name in all_ if name != left_out])
        assert answer.kind == "InvalidSignatureException" and left_out in answer.message.lower()
    answer = raw.call("ListKeys", unsigned={"X-Amz-Extra": "1"})
    assert answer.kind == "InvalidSignatureException" and "x-amz-extra" in answer.message.lower()
    for names in (
        all_[::-1],
        [*all_, "x-amz-target"],
        [*all_, "x-not-there"],
        [name.upper() for name in all_],
    ):
        assert raw.call("ListKeys", signed=names).kind == "IncompleteSignatureException"


def test_no_authorization(raw):
    answer = raw.call("ListKeys", change=lambda _: [])
    assert (answer.status, answer.kind) == (400, "MissingAuthenticationTokenException")
    query = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=" + "0" * 64
    answer = raw.call("ListKeys", path=query, change=lambda _: [])
    assert (answer.status, answer.kind) == (400, "IncompleteSignatureException")


def test_an_authorization_that_is_none(raw):
    for change in (
        lambda right: [right, right],
        lambda right: [right.replace("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA512 ")],
        lambda right: [right.partition(", SignedHeaders")[0]],
        lambda right: [right.replace("Credential=", "Credentials=")],
        lambda right: [right.replace("/kms/", "/")],
        lambda right: [right + ", Signature=" + "0" * 64],
        lambda right: [right.replace("Signature=", "Signature")],
    ):
        answer = raw.call("ListKeys", change=change)
        assert (answer.status, answer.kind) == (400, "IncompleteSignatureException"), answer.body
    answer = raw.call("ListKeys", change=lambda _: ["AWS4-HMAC-SHA256"])
    assert (answer.status, answer.kind) == (400, "IncompleteSignatureException"), answer.body
    for value in ("Basic YTpi", "Bearer x", ""):
        answer = raw.call("ListKeys", change=lambda _: [value])
        assert (answer.status, answer.kind) == (400, "MissingAuthenticationTokenException"), answer.body


UNKNOWN = "The security token included in the request is invalid."


def test_an_access_key_that_is_not_there(raw):
    def swap(right):
        return [right.replace(raw.access.key_id, "AKIAIOSFODNN7EXAMPLE")]

    expect(raw.call("ListKeys", change=swap), "UnrecognizedClientException", UNKNOWN)
    # A token that was not asked for is not believed.
    answer = raw.call("ListKeys", headers={"X-Amz-Security-Token": "a token"})
    expect(answer, "UnrecognizedClientException", UNKNOWN)


def test_a_temporary_access_key_needs_its_session_token(aws, tmp_path):
    who, _, _ = issue(aws, aws.developer, "visitor", tmp_path, "developer")
    key = json.loads(aws.done(aws.developer, "--json", "access-key", "create", who, "--minutes", 15))
    given = Access(aws.environment, key["id"], key["secret"], key["session_token"])
    assert "Keys" in given.client().list_keys(Limit=1)
    for token in (None, "x", key["session_token"][:-4] + "AAAA"):
        other = Access(aws.environment, key["id"], key["secret"], token)
        with refused("UnrecognizedClientException", UNKNOWN):
            other.client().list_keys()
    # The token is signed too.
    answer = Raw(given).call("ListKeys", unsigned={"X-Amz-Security-Token": key["session_token"]})
    assert answer.kind == "InvalidSignatureException"


def test_an_imported_access_key(aws, tmp_path):
    who, _, _ = issue(aws, aws.developer, "migrant", tmp_path, "developer")
    id_, secret = "AKIAMIGRANTSEXAMPLE1", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    aws.done(aws.developer, "access-key", "import", who, id_, stdin=secret.encode() + b"\n")
    assert "Keys" in Access(aws.environment, id_, secret).client().list_keys(Limit=1)


def test_an_access_key_that_was_disabled(aws, tmp_path):
    _, id_, access = issue(aws, aws.developer, "disabled-key", tmp_path, "developer")
    mine = Raw(access)
    assert mine.call("ListKeys").status == 200
    aws.done(aws.developer, "access-key", "disable", id_)
    expect(mine.call("ListKeys"), "UnrecognizedClientException", UNKNOWN)


def test_an_identity_that_was_revoked(aws, tmp_path):
    who, _, access = issue(aws, aws.developer, "revoked", tmp_path, "developer")
    mine = Raw(access)
    assert mine.call("ListKeys").status == 200
    aws.done(aws.developer, "identity", "revoke", who)
    expect(mine.call("ListKeys"), "UnrecognizedClientException", UNKNOWN)


# The envelope


def test_operations_that_are_not_there(raw):
    for target in ("Nothing", "encrypt", "", "ListKeysX"):
        assert raw.call(target).kind == "UnknownOperationException"
    for target in (
        "KMS.ListKeys",
        "TrentService",
        "TrentService.ListKeys.ListKeys",
        "DynamoDB_20120810.ListTables",
    ):
        assert raw.call("", headers={"X-Amz-Target": target}).kind == "UnknownOperationException"
    assert raw.call("ListKeys", drop={"X-Amz-Target"}).kind == "UnknownOperationException"


def test_other_methods_paths_and_media(raw):
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "TRACE"):
        expect(raw.call("ListKeys", method=method), "UnknownOperationException")
    for path in ("/v1/keys", "//", "/x"):
        expect(raw.call("ListKeys", path=path), "UnknownOperationException")
    for media in ("text/plain", "application/json", "application/cbor", "application/x-amz-json-1.0"):
        expect(raw.call("ListKeys", headers={"Content-Type": media}), "UnknownOperationException")


def test_a_body_over_the_limit(raw):
    for length in (300_000, 3_000_000):
        answer = raw.call("Encrypt", b'{"KeyId": "' + b"x" * length + b'"}')
        assert (answer.status, answer.kind) == (413, "RequestEntityTooLargeException"), answer.body[:200]


def encrypt(key, members):
    """The body of an Encrypt whose members are given as text."""
    return f'{{"KeyId": "{key}", "Plaintext": "AAAA"{members}}}'.encode()


def test_what_is_not_json(raw, key):
    deep = "[" * 20_000 + "]" * 20_000
    for body in (
        b"", b"{", b"null", b"[]", b'"x"', b"{} {}", b"\xff", b'{"KeyId": "\xff"}', b"{'KeyId': 'x'}", b'{"a": 1,}',
        b'{"KeyId": "\\ud800"}', b'{"KeyId": "\\q"}', b'{"KeyId": "\n"}', b'{"Limit": 01}', b'{"Limit": +1}',
        b'{"KeyId": "' + key.encode(), encrypt(key, f', "Unknown": {deep}'), deep.encode(), b'{"a":' * 20_000,
        encrypt(key, f', "KeyId": "{key}"'),
        encrypt(key, ', "EncryptionContext": {"a": "b", "a": "c"}'),
        encrypt(key, ', "Unknown": {"a": 1, "a": 2}'),
    ):  # fmt: skip
        answer = raw.call("Encrypt", body)
        assert (answer.status, answer.kind) == (400, "SerializationException"), body[:60]


def test_members_of_another_type(raw, key):
    plaintext = {"KeyId": key, "Plaintext": "AAAA"}
    for operation, members, text in (
        ("GenerateRandom", {"NumberOfBytes": "16"}, "STRING_VALUE can not be converted to an Integer"),
        ("GenerateRandom", {"NumberOfBytes": True}, "TRUE_VALUE can not be converted to an Integer"),
        ("GenerateRandom", {"NumberOfBytes": [16]}, None),
        ("DescribeKey", {"KeyId": 1}, "NUMBER_VALUE can not be converted to a String"),
        ("Encrypt", {"KeyId": key, "Plaintext": 5}, "NUMBER_VALUE can not be converted to a ByteBuffer"),
        ("Encrypt", plaintext | {"EncryptionContext": "a=b"}, None),
        ("Encrypt", plaintext | {"EncryptionContext": {"a": 1}}, None),
        ("Encrypt", plaintext | {"DryRun": "true"}, "STRING_VALUE can not be converted to a Boolean"),
        ("Encrypt", plaintext | {"GrantTokens": {"a": "b"}}, None),
        ("CreateKey", {"Tags": [{"TagKey": "a", "TagValue": None}]}, ...),
        ("CreateKey", {"Tags": ["a"]}, None),
    ):  # fmt: skip
        answer = raw.call(operation, members)
        assert answer.status == 400, answer.body
        if text is ...:
            assert answer.kind == "ValidationException"
        else:
            assert answer.kind == "SerializationException" and text in (None, answer.message), answer.body


@pytest.mark.parametrize("text", ["AAA", "A", "A===", "AAAA=", "AA-_", "AAAA\\n", " AAAA", "AB==", "*", "AA=A"])
def test_base64_that_is_none(raw, key, text):
    body = f'{{"KeyId": "{key}", "Plaintext": "{text}"}}'.encode()
    assert raw.call("Encrypt", body).kind == "SerializationException"


def test_unknown_members_are_ignored(raw, key):
    extra = ', "Unknown": [1, {"a": null, "b": 1.5e3, "c": "\\u00e4"}], "plaintext": 5'
    assert raw.call("Encrypt", encrypt(key, extra)).status == 200
    assert raw.call("Encrypt", encrypt(key, ', "EncryptionContext": null, "GrantTokens": null')).status == 200


# Limits of the model


def broken(value, at, rule):
    """AWS's words for one broken limit; of a secret the value is not repeated."""
    value = f"Value {value}".rstrip()
    return f"1 validation error detected: {value} at '{at}' failed to satisfy constraint: Member must {rule}"


def at_most(value, at, limit, quality="length"):
    return broken(value, at, f"have {quality} less than or equal to {limit}")


def at_least(value, at, limit, quality="length"):
    return broken(value, at, f"have {quality} greater than or equal to {limit}")


def pattern(text):
    """The text with `...` for whatever stands there."""
    return re.compile(re.escape(text).replace(re.escape("..."), ".*"))


def test_what_the_model_does_not_allow(raw, key):
    plaintext = {"KeyId": key, "Plaintext": "AAAA"}
    long, blob = "k" * 2049, base64.b64encode(bytes(6145)).decode()
    buffer = "'java.nio.HeapByteBuffer[pos=0 lim=6145 cap=6145]'"
    enumeration = broken("'ROT13'", "encryptionAlgorithm", "satisfy enum value set: [...RSAES_OAEP_SHA_256...]")
    spaced = broken("'alias/a b'", "aliasName", "satisfy regular expression pattern: ...")
    tokens = f"'[{', '.join(['x'] * 11)}]'"
    names = broken(f"'[a, {'k' * 129}]'", "tagKeys", "satisfy constraint: [...less than or equal to 128...]")
    both = (
        "2 validation errors detected: Value null at 'keyId' ...; Value null at 'plaintext' ... Member must not be null"
    )
    for operation, members, text in (
        ("GenerateRandom", {"NumberOfBytes": 1025}, at_most("'1025'", "numberOfBytes", 1024, "value")),
        ("GenerateRandom", {"NumberOfBytes": -1}, at_least("'-1'", "numberOfBytes", 1, "value")),
        ("Encrypt", plaintext | {"Plaintext": blob}, at_most("", "plaintext", 4096)),
        ("Encrypt", plaintext | {"Plaintext": ""}, at_least("", "plaintext", 1)),
        ("Encrypt", {"KeyId": key}, broken("null", "plaintext", "not be null")),
        ("Encrypt", {}, pattern(both)),
        ("DescribeKey", {"KeyId": long}, at_most(f"'{long}'", "keyId", 2048)),
        ("Decrypt", {"CiphertextBlob": blob}, at_most(buffer, "ciphertextBlob", 6144)),
        ("ListKeys", {"Limit": 1001}, at_most("'1001'", "limit", 1000, "value")),
        ("Encrypt", plaintext | {"EncryptionAlgorithm": "ROT13"}, pattern(enumeration)),
        ("Encrypt", plaintext | {"GrantTokens": ["x"] * 11}, at_most(tokens, "grantTokens", 10)),
        ("UntagResource", {"KeyId": key, "TagKeys": ["a", "k" * 129]}, pattern(names)),
        ("CreateAlias", {"AliasName": "alias/a b", "TargetKeyId": key}, pattern(spaced)),
        (
            "EnableKeyRotation",
            {"KeyId": key, "RotationPeriodInDays": 89},
            at_least("'89'", "rotationPeriodInDays", 90, "value"),
        ),
    ):
        expect(raw.call(operation, members), "ValidationException", text)


def test_contexts_that_are_too_long(raw, key):
    for context in (
        {"a": "v" * 9000},
        {f"key {number}": "v" for number in range(65)},
        {"": "empty key"},
        {"k" * 9000: ""},
    ):
        answer = raw.call("Encrypt", {"KeyId": key, "Plaintext": "AAAA", "EncryptionContext": context})
        assert (answer.status, answer.kind) == (400, "ValidationException"), answer.body


def test_identifiers_of_no_key(raw, key):
    where = key.rpartition("key/")[0]
    for named, kind, text in (
        ("x", "NotFoundException", "Invalid keyId 'x'"),
        (NO_KEY, "NotFoundException", f"Key '{where}key/{NO_KEY}' does not exist"),
        (NO_KEY.upper(), "NotFoundException", None),
        (f"{where}key/{NO_KEY}", "NotFoundException", f"Key '{where}key/{NO_KEY}' does not exist"),
        ("alias/none", "NotFoundException", f"Alias {where}alias/none is not found."),
        (f"{where}alias/none", "NotFoundException", f"Alias {where}alias/none is not found."),
        (re.sub(r":\d{12}:", ":999999999999:", key), ..., None),
        ("arn:aws:s3:::bucket", ..., None),
        ("arn:aws:kms", ..., None),
        (f"{where}key/", ..., None),
        (f"{where}grant/x", ..., None),
        ("alias/", ..., None),
        ("a\0b", ..., None),
        ("../" + NO_KEY, ..., None),
    ):
        answer = raw.call("DescribeKey", {"KeyId": named})
        assert answer.status == 400, answer.body
        wanted = ("NotFoundException", "InvalidArnException", "ValidationException") if kind is ... else (kind,)
        assert answer.kind in wanted and text in (None, answer.message), (named, answer.body)


# What belongs to others


def test_markers(aws, raw, kms, key, tmp_path):
    _, _, access = issue(aws, aws.developer, "pager", tmp_path, "developer")
    other = access.client()
    for _ in range(3):
        create(kms)
    marker = kms.list_keys(Limit=1)["NextMarker"]
    kms.list_keys(Limit=1, Marker=marker)
    for call in (
        lambda: other.list_keys(Limit=1, Marker=marker),
        lambda: kms.list_aliases(Limit=1, Marker=marker),
        lambda: kms.list_keys(Marker=marker[:-1] + ("A" if marker[-1] != "A" else "B")),
        lambda: kms.list_keys(Marker="x"),
        lambda: kms.list_keys(Marker=marker + "A"),
    ):
        with refused("InvalidMarkerException"):
            call()
    name = "alias/marked-" + key[-12:]
    for number in range(3):
        kms.create_alias(AliasName=f"{name}-{number}", TargetKeyId=key)
    marker = kms.list_aliases(KeyId=key, Limit=1)["NextMarker"]
    with refused("InvalidMarkerException"):
        kms.list_aliases(Limit=1, Marker=marker)


def test_grant_tokens(kms, key):
    for token in ("x", base64.b64encode(bytes(100)).decode(), "=" * 8192):
        with refused("InvalidGrantTokenException"):
            kms.encrypt(KeyId=key, Plaintext=b"x", GrantTokens=[token])
        with refused("InvalidGrantTokenException"):
            kms.retire_grant(GrantToken=token)


def test_recipients(kms, key):
    recipient = {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": b"a document"}
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    for call in (
        lambda: kms.decrypt(CiphertextBlob=blob, Recipient=recipient),
        lambda: kms.generate_data_key(KeyId=key, KeySpec="AES_256", Recipient=recipient),
        lambda: kms.generate_data_key_pair(KeyId=key, KeyPairSpec="ECC_NIST_P256", Recipient=recipient),
        lambda: kms.generate_random(NumberOfBytes=1, Recipient=recipient),
    ):
        with refused("UnsupportedOperationException") as caught:
            call()
        assert "attestation" in caught.value.response["Error"]["Message"]


def test_requests_that_contradict_themselves(kms, key):
    with refused("ValidationException", "Please specify either number of bytes or key spec."):
        kms.generate_data_key(KeyId=key)
    with refused("ValidationException", "Please specify either number of bytes or key spec."):
        kms.generate_data_key(KeyId=key, KeySpec="AES_256", NumberOfBytes=32)
    rsa = create(kms, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["Arn"]
    members = {"KeyId": rsa, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    blob = kms.encrypt(Plaintext=b"x", **members)["CiphertextBlob"]
    for call in (
        lambda: kms.encrypt(Plaintext=b"x", EncryptionContext={"a": "b"}, **members),
        lambda: kms.decrypt(CiphertextBlob=blob, EncryptionContext={"a": "b"}, **members),
        lambda: kms.decrypt(CiphertextBlob=blob, EncryptionAlgorithm="RSAES_OAEP_SHA_256"),
        lambda: kms.create_key(KeySpec="RSA_2048", KeyUsage="GENERATE_VERIFY_MAC"),
        lambda: kms.create_key(KeySpec="RSA_2048", CustomerMasterKeySpec="RSA_3072", KeyUsage="SIGN_VERIFY"),
        lambda: kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=0),
    ):
        with pytest.raises(Exception) as caught:
            call()
        assert "ValidationException" in str(caught.value) or "Parameter validation" in str(caught.value)
    with refused("InvalidKeyUsageException"):
        kms.encrypt(KeyId=key, Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_256")
