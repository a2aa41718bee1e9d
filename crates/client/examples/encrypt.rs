//! Encrypts a few bytes under the key `invoices` (example `create`), bound to a context, and decrypts them.

use keyhearth_client::{Client, Pairs, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let context = Some(Pairs::from_iter([("table", "customers"), ("row", "17")]));
    let body =
        body::Encrypt { mechanism: None, context: context.clone(), plaintext: b"4111 1111"[..].into() };
    let encrypted = client.encrypt("invoices", &body).await?;
    let body = body::Decrypt {
        mechanism: None,
        version: None,
        iv: None,
        context,
        ciphertext: encrypted.ciphertext.to_vec().into(),
        lease_seconds: None,
    };
    let decrypted = client.decrypt("invoices", &body).await?;
    println!("{} bytes came back", decrypted.plaintext.len());
    Ok(())
}
