use super::*;

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const HOST: Header<'static> = ("host", b"example.amazonaws.com");
const DATE: Header<'static> = ("x-amz-date", b"20150830T123600Z");
const KMS: Scope<'static> = Scope { region: "us-east-1", service: "kms" };

/// 2015-08-30T12:36:00Z
const THEN: Time = Time::from_unix_ms(1_440_938_160_000);

/// The signature in the header that [`authorization`] makes.
fn signature(method: &str, path: &str, query: &str, headers: &[Header<'_>], service: &str) -> String {
    let scope = Scope { region: "us-east-1", service };
    let key = SigningKey::derive(SECRET, "20150830", scope);
    let message = Message { method, path, query, headers };
    let header = authorization(&message, &sha256(&[]), scope, ("AKIDEXAMPLE", &key)).unwrap();
    header.rsplit_once('=').unwrap().1.to_owned()
}

/// The examples that AWS has published.
#[test]
fn published_signatures_are_made() {
    for (method, path, query, more, expected) in [
        ("GET", "/", "", None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "", None, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            "/",
            "Param2=value2&Param1=value1",
            None,
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("GET", "/example/..", "", None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ] {
        let headers: Vec<_> = [HOST, DATE].into_iter().chain(more).collect();
        assert_eq!(signature(method, path, query, &headers, "service"), expected, "{method} {path}?{query}");
    }
    let trimmed = [HOST, ("my-header1", &b" value1"[..]), ("my-header2", b" \"a   b   c\""), DATE];
    let expected = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736";
    assert_eq!(signature("GET", "/", "", &trimmed, "service"), expected);
    let list_users = [
        ("content-type", &b"application/x-www-form-urlencoded; charset=utf-8"[..]),
        ("host", b"iam.amazonaws.com"),
        DATE,
    ];
    let expected = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
    assert_eq!(signature("GET", "/", "Action=ListUsers&Version=2010-05-08", &list_users, "iam"), expected);
}

/// A good request of KMS, changed; what refuses it.
fn refused(change: impl FnOnce(&mut Vec<(&'static str, Vec<u8>)>), at: Now) -> Refusal {
    let body = sha256(&[b"{}"]);
    let key = SigningKey::derive(SECRET, "20150830", KMS);
    let target = ("x-amz-target", &b"TrentService.ListKeys"[..]);
    let signed = [HOST, DATE, target, ("x-amz-security-token", b"token")];
    let message = Message { method: "POST", path: "/", query: "", headers: &signed };
    let header = authorization(&message, &body, KMS, ("AKIDEXAMPLE", &key)).unwrap();
    let mut headers: Vec<_> = signed.iter().map(|(name, value)| (*name, value.to_vec())).collect();
    headers.push(("authorization", header.into_bytes()));
    change(&mut headers);
    let headers: Vec<Header<'_>> = headers.iter().map(|(name, value)| (*name, &value[..])).collect();
    let message = Message { headers: &headers, ..message };
    let checked = Claim::read(&message, KMS).and_then(|claim| {
        assert_eq!((claim.access_key, claim.date), ("AKIDEXAMPLE", "20150830"));
        claim.is_timely(at)?;
        claim.verify(&message, &body, &key)
    });
    checked.expect_err("it was to be refused")
}

/// With `from` in the `Authorization` header replaced by `to`.
fn rewritten(from: &'static str, to: &'static str) -> Refusal {
    let change = |headers: &mut Vec<(&'static str, Vec<u8>)>| {
        let (_, header) = headers.last_mut().unwrap();
        let text = std::str::from_utf8(header).unwrap();
        assert!(text.contains(from), "{text}");
        *header = text.replace(from, to).into_bytes();
    };
    refused(change, Now::exactly(THEN))
}

fn incomplete(text: &str) -> Refusal {
    Refusal::Incomplete(text.to_owned())
}

fn invalid(text: &str) -> Refusal {
    Refusal::Invalid(text.to_owned())
}

fn mismatch() -> Refusal {
    invalid(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
         Access Key and signing method. Consult the service documentation for details.",
    )
}

#[test]
fn debug_shows_no_session_token_and_no_signature() {
    let header = b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/kms/aws4_request, \
                   SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=5ec4e7";
    let headers = [HOST, DATE, ("x-amz-security-token", b"5ec4e7"), ("authorization", header)];
    let message = Message { method: "POST", path: "/", query: "X-Amz-Signature=5ec4e7", headers: &headers };
    let claim = Claim::read(&message, KMS).unwrap();
    let shown = format!("{message:?} {claim:?}");
    let secret = ["5ec4e7".to_owned(), format!("{:?}", b"5ec4e7")];
    assert!(shown.contains("AKIDEXAMPLE") && secret.iter().all(|secret| !shown.contains(secret)), "{shown}");
}

#[test]
fn what_was_signed_is_accepted_and_nothing_else() {
    let now = Now::exactly(THEN);
    let value = |name: &'static str, value: &'static [u8]| {
        move |headers: &mut Vec<(&'static str, Vec<u8>)>| {
            headers.iter_mut().filter(|(found, _)| *found == name).for_each(|(_, v)| *v = value.to_vec());
        }
    };
    let caught = std::panic::catch_unwind(|| refused(|_| (), now));
    assert!(caught.is_err(), "unchanged it is good");
    assert_eq!(refused(value("host", b"elsewhere.amazonaws.com"), now), mismatch());
    assert_eq!(refused(value("x-amz-target", b"TrentService.Decrypt"), now), mismatch());
    assert_eq!(refused(value("x-amz-security-token", b"other"), now), mismatch());
    assert_eq!(refused(value("x-amz-date", b"20150830T123601Z"), now), mismatch());
    assert_eq!(rewritten("Signature=", "Signature=0"), mismatch());
    for digit in ["0", "F", "g"] {
        let last = move |headers: &mut Vec<(&'static str, Vec<u8>)>| {
            let (_, header) = headers.last_mut().unwrap();
            let end = header.len() - 1;
            let other = if header[end] == b'0' { b"1" } else { digit.as_bytes() };
            header.splice(end.., other.iter().copied());
        };
        assert_eq!(refused(last, now), mismatch());
    }
    let unsigned = |headers: &mut Vec<(&'static str, Vec<u8>)>| {
        headers.push(("x-amz-content-sha256", b"UNSIGNED-PAYLOAD".to_vec()));
    };
    let text = "There were headers present in the request which were not signed: x-amz-content-sha256";
    assert_eq!(refused(unsigned, now), invalid(text));
}

#[test]
fn a_body_that_is_not_hashed_is_refused() {
    let headers = [HOST, DATE, ("x-amz-content-sha256", &b"UNSIGNED-PAYLOAD"[..])];
    let message = Message { method: "POST", path: "/", query: "", headers: &headers };
    let key = SigningKey::derive(SECRET, "20150830", KMS);
    let header = authorization(&message, &[0; 32], KMS, ("AKIDEXAMPLE", &key)).unwrap();
    let headers = [headers[0], headers[1], headers[2], ("authorization", header.as_bytes())];
    let message = Message { headers: &headers, ..message };
    let claim = Claim::read(&message, KMS).unwrap();
    let text = "The provided 'x-amz-content-sha256' header does not match what was computed.";
    assert_eq!(claim.verify(&message, &[0; 32], &key), Err(invalid(text)));
}

#[test]
fn what_is_missing_is_said() {
    let now = Now::exactly(THEN);
    let drop_last = |headers: &mut Vec<(&'static str, Vec<u8>)>| drop(headers.pop());
    assert_eq!(refused(drop_last, now), Refusal::Missing);
    assert_eq!(Refusal::Missing.to_string(), "Request is missing Authentication Token");
    assert_eq!(rewritten("AWS4-HMAC-SHA256 ", "Bearer "), Refusal::Missing);
    assert_eq!(
        rewritten("AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 "),
        incomplete("Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'.")
    );
    let twice = |headers: &mut Vec<(&'static str, Vec<u8>)>| headers.extend(headers.last().cloned());
    assert_eq!(refused(twice, now), incomplete("There is more than one 'authorization' header."));
    let nothing = |headers: &mut Vec<(&'static str, Vec<u8>)>| {
        *headers = vec![("authorization", b"AWS4-HMAC-SHA256".to_vec())];
    };
    let Refusal::Incomplete(text) = refused(nothing, now) else { panic!("nothing is there") };
    let expected = "Authorization header requires 'Credential' parameter. \
                    Authorization header requires 'Signature' parameter. \
                    Authorization header requires 'SignedHeaders' parameter. \
                    Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. \
                    (Hashed with SHA-256 and encoded with Base64) Authorization=";
    assert!(text.starts_with(expected), "{text}");
    for (from, to, said) in [
        ("Credential=", "Credential", "Invalid key=value pair (missing equal-sign) in Authorization header"),
        ("Credential=", "Credentials=", "Authorization header has no 'Credentials' parameter."),
        ("Signature=", "Signature=a, Signature=", "Authorization header has 'Signature' twice."),
        ("/kms/", "/", "Credential must have exactly 5 slash-delimited elements"),
        ("/kms/", "/kms/kms/", "Credential must have exactly 5 slash-delimited elements"),
        ("host;x-amz-date;", "x-amz-date;host;", "SignedHeaders must be sorted"),
        ("host;", "host;host;", "SignedHeaders must be sorted"),
        ("=host;", "=Host;", "'Host' is named as a SignedHeader, but it does not exist in the HTTP request."),
        ("=host;", "=accept;host;", "'accept' is named as a SignedHeader, but it does not exist"),
    ] {
        let Refusal::Incomplete(text) = rewritten(from, to) else { panic!("{said}") };
        assert!(text.starts_with(said), "{text}");
    }
    let in_query = Message { method: "POST", path: "/", query: "a=b&X-Amz-Signature=00", headers: &[HOST] };
    assert!(matches!(Claim::read(&in_query, KMS), Err(Refusal::Incomplete(text)) if text.contains("query")));
}

#[test]
fn what_was_signed_for_something_else_is_refused() {
    for (from, to, said) in [
        ("us-east-1", "eu-west-1", "Credential should be scoped to a valid region. "),
        ("/kms/", "/s3/", "Credential should be scoped to correct service: 'kms'. "),
        (
            "us-east-1/kms/",
            "eu-west-1/s3/",
            "Credential should be scoped to a valid region. \
             Credential should be scoped to correct service: 'kms'. ",
        ),
        (
            "aws4_request",
            "aws5_request",
            "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. ",
        ),
        (
            "/20150830/",
            "/20150829/",
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
             '20150829' != '20150830', from '20150830T123600Z'. ",
        ),
        ("=host;", "=", "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."),
        (
            ";x-amz-target",
            "",
            "There were headers present in the request which were not signed: x-amz-target",
        ),
        (
            ";x-amz-security-token",
            "",
            "There were headers present in the request which were not signed: x-amz-security-token",
        ),
    ] {
        assert_eq!(rewritten(from, to), invalid(said));
    }
}

#[test]
fn five_minutes_are_the_limit() {
    let at = |ms: u64| Now::exactly(Time::from_unix_ms(THEN.unix_ms().wrapping_add(ms)));
    let timely = |now: Now| {
        let key = SigningKey::derive(SECRET, "20150830", KMS);
        let message = Message { method: "POST", path: "/", query: "", headers: &[HOST, DATE] };
        let header = authorization(&message, &[0; 32], KMS, ("AKIDEXAMPLE", &key)).unwrap();
        let headers = [HOST, DATE, ("authorization", header.as_bytes())];
        let message = Message { headers: &headers, ..message };
        Claim::read(&message, KMS).unwrap().is_timely(now)
    };
    let minus = |ms: u64| at(ms.wrapping_neg());
    for now in [at(0), at(300_999), minus(300_000), Now { earliest: at(0).earliest, latest: Time::MAX }] {
        assert_eq!(timely(now), Ok(()), "{now:?}");
    }
    assert_eq!(
        timely(at(301_000)),
        Err(invalid(
            "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z \
             (20150830T124101Z - 5 min.)"
        ))
    );
    assert_eq!(
        timely(minus(301_000)),
        Err(invalid(
            "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z \
             (20150830T123059Z + 5 min.)"
        ))
    );
}

#[test]
fn dates_have_one_spelling() {
    for stamp in ["20150830T123600Z", "19700101T000000Z", "99991231T235959Z"] {
        assert_eq!(Stamp(read_stamp(stamp).unwrap()).to_string(), stamp);
    }
    for stamp in [
        "",
        "20150830",
        "2015-08-30T12:36:00Z",
        "20150830T123600",
        "20150230T123600Z",
        "20150830t123600z",
        "20150830T1236000Z",
        "2015083éT12360Z",
        "Sun, 30 Aug 2015 12:36:00 GMT",
    ] {
        assert_eq!(read_stamp(stamp), None, "{stamp}");
    }
}
