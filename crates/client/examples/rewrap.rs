//! Rotates a key and encrypts a ciphertext anew under the new version; the plaintext stays in the server.

use keyhearth_client::{Algorithm, Client, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let key = client.create_key(&Algorithm::Aes256.into()).await?.id.to_string();
    let body = body::Encrypt { mechanism: None, context: None, plaintext: b"4111 1111"[..].into() };
    let old = client.encrypt(&key, &body).await?;
    client.rotate_key(&key).await?;
    let body = body::Rewrap { ciphertext: old.ciphertext.to_vec().into(), ..body::Rewrap::default() };
    let new = client.rewrap(&key, &body).await?;
    println!("from version {} to version {}", old.version, new.version);
    Ok(())
}
