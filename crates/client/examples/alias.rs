//! Points the alias `orders` at one key, then at another: programs that use it need no change.
//! An alias that exists is never moved by mistake: it is deleted first.

use keyhearth_client::{Algorithm, Client, Page};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    for algorithm in [Algorithm::Aes128, Algorithm::Aes256] {
        let key = client.create_key(&algorithm.into()).await?.id.to_string();
        client.set_alias(&key, "orders").await?;
        println!("orders is {}", client.describe_key("orders").await?.algorithm);
        for alias in client.list_aliases(&Page::default()).await?.aliases {
            println!("{} points at {}", alias.alias, alias.key);
        }
        client.delete_alias("orders", "orders").await?;
    }
    Ok(())
}
