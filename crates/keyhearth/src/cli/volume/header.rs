//! What a LUKS2 header says, and the marks in it: which keyslot is for which secret of a volume.
//!
//! Whoever can write to the disk can write its header, so marks are hints: they choose which keyslots are offered to
//! be ended, and nothing that is released depends on them. The agent drops them unread.
//!
//! Source: LUKS2 On-Disk Format Specification 1.1.4 §3.

use keyhearth_core::id::{Name, PrincipalId};
use keyhearth_core::principal::Fingerprint;
use keyhearth_proto::boot::header_hash;
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::disk::NEWER;

/// The type of our marks, among LUKS2 tokens.
const MARK: &str = "keyhearth";
/// Keyslots of a header. Source: LUKS2 On-Disk Format Specification 1.1.4 §3.2.
const KEYSLOTS: u32 = 32;

/// What is done to the whole device while its header says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underway {
    /// Its data are encrypted for the first time.
    Encrypt,
    /// Its data get another volume key.
    Reencrypt,
    /// Something that is not started here.
    Other,
}

/// What a keyslot is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub machine: PrincipalId,
    pub volume: Name,
    /// The secret of this generation, or the recovery secret.
    pub generation: Option<u32>,
    /// The keyslot; none once it has ended.
    pub keyslot: Option<u32>,
}

impl Mark {
    /// As the header keeps it.
    pub fn to_json(&self) -> Value {
        let keyslots: Vec<String> = self.keyslot.iter().map(ToString::to_string).collect();
        json!({
            "type": MARK,
            "keyslots": keyslots,
            "machine": self.machine.to_string(),
            "volume": self.volume.as_str(),
            "generation": self.generation,
        })
    }

    fn parse(token: &Value) -> Option<Self> {
        if token["type"] != MARK {
            return None;
        }
        let generation = &token["generation"];
        let generation =
            if generation.is_null() { None } else { Some(u32::try_from(generation.as_u64()?).ok()?) };
        let keyslot = token["keyslots"].as_array()?.first().and_then(Value::as_str);
        Some(Self {
            machine: token["machine"].as_str()?.parse().ok()?,
            volume: token["volume"].as_str()?.parse().ok()?,
            generation,
            keyslot: keyslot.map(str::parse).transpose().ok()?,
        })
    }
}

/// A header, as cryptsetup prints it.
pub struct Header(Value);

impl Header {
    /// Reads what cryptsetup printed.
    pub fn parse(json: &[u8]) -> Result<Self, Failure> {
        let header = serde_json::from_slice(json);
        header.map(Self).map_err(|_| Failure::new("cryptsetup printed no JSON", NEWER))
    }

    /// Its hash, as machines announce it.
    pub fn hash(&self) -> Fingerprint {
        Fingerprint(header_hash(&self.0))
    }

    /// The numbers of the keyslots that hold a volume key.
    pub fn keyslots(&self) -> Vec<u32> {
        let is_key =
            |(name, slot): (&String, &Value)| (slot["type"] == "luks2").then(|| name.parse().ok())?;
        let mut slots: Vec<u32> = self.members("keyslots").filter_map(is_key).collect();
        slots.sort_unstable();
        slots
    }

    /// A number that no keyslot has.
    pub fn free_keyslot(&self) -> Result<u32, Failure> {
        let is_free = |number: &u32| self.0["keyslots"].get(number.to_string()).is_none();
        (0..KEYSLOTS).find(is_free).ok_or_else(|| {
            Failure::new("all 32 keyslots of the volume are in use", "end one: keyhearth volume rotate --end")
        })
    }

    /// The marks and the numbers of their tokens.
    pub fn marks(&self) -> Vec<(u32, Mark)> {
        let mark = |(name, token): (&String, &Value)| Some((name.parse().ok()?, Mark::parse(token)?));
        self.members("tokens").filter_map(mark).collect()
    }

    /// What was begun with the whole device and did not end.
    pub fn underway(&self) -> Option<Underway> {
        let slot = self.members("keyslots").find(|(_, slot)| slot["type"] == "reencrypt");
        slot.map(|(_, slot)| match slot["mode"].as_str() {
            Some("encrypt") => Underway::Encrypt,
            Some("reencrypt") => Underway::Reencrypt,
            Some(_) | None => Underway::Other,
        })
    }

    /// Whether it stopped so hard that a piece of the data has to be put right first.
    pub fn is_torn(&self) -> bool {
        self.members("segments").any(|(_, segment)| {
            segment["flags"]
                .as_array()
                .is_some_and(|flags| flags.iter().any(|flag| flag == "in-reencryption"))
        })
    }

    fn members(&self, part: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.0[part].as_object().into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(generation: Option<u32>, keyslot: Option<u32>) -> Mark {
        Mark { machine: PrincipalId([7; 16]), volume: "root".parse().unwrap(), generation, keyslot }
    }

    fn header(value: &Value) -> Header {
        Header::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn marks_are_read_as_they_were_written_and_others_are_not() {
        let (secret, recovery) = (mark(Some(3), Some(5)), mark(None, Some(6)));
        let value = json!({ "tokens": {
            "0": secret.to_json(), "1": recovery.to_json(), "2": mark(Some(1), None).to_json(),
            "3": { "type": "clevis", "keyslots": ["1"] },
            "4": { "type": MARK, "keyslots": ["x"], "machine": "no", "volume": "root", "generation": 1 },
            "5": { "type": MARK }, "6": 7, "x": secret.to_json(),
        }});
        let marks = header(&value).marks();
        assert_eq!(marks, [(0, secret), (1, recovery), (2, mark(Some(1), None))]);
    }

    #[test]
    fn whatever_a_header_says_is_read_without_a_panic() {
        for value in [json!(null), json!([]), json!({ "keyslots": 1, "tokens": [1], "segments": { "0": 2 } })]
        {
            let header = header(&value);
            assert!(header.keyslots().is_empty() && header.marks().is_empty());
            assert!(header.underway().is_none() && !header.is_torn());
            assert_eq!(header.free_keyslot().unwrap(), 0);
        }
        assert!(Header::parse(b"LUKS").is_err());
    }

    #[test]
    fn work_that_did_not_end_is_told_by_its_keyslot() {
        let of = |mode: &str| header(&json!({ "keyslots": { "1": { "type": "reencrypt", "mode": mode } } }));
        assert_eq!(of("encrypt").underway(), Some(Underway::Encrypt));
        assert_eq!(of("reencrypt").underway(), Some(Underway::Reencrypt));
        assert_eq!(of("decrypt").underway(), Some(Underway::Other));
        let torn = json!({ "segments": { "1": { "flags": ["in-reencryption"] } } });
        assert!(header(&torn).is_torn() && of("encrypt").keyslots().is_empty());
        let full: serde_json::Map<_, _> =
            (0..32).map(|number| (number.to_string(), json!({ "type": "luks2" }))).collect();
        assert!(header(&json!({ "keyslots": full })).free_keyslot().is_err());
    }
}
