//! Wraps a key of another system under a key that never leaves the server, and unwraps it.

use keyhearth_client::{Algorithm, Client, Use, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let usage = Some(vec![Use("wrap").into(), Use("unwrap").into()]);
    let key = client.create_key(&body::NewKey { usage, ..Algorithm::Aes256.into() }).await?.id.to_string();
    let foreign = [7; 32];
    let wrapped = client.wrap(&key, &body::Wrap { mechanism: None, material: foreign[..].into() }).await?;
    let body = body::Unwrap {
        mechanism: None,
        version: body::Number::new(wrapped.version),
        wrapped: wrapped.wrapped.to_vec().into(),
    };
    let unwrapped = client.unwrap_key(&key, &body).await?;
    assert_eq!(unwrapped.material[..], foreign);
    println!("{} bytes wrapped in {}", foreign.len(), wrapped.wrapped.len());
    Ok(())
}
