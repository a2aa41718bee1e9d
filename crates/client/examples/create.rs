//! Creates the AES-256 key `invoices`, which the server rotates every 90 days, and shows its versions.

use keyhearth_client::{Algorithm, Client, Pairs, body, id::Alias};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let body = body::NewKey {
        description: Some("invoices of the shop".to_owned().into()),
        tags: Some(Pairs::from_iter([("env", "prod")])),
        alias: Some("invoices".parse::<Alias>()?.into()),
        rotate_days: body::Days::new(90),
        ..Algorithm::Aes256.into()
    };
    let key = client.create_key(&body).await?;
    for version in &key.versions {
        println!("version {} of {} is {}", version.number, key.id, version.state);
    }
    Ok(())
}
