//! The life of a key: rotated, suspended, resumed, deactivated, scheduled to be destroyed, and kept.

use keyhearth_client::{Algorithm, Client, answer, body};

fn show(key: &answer::Key) {
    let versions: Vec<_> = key.versions.iter().map(|version| version.state.to_string()).collect();
    let (suspended, ends) = (key.suspended.is_some(), key.destroy_at.is_some());
    println!("{versions:?}, suspended: {suspended}, to be destroyed: {ends}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The reason lies in the log, beside what was done.
    let client = Client::from_env()?.because("trying out a life");
    let key = client.create_key(&Algorithm::Aes256.into()).await?.id.to_string();
    show(&client.rotate_key(&key).await?);
    let whole = body::KeyOrVersion::default();
    show(&client.suspend_key(&key, &whole).await?);
    show(&client.resume_key(&key, &whole).await?);
    show(&client.deactivate_key(&key, &body::OfVersion::default()).await?);
    show(&client.schedule_destroy(&key, &body::Schedule::default()).await?);
    show(&client.cancel_destroy(&key, &body::Cancellation::default()).await?);
    Ok(())
}
