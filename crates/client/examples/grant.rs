//! Passes the right to decrypt with `invoices` on to another identity, and takes it back.

use keyhearth_client::{Client, Operation, body, id::PrincipalId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let grantee: PrincipalId = std::env::args().nth(1).ok_or("name the grantee's id")?.parse()?;
    let client = Client::from_env()?;
    let body = body::NewGrant::new(grantee, [Operation::Decrypt]);
    let grant = client.create_grant("invoices", &body).await?;
    println!("grant {}", grant.id);
    client.revoke_grant("invoices", *grant.id).await?;
    Ok(())
}
