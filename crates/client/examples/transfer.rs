//! Moves the material of an exportable key into another key; nobody on the way can read it.

use keyhearth_client::{Algorithm, Client, ImportMechanism, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let body = body::NewKey { exportable: Some(true), ..Algorithm::HmacSha256.into() };
    let from = client.create_key(&body).await?.id.to_string();
    let body = body::NewKey { import: Some(true), ..Algorithm::HmacSha256.into() };
    let to = client.create_key(&body).await?.id.to_string();
    let mechanism = ImportMechanism::RsaOaepSha256.into();
    let parameters = client.import_parameters(&to, &body::ImportTerms { mechanism, wrapping: None }).await?;
    let body = body::Export {
        version: None,
        mechanism: parameters.mechanism,
        recipient: parameters.public.to_vec().into(),
    };
    let wrapped = client.export_key(&from, &body).await?.wrapped.to_vec();
    let key = client.import_key(&to, &wrapped.into()).await?;
    println!("{} is {}", key.id, key.origin);
    Ok(())
}
