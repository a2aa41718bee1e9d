//! Computes a message authentication code and verifies it.

use keyhearth_client::{Algorithm, Client, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let key = client.create_key(&Algorithm::HmacSha256.into()).await?.id.to_string();
    let body = body::ComputeMac { mechanism: None, message: b"session 17"[..].into() };
    let made = client.mac(&key, &body).await?;
    let body = body::VerifyMac {
        mechanism: None,
        version: body::Number::new(made.version),
        message: body.message,
        mac: made.mac.to_vec().into(),
    };
    let verified = client.verify_mac(&key, &body).await?;
    println!("{}: {}", made.mechanism, if verified.valid { "good" } else { "bad" });
    Ok(())
}
