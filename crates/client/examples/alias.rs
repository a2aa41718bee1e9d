//! Points the alias `orders` at one key, then at another: programs that use it need no change.
//! An alias that exists is never taken by mistake: it is moved, or deleted first.

use keyhearth_client::{Algorithm, Client, Page};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let first = client.create_key(&Algorithm::Aes128.into()).await?.id.to_string();
    client.set_alias(&first, "orders").await?;
    let second = client.create_key(&Algorithm::Aes256.into()).await?.id.to_string();
    client.move_alias(&second, "orders").await?;
    println!("orders is {}", client.describe_key("orders").await?.algorithm);
    for alias in client.list_aliases(None, &Page::default()).await?.aliases {
        println!("{} points at {}", alias.alias, alias.key);
    }
    client.delete_alias("orders", "orders").await?;
    Ok(())
}
