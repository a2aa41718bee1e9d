//! A question in Cedar's terms.

use std::collections::BTreeMap;

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use keyhearth_core::id::{PrincipalId, TenantId};
use keyhearth_core::key::{Key, Origin};
use keyhearth_core::machine::{BootFacts, Claim, Comparison};
use keyhearth_core::operation::Scope;
use keyhearth_core::policy::Question;
use keyhearth_core::principal::Proof;
use keyhearth_core::time::{DAY_MS, Time};

use super::schema::{VOCABULARY, uid};

/// The request and the entities it names, at one time. `None` cannot happen: every value is made here,
/// of the schema's type; the caller refuses if it does.
pub(super) fn translate(tenant: TenantId, question: &Question<'_>, now: Time) -> Option<(Request, Entities)> {
    let v = &*VOCABULARY;
    let principal = principal(question)?;
    let resource = match (question.key, question.operation.info().scope) {
        (Some(key), Scope::Key) => key_entity(key)?,
        (_, Scope::Platform) => Entity::with_uid(v.deployment.clone()),
        (_, Scope::Tenant | Scope::Key) => Entity::with_uid(uid(&v.tenant, &tenant.to_string())),
    };
    let action = v.actions[question.operation as usize].clone();
    let names = || question.context.iter().map(|(name, _)| name);
    let pairs = Entity::new_with_tags(
        v.context.clone(),
        [
            ("names".to_owned(), RestrictedExpression::new_set(names().map(|name| text(name)))),
            ("folded".to_owned(), folded(names())),
        ],
        [],
        texts(question.context.iter().map(|(name, value)| (name, value))),
    )
    .ok()?;
    let boot = match question.boot {
        Some(facts) => Some(boot_entities(facts)?),
        None => None,
    };
    let reference = |uid: &EntityUid| RestrictedExpression::new_entity_uid(uid.clone());
    let context = Context::from_pairs(
        [
            (
                "ip".to_owned(),
                RestrictedExpression::new_ip(question.caller.address.to_canonical().to_string()),
            ),
            ("now".to_owned(), datetime(now)),
            ("proof".to_owned(), text(proof(&question.caller.proof))),
            ("context".to_owned(), reference(&v.context)),
            ("lease_seconds".to_owned(), RestrictedExpression::new_long(question.lease_seconds.into())),
        ]
        .into_iter()
        .chain(boot.is_some().then(|| ("boot".to_owned(), reference(&v.boot)))),
    );
    let request = Request::new(principal.uid(), action.uid(), resource.uid(), context.ok()?, None).ok()?;
    let entities = [principal, resource, action, pairs].into_iter().chain(boot.into_iter().flatten());
    let entities = Entities::from_entities(entities, None).ok()?;
    Some((request, entities))
}

/// What is known of a machine that boots: its attributes, and all claims of its evidence as tags.
fn boot_entities(facts: &BootFacts) -> Option<[Entity; 2]> {
    let v = &*VOCABULARY;
    let (mut texts, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    facts.claims.iter().for_each(|(name, claim)| flatten(name.clone(), claim, &mut texts, &mut numbers));
    let claimed = |name: &str| facts.claims.get(name) == Some(&Claim::Bool(true));
    let named = |name: &str| match facts.claims.get(name) {
        Some(Claim::Text(value)) => text(value),
        _ => text("none"),
    };
    let flag = RestrictedExpression::new_bool;
    let long = RestrictedExpression::new_long;
    let attributes = [
        ("kind", named("kind")),
        ("root", named("root")),
        ("memory_encrypted", flag(claimed("memory_encrypted"))),
        ("reduced_assurance", flag(claimed("reduced_assurance"))),
        ("revocation_checked", flag(claimed("revocation_checked"))),
        ("image_known", flag(facts.comparison == Comparison::Known)),
        ("approved", flag(facts.approval.is_some())),
        ("continues", flag(facts.continues.is_some())),
        ("counter", long(i64::try_from(facts.counter).unwrap_or(i64::MAX))),
        ("volumes", RestrictedExpression::new_set(facts.volumes.iter().map(|name| text(name.as_str())))),
        ("image", facts.image.map_or_else(|| text("none"), |image| text(&image.to_string()))),
        ("numbers", RestrictedExpression::new_entity_uid(v.numbers.clone())),
    ];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
    let texts = texts.into_iter().map(|(name, value): (String, String)| (name, text(&value)));
    let numbers = numbers.into_iter().map(|(name, value)| (name, long(value)));
    Some([
        Entity::new_with_tags(v.boot.clone(), attributes, [], texts).ok()?,
        Entity::new_with_tags(v.numbers.clone(), [], [], numbers).ok()?,
    ])
}

/// Members of records become `record.member`; several texts one, with spaces between.
fn flatten(
    name: String,
    claim: &Claim,
    texts: &mut BTreeMap<String, String>,
    numbers: &mut BTreeMap<String, i64>,
) {
    match claim {
        Claim::Bool(value) => drop(texts.insert(name, value.to_string())),
        Claim::Number(value) => drop(numbers.insert(name, *value)),
        Claim::Text(value) => drop(texts.insert(name, value.clone())),
        Claim::Texts(values) => {
            drop(texts.insert(name, values.iter().map(String::as_str).collect::<Vec<_>>().join(" ")));
        }
        Claim::Record(members) => {
            for (member, claim) in members {
                flatten(format!("{name}.{member}"), claim, texts, numbers);
            }
        }
    }
}

fn principal(question: &Question<'_>) -> Option<Entity> {
    let v = &*VOCABULARY;
    let caller = question.caller;
    let roles = caller.roles.iter().map(|role| uid(&v.role, role.name()));
    let name = ("name".to_owned(), text(caller.name.as_str()));
    Entity::new_with_tags(principal_uid(caller.principal), [name], roles, []).ok()
}

fn principal_uid(id: PrincipalId) -> EntityUid {
    uid(&VOCABULARY.principal, &id.to_string())
}

fn key_entity(key: &Key) -> Option<Entity> {
    let origin = match key.origin {
        Origin::Generated => "generated",
        Origin::Imported => "imported",
    };
    let attributes = [
        ("algorithm".to_owned(), text(key.algorithm.info().name)),
        ("exportable".to_owned(), RestrictedExpression::new_bool(key.exportable)),
        ("origin".to_owned(), text(origin)),
        ("created".to_owned(), datetime(key.created)),
        ("creator".to_owned(), RestrictedExpression::new_entity_uid(principal_uid(key.creator))),
        ("folded".to_owned(), folded(key.tags.keys())),
    ];
    Entity::new_with_tags(uid(&VOCABULARY.key, &key.id.to_string()), attributes, [], texts(key.tags.iter()))
        .ok()
}

/// How a caller proved who it is, as policies read it.
pub(super) const fn proof(proof: &Proof) -> &'static str {
    match proof {
        Proof::Certificate(_) => "certificate",
        Proof::AccessKey(_) => "access-key",
        Proof::Evidence => "evidence",
        Proof::Anonymous => "anonymous",
        Proof::Local => "local",
    }
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

/// Names in lower case.
fn folded<'a>(names: impl Iterator<Item = &'a String>) -> RestrictedExpression {
    RestrictedExpression::new_set(names.map(|name| text(&name.to_lowercase())))
}

fn texts<'a>(
    pairs: impl Iterator<Item = (&'a String, &'a String)>,
) -> impl Iterator<Item = (String, RestrictedExpression)> {
    pairs.map(|(name, value)| (name.clone(), text(value)))
}

/// Cedar reads dates as text.
///
/// Days since 1970 become a date by counting years from 1 March, so that a leap day is the last of its year.
fn datetime(time: Time) -> RestrictedExpression {
    let ms = time.min(Time::MAX).unix_ms();
    let (days, ms) = (ms / DAY_MS + 719_468, ms % DAY_MS);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_from_march + 2) / 5 + 1;
    let month = if months_from_march < 10 { months_from_march + 3 } else { months_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    RestrictedExpression::new_datetime(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        ms % 1_000
    ))
}
