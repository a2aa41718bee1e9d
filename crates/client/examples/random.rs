//! Gets 32 random bytes.

use keyhearth_client::{Client, Within, body};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let bytes = Within::new(32).ok_or("1 to 1024 bytes at a time")?;
    let random = client.random(&body::MakeRandom { bytes }).await?;
    println!("{} random bytes", random.bytes.len());
    Ok(())
}
