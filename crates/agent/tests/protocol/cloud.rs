//! What the cloud says of a machine: how its metadata service is asked, and what happens without its document.

use std::sync::atomic::AtomicBool;

use super::*;

/// A metadata service that says to each request, its line and its headers, what the test says. Gives the configuration.
fn metadata(cloud: &str, act: impl Fn(&str) -> (u16, Vec<u8>) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let (status, body) = act(std::str::from_utf8(&request).unwrap());
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    format!("cloud = \"{cloud}\"\nmetadata = \"http://127.0.0.1:{port}\"")
}

/// The documents that a server gets, each with the transcript of its request.
type Documents = Arc<Mutex<Vec<(Option<Vec<u8>>, Transcript)>>>;

/// A machine with this configuration, and what its server gets.
fn showing(more: &str) -> (Scene, Documents) {
    let documents = Documents::default();
    let seen = Arc::clone(&documents);
    let scene = Scene::new(more, move |path, body| {
        if path == "/boot/v1/attest" {
            let attest: Attest = read(body).unwrap();
            let document = attest.cloud.as_ref().map(|document| document.to_vec());
            documents.lock().unwrap().push((document, transcript(&attest, &["root"])));
        }
        released_to_all(path, body)
    });
    (scene, seen)
}

#[test]
fn the_document_of_aws_is_asked_for_with_a_token() {
    let (scene, seen) = showing(&metadata("aws", |request| {
        if request.starts_with("PUT /latest/api/token HTTP/1.1\r\n") {
            assert!(request.contains("\r\nx-aws-ec2-metadata-token-ttl-seconds: 60\r\n"), "{request}");
            return (200, b"a-token==".to_vec());
        }
        assert!(
            request.starts_with("GET /latest/dynamic/instance-identity/rsa2048 HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("\r\nx-aws-ec2-metadata-token: a-token==\r\n"), "{request}");
        (200, b"document".to_vec())
    }));
    scene.attempt().unwrap();
    assert_eq!(seen.lock().unwrap()[0].0.as_deref(), Some(&b"document"[..]));
}

#[test]
fn the_document_of_gcp_is_asked_for_with_the_transcript_as_audience() {
    let (scene, seen) = showing(&metadata("gcp", |request| {
        assert!(request.contains("\r\nmetadata-flavor: Google\r\n"), "{request}");
        (200, request.lines().next().unwrap().as_bytes().to_vec())
    }));
    scene.attempt().unwrap();
    let (document, transcript) = seen.lock().unwrap()[0].clone();
    let audience = keyhearth_attest::cloud::audience(&transcript.0);
    let line = format!(
        "GET /computeMetadata/v1/instance/service-accounts/default/identity?audience={audience}&format=full HTTP/1.1"
    );
    assert_eq!(String::from_utf8(document.unwrap()).unwrap(), line);
}

/// The first document is one that was kept, for another nonce.
#[test]
fn the_document_of_azure_is_asked_for_until_it_has_the_nonce() {
    let asked = AtomicUsize::new(0);
    let (scene, seen) = showing(&metadata("azure", move |request| {
        assert!(request.contains("\r\nmetadata: true\r\n"), "{request}");
        let nonce =
            request.split_once("/metadata/attested/document?api-version=2021-02-01&nonce=").unwrap().1;
        let nonce = match asked.fetch_add(1, Ordering::SeqCst) {
            0 => "kept",
            _ => &nonce[..10],
        };
        (200, format!(r#"{{"encoding":"pkcs7","signature":"{}"}}"#, STANDARD.encode(nonce)).into_bytes())
    }));
    scene.attempt().unwrap();
    let (document, transcript) = seen.lock().unwrap()[0].clone();
    let nonce = STANDARD.encode(keyhearth_attest::cloud::nonce(&transcript.0));
    assert!(String::from_utf8(document.unwrap()).unwrap().contains(&nonce));
}

#[test]
fn a_metadata_service_that_is_busy_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let (scene, seen) = showing(&metadata("gcp", move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => (429, Vec::new()),
        _ => (200, b"a.document.x".to_vec()),
    }));
    scene.attempt().unwrap();
    assert_eq!(seen.lock().unwrap()[0].0.as_deref(), Some(&b"a.document.x"[..]));
}

/// Somebody approved the boot by then: a service that is silent for a moment must not have it refused.
#[test]
fn a_document_that_came_once_is_waited_for() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let service = metadata("gcp", move |_| match failing.load(Ordering::SeqCst) {
        true => (500, Vec::new()),
        false => (200, b"a.document.x".to_vec()),
    });
    let challenges = AtomicUsize::new(0);
    let scene = Scene::new(&service, move |path, body| {
        if path == "/boot/v1/challenge" {
            fails.store(challenges.fetch_add(1, Ordering::SeqCst) == 1, Ordering::SeqCst);
            return (200, challenged(SERVER));
        }
        let attest: Attest = read(body).unwrap();
        match (attest.cloud, challenges.load(Ordering::SeqCst)) {
            (None, _) => (403, refused()),
            (Some(_), 1) => (202, write(&Pending { approval: Is(RequestId([6; 16])), poll_after_s: 0 })),
            (Some(_), _) => released_to_all(path, body),
        }
    });
    scene.attempt().unwrap();
    assert_eq!(scene.asked(), 5, "the second challenge was not answered");
}

#[test]
fn a_machine_that_boots_goes_on_without_a_document_and_one_that_runs_asks_later() {
    let long = |_: &str| (200, vec![b'x'; keyhearth_proto::boot::CLOUD_BYTES_MAX + 1]);
    let split = |_: &str| (200, b"a\r\nb".to_vec());
    let closed = "cloud = \"gcp\"\nmetadata = \"http://127.0.0.1:1\"".to_owned();
    let services =
        [metadata("gcp", |_| (404, Vec::new())), metadata("gcp", long), metadata("aws", split), closed];
    for service in services {
        let (mut scene, seen) = showing(&service);
        scene.attempt().unwrap();
        assert_eq!(seen.lock().unwrap()[0].0, None);

        held(60_000).write(&scene.state()).unwrap();
        scene.config.volumes[0].late = true;
        let late = open(&scene.config, &Machine::default(), &scene.state(), Extent::Late);
        assert!(
            matches!(&late, Err(Stop::Unreachable(_, why)) if why.contains("no document of")),
            "{late:?}"
        );
        assert_eq!(seen.lock().unwrap().len(), 1, "nothing was asked for without it");
    }
}
