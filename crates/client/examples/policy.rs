//! Makes the key `invoices` read-only by a policy: what would change, set it, ask, delete it.

use keyhearth_client::{Client, KeyRef, Operation, body, id::Name};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?;
    let key = client.describe_key("invoices").await?.id;
    let text = format!(
        "forbid (principal, action == Keyhearth::Action::\"encrypt\", resource == Keyhearth::Key::\"{key}\");"
    );
    let policy: Name = "read-only".parse()?;
    let draft = body::PolicyDraft { text: Some(text.clone().into()) };
    for difference in client.diff_policy(&policy, &draft).await?.differences {
        println!(
            "{} {} {}",
            difference.name,
            if difference.gains { "gains" } else { "loses" },
            difference.operation
        );
    }
    client.put_policy(&policy, &body::Policy { text: text.into() }).await?;
    let question = body::Question {
        identity: client.who_am_i().await?.identity,
        operation: Operation::Encrypt.into(),
        key: Some("invoices".parse::<KeyRef>()?.into()),
        context: None,
        lease_seconds: None,
    };
    let decided = client.test_policy(&question).await?;
    println!("allowed: {}, by {:?}", decided.allowed, decided.by);
    client.delete_policy(&policy).await?;
    Ok(())
}
