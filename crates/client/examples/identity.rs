//! Issues an identity that may use keys. Its private key is made here and never leaves.

use keyhearth_client::{Client, Role, body, id::Name};
use rcgen::{CertificateParams, KeyPair};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name: Name = std::env::args().nth(1).ok_or("name the identity")?.parse()?;
    let client = Client::from_env()?;
    let private = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&private)?.pem()?;
    let body = body::NewIdentity {
        name: name.into(),
        roles: vec![Role::KeyUser.into()],
        request: request.into(),
        days: body::Days::new(30),
    };
    let issued = client.issue_identity(&body).await?;
    println!("{} is {}", issued.identity.name, issued.identity.id);
    // Keep `private` and the certificate where the new identity finds them.
    println!("{}", issued.certificate);
    Ok(())
}
