//! Reads the tenant's log to its end and proves that its last entry is in it.

use keyhearth_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let mut from = Some(0);
    let mut last = None;
    while let Some(index) = from {
        let page = client.list_entries(index, None).await?;
        for entry in page.entries.iter().filter_map(|logged| logged.entry.as_ref()) {
            println!("{} {} {}", entry.time, entry.operation, entry.result);
            last = Some(entry.index);
        }
        from = page.next;
    }
    if let Some(index) = last {
        println!("{}", client.prove_entry(index, None).await?.checkpoint);
    }
    Ok(())
}
