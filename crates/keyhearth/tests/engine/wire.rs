//! What only shows on the wire: connections that stay while who uses them changes.

use keyhearth::identity::generate_key_and_csr;
use keyhearth::server::begin_dev;
use keyhearth_client::{Client, Is, Role, body};

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_ends_has_ended_on_its_open_connection() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let running = begin_dev(&data).await.unwrap();
    let url = running.ready.url.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(running.until(async { drop(stopped.await) }));
    let read = |name: &str| std::fs::read(data.join(name)).unwrap();
    let client = |certificate: &[u8], key: &[u8]| {
        Client::new(&url, &read("ca.crt"), Some((certificate, key))).unwrap()
    };
    let dev = client(&read("dev.crt"), &read("dev.key"));

    let (key, request) = generate_key_and_csr("web").unwrap();
    let roles = vec![Is(Role::KeyUser)];
    let new =
        body::NewIdentity { name: Is("web".parse().unwrap()), roles, request: request.into(), days: None };
    let issued = dev.issue_identity(&new).await.unwrap();
    let web = client(issued.certificate.as_bytes(), key.as_bytes());
    web.who_am_i().await.unwrap();
    dev.revoke_identity(issued.identity.id.0).await.unwrap();
    assert_eq!(web.who_am_i().await.unwrap_err().code(), Some("unauthenticated"));
    let again = client(issued.certificate.as_bytes(), key.as_bytes());
    assert_eq!(again.who_am_i().await.unwrap_err().code(), Some("unauthenticated"));
    let nobody = Client::new(&url, &read("ca.crt"), None).unwrap();
    assert_eq!(nobody.who_am_i().await.unwrap_err().code(), Some("unauthenticated"));

    stop.send(()).unwrap();
    server.await.unwrap();
}
