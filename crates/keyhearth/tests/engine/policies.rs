//! Policies as rows: missing, changed at the same time, costly; and pages of large records.

use keyhearth_core::Error;
use keyhearth_core::entry::Entry;
use keyhearth_core::request::{Ask, Response};
use keyhearth_core::row::Table;
use keyhearth_crypto::algorithm::Algorithm;

use super::support::{House, database, got, new_key, page};

const PERMIT: &str = r#"permit (principal, action == Keyhearth::Action::"sign", resource);"#;

fn put(name: &str, text: String) -> Ask {
    Ask::PutPolicy { name: name.parse().unwrap(), text }
}

#[tokio::test]
async fn a_policy_that_is_taken_out_of_a_running_server_s_database_is_missed() {
    let house = House::new().await;
    let (one, two) = (house.tenant("one").await, house.tenant("two").await);
    let [of_one, of_two] = [one.aes().await.id, two.aes().await.id];
    let forbid = r#"forbid (principal, action == Keyhearth::Action::"encrypt", resource);"#;
    one.ask(&one.admin, put("stop", forbid.to_owned())).await.unwrap();
    let disk = rusqlite::Connection::open(database(house.directory.path())).unwrap();
    assert_eq!(disk.execute("DELETE FROM row WHERE tbl = ?1", [Table::Policy as u8]).unwrap(), 1);
    assert_eq!(one.encrypt(of_one, "x").await, Err(Error::Damaged("policy")));
    two.encrypt(of_two, "x").await.unwrap();
}

/// Each of two policies fits beside the others, both do not: the tenant must not end up with both, which could not
/// be compiled and so would refuse everything for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_fit_only_by_themselves_are_not_both_accepted() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    let long = format!("{PERMIT}//{}", "x".repeat(60 * 1024));
    for number in 0..16 {
        home.ask(&home.admin, put(&format!("p{number}"), long.clone())).await.unwrap();
    }
    let (a, b) = tokio::join!(
        home.ask(&home.admin, put("a", long.clone())),
        home.ask(&home.admin, put("b", long.clone()))
    );
    assert_eq!([&a, &b].iter().filter(|put| put.is_ok()).count(), 1, "{a:?} {b:?}");
    home.encrypt(id, "x").await.unwrap();
}

/// On one thread, and with nothing else to wait for: what compiles keeps neither the thread nor the rows.
#[tokio::test]
async fn a_tenant_whose_policies_are_compiled_holds_up_no_other() {
    let house = House::new().await;
    let (slow, quick) = (house.tenant("slow").await, house.tenant("quick").await);
    let id = slow.aes().await.id;
    slow.encrypt(id, "x").await.unwrap();
    slow.ask(&slow.admin, put("p", PERMIT.repeat(900))).await.unwrap();
    let (used, made) = tokio::join!(slow.encrypt(id, "y"), quick.aes());
    used.unwrap();
    let place = |entries: Vec<(u64, Entry)>, key| {
        let newest = entries.into_iter().rev().find(|(_, entry)| entry.key == Some(key));
        newest.map(|(index, _)| index).unwrap()
    };
    assert!(place(quick.entries().await, made.id) < place(slow.entries().await, id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_compute_on_policies_at_a_time() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    let text = PERMIT.repeat(400);
    let diff =
        || home.ask(&home.admin, Ask::DiffPolicy { name: "p".parse().unwrap(), text: Some(text.clone()) });
    let all = tokio::join!(diff(), diff(), diff(), diff(), home.encrypt(id, "x"));
    let (mut done, mut refused) = (0, 0);
    for diff in [all.0, all.1, all.2, all.3] {
        match diff {
            Ok(Response::PolicyDiff(_)) => done += 1,
            Err(Error::Unavailable { retry_after_ms: 1_000 }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // All four are asked for while the first 400 statements are being checked.
    assert!(done >= 2 && refused >= 1, "{done} done, {refused} refused");
    all.4.unwrap();
    diff().await.unwrap();
}

#[tokio::test]
async fn a_page_of_large_keys_is_short_and_the_next_goes_on() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let tags: std::collections::BTreeMap<_, _> =
        (0..50).map(|number| (format!("{number}"), "x".repeat(256))).collect();
    let mut made = Vec::new();
    for _ in 0..150 {
        let mut new = new_key(Algorithm::Aes256);
        new.tags = tags.clone();
        made.push(home.create(new).await.id);
    }
    made.sort();
    let (mut listed, mut pages, mut request) = (Vec::new(), 0, page(1_000));
    loop {
        pages += 1;
        let next = got!(home.ask(&home.user, Ask::ListKeys { page: request.clone() }).await, Response::Keys { keys, next } => {
            listed.extend(keys.into_iter().map(|key| key.id));
            next
        });
        match next {
            Some(after) => request.after = after,
            None => break,
        }
    }
    assert!(pages > 1);
    assert_eq!(listed, made);
}
