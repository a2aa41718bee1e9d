//! Two parties agree on a secret with X25519; each knows only the other's public key.

use keyhearth_client::{Algorithm, Client, Error, answer, body};

async fn agree(client: &Client, own: &str, peer: &str) -> Result<answer::Shared, Error> {
    let peer = client.public_key(peer, None).await?;
    client.agree(own, &body::Agree { version: None, peer: peer.der.to_vec().into() }).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let ours = client.create_key(&Algorithm::X25519.into()).await?.id.to_string();
    let theirs = client.create_key(&Algorithm::X25519.into()).await?.id.to_string();
    let secret = agree(&client, &ours, &theirs).await?.secret;
    assert_eq!(secret, agree(&client, &theirs, &ours).await?.secret);
    println!("a shared secret of {} bytes", secret.len());
    Ok(())
}
