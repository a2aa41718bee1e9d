//! Aliases: to which key they lead, since when, and how they are moved.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::id::{Alias, KeyId};
use keyhearth_core::key::{ALIASES_MAX, AliasOf};
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::Caller;
use keyhearth_core::request::{Ask, KeyRef, Page, Response, UNLIKE};
use keyhearth_crypto::algorithm::Algorithm;

use super::support::{House, Household, by_id, got, new_key, page};

fn alias(text: &str) -> Alias {
    text.parse().unwrap()
}

fn set(key: KeyId, text: &str) -> Ask {
    Ask::SetAlias { key: by_id(key), alias: alias(text) }
}

fn moved(to: KeyId, text: &str) -> Ask {
    Ask::MoveAlias { key: by_id(to), alias: alias(text) }
}

/// The key that an alias leads to.
async fn through(home: &Household, text: &str) -> Result<KeyId, Error> {
    home.manage(Ask::DescribeKey { key: KeyRef::Alias(alias(text)) }).await.map(|key| key.id)
}

async fn listed(home: &Household, of: Option<KeyId>, page: Page) -> (Vec<(Alias, AliasOf)>, Option<Vec<u8>>) {
    got!(home.ask(&home.user, Ask::ListAliases { of: of.map(by_id), page }).await,
        Response::Aliases { aliases, next } => (aliases, next))
}

#[tokio::test]
async fn aliases_lead_to_one_key_and_nowhere_once_deleted() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let mut new = new_key(Algorithm::Aes256);
    new.alias = Some(alias("pay/main"));
    let key = home.create(new.clone()).await;
    assert!(matches!(home.manage(Ask::CreateKey(new)).await, Err(Error::Conflict(_))));
    assert_eq!(through(&home, "pay/main").await, Ok(key.id));
    let other = home.aes().await.id;
    let delete = |key| Ask::DeleteAlias { key: by_id(key), alias: alias("pay/main") };
    assert!(matches!(home.manage(set(other, "pay/main")).await, Err(Error::Conflict(_))));
    assert_eq!(home.manage(set(key.id, "pay/main")).await.unwrap().aliases, key.aliases, "again");
    assert_eq!(home.manage(delete(other)).await, Err(Error::NotFound("alias")));
    home.manage(delete(key.id)).await.unwrap();
    assert_eq!(through(&home, "pay/main").await, Err(Error::NotFound("alias")));
    home.manage(set(other, "pay/main")).await.unwrap();
    assert_eq!(through(&home, "pay/main").await, Ok(other));
}

#[tokio::test]
async fn a_moved_alias_leads_to_the_other_key_at_once_and_for_good() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (from, to) = (home.aes().await.id, home.aes().await.id);
    home.manage(set(from, "orders")).await.unwrap();
    home.manage(set(to, "another")).await.unwrap();
    let before = listed(&home, Some(from), page(10)).await.0.remove(0).1;
    assert_eq!((before.key, before.created), (from, before.updated));

    let new = home.manage(moved(to, "orders")).await.unwrap();
    assert_eq!(new.aliases, [alias("another"), alias("orders")]);
    assert_eq!(home.manage(Ask::DescribeKey { key: by_id(from) }).await.unwrap().aliases, []);
    assert_eq!(through(&home, "orders").await, Ok(to));
    let entry = home.newest(Operation::MoveAlias).await;
    assert_eq!((entry.key, entry.detail), (Some(to), Some(format!("orders from {from}"))));
    let (aliases, _) = listed(&home, Some(to), page(10)).await;
    let after = &aliases[1].1;
    assert_eq!((after.key, after.created), (to, before.created));
    assert!(after.updated >= before.updated);
    assert_eq!(home.manage(moved(to, "orders")).await.unwrap().aliases, new.aliases, "again");
    assert_eq!(home.manage(moved(to, "nowhere")).await, Err(Error::NotFound("alias")));

    let house = house.restart().await;
    let home = home.within(&house);
    assert_eq!(through(&home, "orders").await, Ok(to));
}

#[tokio::test]
async fn an_alias_is_moved_by_who_may_do_so_with_both_keys() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (from, to) = (home.aes().await.id, home.aes().await.id);
    home.manage(set(from, "orders")).await.unwrap();
    let permit = |who: &Arc<Caller>, key: KeyId| {
        format!(
            r#"permit (principal == Keyhearth::Principal::"{}", action == Keyhearth::Action::"move-alias",
                resource == Keyhearth::Key::"{key}");"#,
            who.principal
        )
    };
    let put = async |name: &str, text: String| {
        home.ask(&home.admin, Ask::PutPolicy { name: name.parse().unwrap(), text }).await.unwrap();
    };
    let (takes, gives) = (home.issue("takes", &[]).await, home.issue("gives", &[]).await);
    put("takes", permit(&takes, to)).await;
    put("gives", permit(&gives, from)).await;
    for caller in [&takes, &gives, &home.user] {
        assert_eq!(home.ask(caller, moved(to, "orders")).await.unwrap_err(), Error::Denied);
    }
    assert_eq!(through(&home, "orders").await, Ok(from));
    put("both", permit(&takes, from)).await;
    home.ask(&takes, moved(to, "orders")).await.unwrap();
    assert_eq!(through(&home, "orders").await, Ok(to));

    let elsewhere = house.tenant("two").await;
    let foreign = elsewhere.aes().await.id;
    assert_eq!(elsewhere.manage(moved(foreign, "orders")).await, Err(Error::NotFound("alias")));
}

#[tokio::test]
async fn an_alias_stays_with_keys_of_its_kind() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    home.manage(set(id, "orders")).await.unwrap();
    let mut wrapping = new_key(Algorithm::Aes256);
    wrapping.usage = vec!["wrap".to_owned(), "unwrap".to_owned()];
    for new in [wrapping, new_key(Algorithm::HmacSha256), new_key(Algorithm::EcP256)] {
        let other = home.create(new).await.id;
        assert_eq!(home.manage(moved(other, "orders")).await, Err(UNLIKE));
    }
    let shorter = home.create(new_key(Algorithm::Aes128)).await.id;
    home.manage(moved(shorter, "orders")).await.unwrap();

    let full = home.aes().await.id;
    for number in 0..ALIASES_MAX {
        home.manage(set(full, &format!("alias-{number}"))).await.unwrap();
    }
    let one_more = home.manage(moved(full, "orders")).await;
    assert_eq!(one_more, Err(Error::TooLarge { field: "aliases", limit: ALIASES_MAX }));
}

#[tokio::test]
async fn aliases_are_listed_of_all_keys_and_of_one() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (one, other) = (home.aes().await.id, home.aes().await.id);
    for (key, text) in [(one, "b"), (other, "c"), (one, "a"), (one, "d")] {
        home.manage(set(key, text)).await.unwrap();
    }
    let names = |found: &[(Alias, AliasOf)]| {
        found.iter().map(|(alias, of)| (alias.as_str().to_owned(), of.key)).collect::<Vec<_>>()
    };
    let expected = |pairs: &[(&str, KeyId)]| {
        pairs.iter().map(|(text, key)| ((*text).to_owned(), *key)).collect::<Vec<_>>()
    };
    for (of, all) in [
        (None, expected(&[("a", one), ("b", one), ("c", other), ("d", one)])),
        (Some(one), expected(&[("a", one), ("b", one), ("d", one)])),
        (Some(other), expected(&[("c", other)])),
    ] {
        for limit in 1..=4 {
            let (mut found, mut cursor) = (Vec::new(), Some(Vec::new()));
            while let Some(after) = cursor {
                let (aliases, next) = listed(&home, of, Page { after, limit }).await;
                assert!(aliases.len() <= limit);
                found.extend(names(&aliases));
                cursor = next;
            }
            assert_eq!(found, all, "{of:?} {limit}");
        }
    }
    let nowhere = Ask::ListAliases { of: Some(by_id(KeyId([9; 16]))), page: page(1) };
    assert_eq!(home.ask(&home.user, nowhere).await.unwrap_err(), Error::NotFound("key"));
}
