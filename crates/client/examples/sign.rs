//! Signs a message with the key `releases` and lets the server verify the signature.

use keyhearth_client::{Client, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let message = || Some(b"release 1.2.3"[..].into());
    let body = body::Sign { message: message(), ..Default::default() };
    let signed = client.sign("releases", &body).await?;
    let body = body::Verify {
        mechanism: None,
        version: body::Number::new(signed.version),
        message: message(),
        digest: None,
        signature: signed.signature.to_vec().into(),
    };
    let verified = client.verify("releases", &body).await?;
    println!("{} signature: {}", signed.mechanism, if verified.valid { "good" } else { "bad" });
    Ok(())
}
