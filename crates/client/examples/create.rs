//! Creates an AES-256 key with an alias, rotates it, and shows its versions.

use keyhearth_client::{Algorithm, Client, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let key = client
        .create_key(&body::NewKey {
            algorithm: Algorithm::Aes256.into(),
            usage: None,
            exportable: None,
            import: None,
            description: Some("invoices of the shop".to_owned().into()),
            tags: None,
            alias: Some("invoices".parse::<keyhearth_client::id::Alias>()?.into()),
            activation: None,
            cryptoperiod: None,
            rotate_days: body::Days::new(90),
        })
        .await?;
    let key = client.because("trying out rotation").rotate_key(&key.id.to_string()).await?;
    for version in &key.versions {
        println!("version {} is {}", version.number, version.state);
    }
    Ok(())
}
