//! Makes a data key for encrypting large data locally, and recovers it later from its encrypted form.

use keyhearth_client::{Client, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let made = client.data_key("invoices", &body::MakeDataKey::default()).await?;
    // Encrypt the data with `made.plaintext`, keep `made.ciphertext` beside it, forget the plaintext.
    let body = body::Decrypt {
        mechanism: None,
        version: None,
        iv: None,
        context: None,
        ciphertext: made.ciphertext.to_vec().into(),
        lease_seconds: None,
    };
    let recovered = client.decrypt("invoices", &body).await?;
    assert_eq!(made.plaintext.as_deref(), Some(&*recovered.plaintext));
    println!("a data key of {} bytes", recovered.plaintext.len());
    Ok(())
}
