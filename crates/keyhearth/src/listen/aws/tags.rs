//! Tags of keys.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use keyhearth_core::Error;
use keyhearth_core::key::TAGS_MAX;
use keyhearth_core::request::{Ask, KeyChange};
use keyhearth_proto::aws::{Exception, Kind, Listing, Operation, Tag, input, output};

use super::Exchange;
use super::keys::KEPT;
use super::refusal::About;

/// Tags of a page unless the caller says otherwise.
const TAGS_USUAL: usize = 50;

/// Names that AWS keeps for itself, in small letters or capitals.
const RESERVED: &str = "aws:";

fn refused(text: &str) -> Exception {
    Exception::new(Kind::Tag, text)
}

fn check_name(name: &str) -> Result<(), Exception> {
    let begins = name.get(..RESERVED.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(RESERVED));
    if begins { Err(refused("Tags beginning with aws: are reserved")) } else { Ok(()) }
}

/// The tags of a call.
pub(super) fn tags(tags: Vec<Tag>) -> Result<BTreeMap<String, String>, Exception> {
    if tags.len() > TAGS_MAX {
        return Err(refused("Too many tags"));
    }
    let count = tags.len();
    tags.iter().try_for_each(|tag| check_name(&tag.tag_key))?;
    let tags: BTreeMap<_, _> = tags.into_iter().map(|tag| (tag.tag_key, tag.tag_value)).collect();
    if tags.len() < count { Err(refused("Duplicate tag keys")) } else { Ok(tags) }
}

impl Exchange<'_> {
    pub(super) async fn tag_resource(&self, input: input::TagResource) -> Result<(), Exception> {
        let set = tags(input.tags)?.into_iter().map(|(name, value)| (name, Some(value))).collect();
        self.set_tags(Operation::TagResource, &input.key_id, set).await
    }

    pub(super) async fn untag_resource(&self, input: input::UntagResource) -> Result<(), Exception> {
        let names: BTreeSet<String> = input.tag_keys.into_iter().collect();
        names.iter().try_for_each(|name| check_name(name))?;
        let removed = names.into_iter().map(|name| (name, None)).collect();
        self.set_tags(Operation::UntagResource, &input.key_id, removed).await
    }

    async fn set_tags(
        &self,
        operation: Operation,
        key_id: &str,
        set_tags: BTreeMap<String, Option<String>>,
    ) -> Result<(), Exception> {
        let change = KeyChange { set_tags, ..KeyChange::default() };
        let ask = Ask::UpdateKey { key: self.place.key(key_id)?, change };
        let (result, demanded) = self.demand(ask, KEPT, |_, _| Ok(())).await;
        result.map(drop).map_err(|error| match (demanded, error) {
            (Some(demanded), _) => demanded,
            (None, Error::TooLarge { field: "tags", .. }) => refused("Too many tags"),
            (None, Error::Invalid { field: "tags", rule }) => refused(&format!("Tags: {rule}.")),
            (None, error) => self.refusal(error, About::key(operation, key_id)),
        })
    }

    pub(super) async fn list_resource_tags(
        &self,
        input: input::ListResourceTags,
    ) -> Result<output::ListResourceTags, Exception> {
        let operation = Operation::ListResourceTags;
        let listing = Listing { caller: self.caller.principal, operation, filter: &input.key_id };
        let page = listing.page(input.marker.as_deref(), input.limit, TAGS_USUAL)?;
        let after = String::from_utf8(page.after).unwrap_or_default();
        let key = self.described(operation, &input.key_id, &[]).await?;
        let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let mut left = key.tags.range::<String, _>((from, Bound::Unbounded));
        let tags: Vec<Tag> = left
            .by_ref()
            .take(page.limit)
            .map(|(name, value)| Tag { tag_key: name.clone(), tag_value: value.clone() })
            .collect();
        let last = tags.last().filter(|_| left.next().is_some());
        let next_marker = last.map(|tag| listing.marker(tag.tag_key.as_bytes()));
        Ok(output::ListResourceTags { truncated: next_marker.is_some(), tags, next_marker })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(pairs: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Option<String>> {
        let tag =
            |(key, value): &(&str, &str)| Tag { tag_key: (*key).to_owned(), tag_value: (*value).to_owned() };
        tags(pairs.iter().map(tag).collect()).map_err(|exception| {
            assert_eq!(exception.kind, Kind::Tag);
            exception.message
        })
    }

    /// Source: recorded answers of AWS KMS.
    #[test]
    fn tags_are_checked_in_aws_words() {
        assert_eq!(made(&[("a", "1"), ("b", "")]).unwrap().len(), 2);
        let refused = |pairs: &[(&str, &str)], text: &str| {
            assert_eq!(made(pairs), Err(Some(text.to_owned())));
        };
        refused(&[("a", "1"), ("a", "2")], "Duplicate tag keys");
        refused(&[("aws:key1", "1")], "Tags beginning with aws: are reserved");
        refused(&[("AWS:key1", "1")], "Tags beginning with aws: are reserved");
        let names: Vec<String> = (0..=TAGS_MAX).map(|n| n.to_string()).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        refused(&many, "Too many tags");
        assert!(made(&many[1..]).is_ok() && made(&[("äöü:", "")]).is_ok());
    }
}
