//! The life of a key: rotated, suspended, resumed, deactivated, scheduled to be destroyed, and kept.

use keyhearth_client::{Algorithm, Client, answer, body};

fn show(key: &answer::Key) {
    let versions: Vec<_> = key.versions.iter().map(|version| version.state.to_string()).collect();
    println!("{versions:?}, to be destroyed: {}", key.destroy_at.is_some());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The reason lies in the log, beside what was done.
    let client = Client::from_env()?.because("trying out a life");
    let key = client.create_key(&Algorithm::Aes256.into()).await?.id.to_string();
    show(&client.rotate_key(&key).await?);
    let primary = body::OfVersion::default();
    show(&client.suspend_key(&key, &primary).await?);
    show(&client.resume_key(&key, &primary).await?);
    show(&client.deactivate_key(&key, &primary).await?);
    show(&client.schedule_destroy(&key, &body::Schedule::default()).await?);
    show(&client.cancel_destroy(&key).await?);
    Ok(())
}
