//! Signs a message with a new Ed25519 key and lets the server verify the signature.

use keyhearth_client::{Algorithm, Client, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let key = client.create_key(&Algorithm::Ed25519.into()).await?.id.to_string();
    let message = || Some(b"release 1.2.3"[..].into());
    let body = body::Sign { message: message(), ..Default::default() };
    let signed = client.sign(&key, &body).await?;
    let body = body::Verify {
        mechanism: None,
        version: body::Number::new(signed.version),
        message: message(),
        digest: None,
        signature: signed.signature.to_vec().into(),
    };
    let verified = client.verify(&key, &body).await?;
    println!("{} signature: {}", signed.mechanism, if verified.valid { "good" } else { "bad" });
    // Whoever has the public key verifies without the server.
    println!("{} bytes of public key", client.public_key(&key, None).await?.der.len());
    Ok(())
}
