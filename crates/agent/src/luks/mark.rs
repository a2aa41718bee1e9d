//! Marks: tokens of a header that say which machine's secret a keyslot is for.
//!
//! Whoever can write to the disk can write them. So a mark is a hint: it chooses which machine a clone of a golden image
//! says that it is, and what that gets is decided by evidence, by the header's hash and by what the server knows.
//!
//! `{"type": "keyhearth", "keyslots": ["1"], "machine": UUID, "volume": NAME, "generation": 1}`; members besides are passed over.

use keyhearth_core::id::{Name, PrincipalId};

use super::json::Json;

const KIND: &str = "keyhearth";

/// Which machine a mark is of, and which volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    machine: PrincipalId,
    volume: Name,
}

/// The marks among the tokens of a header. What is none is passed over.
pub(super) fn marks(header: &Json) -> Vec<Mark> {
    let tokens = header.member("tokens").into_iter().flat_map(Json::members);
    tokens.filter_map(|(_, token)| parse(token)).collect()
}

fn parse(token: &Json) -> Option<Mark> {
    let text = |name| token.member(name).and_then(Json::text);
    let kind = text("type").filter(|kind| *kind == KIND);
    kind.and(Some(Mark { machine: text("machine")?.parse().ok()?, volume: text("volume")?.parse().ok()? }))
}

/// The clone that this volume is marked as that of, if it is not marked as that of its image, or not at all.
pub(super) fn clone_of(marks: &[Mark], volume: &Name, image: PrincipalId) -> Option<PrincipalId> {
    let its: Vec<_> = marks.iter().filter(|mark| mark.volume == *volume).map(|mark| mark.machine).collect();
    its.first().copied().filter(|_| !its.contains(&image))
}

/// Tokens with one mark for each keyslot of this machine's volume: that of its first secret, and that of its recovery secret if
/// there are two.
pub(super) fn tokens(machine: PrincipalId, volume: &Name, keyslots: &[u32]) -> Json {
    let generations = [Json::Number(1), Json::Null];
    let marks = keyslots.iter().zip(generations).enumerate();
    let tokens = marks.map(|(number, (keyslot, generation))| {
        (number.to_string(), token(machine, volume, *keyslot, generation))
    });
    Json::Object(tokens.collect())
}

fn token(machine: PrincipalId, volume: &Name, keyslot: u32, generation: Json) -> Json {
    let text = |text: &str| Json::Text(text.to_owned());
    let mark = [
        ("type", text(KIND)),
        ("keyslots", Json::List(vec![text(&keyslot.to_string())])),
        ("machine", text(&machine.to_string())),
        ("volume", text(volume.as_str())),
        ("generation", generation),
    ];
    Json::Object(mark.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn header(tokens: &str) -> Json {
        Json::parse(format!(r#"{{"tokens":{tokens}}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn a_volume_is_its_image_s_until_it_is_marked_as_a_clone_s() {
        let (image, clone) = (PrincipalId([1; 16]), PrincipalId([2; 16]));
        let of = |machine, volume: &str| Mark { machine, volume: name(volume) };
        let who = |marks: &[Mark]| clone_of(marks, &name("root"), image);
        assert_eq!(who(&[]), None);
        assert_eq!(who(&[of(image, "root")]), None);
        assert_eq!(who(&[of(clone, "data")]), None);
        assert_eq!(who(&[of(clone, "root")]), Some(clone));
        // What an image was made from may have left marks.
        assert_eq!(who(&[of(clone, "root"), of(image, "root")]), None);
    }

    #[test]
    fn marks_are_read_as_they_were_written_and_others_are_not() {
        let machine = PrincipalId([0xab; 16]);
        let written = tokens(machine, &name("root"), &[3, 4]).to_string();
        let mark = Mark { machine, volume: name("root") };
        assert_eq!(marks(&header(&written)), [mark.clone(), mark]);
        assert!(written.contains(r#""generation":1,"keyslots":["3"]"#), "{written}");
        assert!(written.contains(r#""generation":null,"keyslots":["4"]"#), "{written}");
        let id = machine.to_string();
        for other in [
            "7".to_owned(),
            "[1]".to_owned(),
            r#"{"0":7,"1":[],"2":{"type":"keyhearth"}}"#.to_owned(),
            format!(r#"{{"0":{{"type":"clevis","machine":"{id}","volume":"root"}}}}"#),
            format!(r#"{{"0":{{"type":"keyhearth","machine":"{}","volume":"root"}}}}"#, id.to_uppercase()),
            format!(r#"{{"0":{{"type":"keyhearth","machine":"../{id}","volume":"root"}}}}"#),
            format!(r#"{{"0":{{"type":"keyhearth","machine":"{id}","volume":"/root"}}}}"#),
            format!(r#"{{"0":{{"type":"keyhearth","machine":["{id}"],"volume":"root"}}}}"#),
        ] {
            assert!(marks(&header(&other)).is_empty(), "{other}");
        }
    }
}
