//! Makes a shared secret and its encapsulation with ML-KEM-768, and recovers the secret from it.

use keyhearth_client::{Algorithm, Client, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let key = client.create_key(&Algorithm::MlKem768.into()).await?.id.to_string();
    let made = client.encapsulate(&key).await?;
    let body = body::Decapsulate {
        version: body::Number::new(made.version),
        encapsulated: made.encapsulated.to_vec().into(),
    };
    let recovered = client.decapsulate(&key, &body).await?;
    assert_eq!(made.secret, recovered.secret);
    println!("a shared secret of {} bytes", recovered.secret.len());
    Ok(())
}
