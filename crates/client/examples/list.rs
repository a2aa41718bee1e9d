//! Lists all keys, page by page, and shows one of them more closely.

use keyhearth_client::{Client, Page};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let mut page = Page { after: None, limit: Some(100) };
    let mut last = None;
    loop {
        let keys = client.list_keys(&page).await?;
        for key in keys.keys {
            println!("{} {} {}", key.id, key.algorithm, key.description);
            last = Some(key.id.to_string());
        }
        page.after = keys.next;
        if page.after.is_none() {
            break;
        }
    }
    if let Some(id) = last {
        for version in client.describe_key(&id).await?.versions {
            println!("version {} is {} since {}", version.number, version.state, version.created);
        }
    }
    Ok(())
}
