//! What the next boot of a machine will be: it says so while it runs, and somebody accepts it before it starts anew.
//!
//! An update of the kernel changes what a machine measures. Without this it would be found out when the machine does not
//! start. A candidate changes nothing: accepted, its values are added to the reference values, and those of before stay.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::{Machine, REFERENCE_BYTES_MAX, Reference, check_reference};
use crate::error::Error;
use crate::id::RequestId;
use crate::time::Time;

/// The most candidates of one machine that wait. One more takes the place of the oldest.
pub const CANDIDATES_MAX: usize = 4;
/// The most claims of a candidate.
pub const CANDIDATE_CLAIMS_MAX: usize = 16;

/// Claims that no update of an image changes: who the machine is, and that nothing was released to it yet.
const FIXED: [&str; 4] = ["ak", "chip_id", "pcrs.15", "rtmr3"];

/// Claims that a machine says its evidence will have, by their names as in reference values.
pub type Expected = BTreeMap<String, String>;

/// What a machine that runs says of its next boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The claims.
    pub claims: Expected,
    /// Only compare them: nothing is to be kept.
    pub dry_run: bool,
}

/// The stored part of a machine's record that waits to be accepted or rejected.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Candidate {
    /// Its id: the request that brought it.
    #[n(0)]
    pub id: RequestId,
    /// What it says, of which none was a reference value.
    #[n(1)]
    pub claims: Expected,
    /// When it came.
    #[n(2)]
    pub asked: Time,
}

/// What is known of a boot that was proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// What waits to be accepted; nothing if nothing has to be, or if nothing was to be kept.
    pub candidate: Option<RequestId>,
    /// Names of claims whose values are none of the reference values: such a boot does not meet them.
    pub lacks: Vec<String>,
    /// Names of claims that have reference values, may change with an update, and were not named: whether such a boot meets
    /// them is not known.
    pub unnamed: Vec<String>,
}

/// Checks the claims of a candidate: a machine says them, and people read them on their terminals.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::Invalid`].
pub fn check_expected(claims: &Expected) -> Result<(), Error> {
    let field = "candidate";
    if claims.len() > CANDIDATE_CLAIMS_MAX {
        return Err(Error::TooLarge { field, limit: CANDIDATE_CLAIMS_MAX });
    }
    let is_word = |text: &String| {
        (1..=REFERENCE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if claims.is_empty() || !claims.iter().all(|(name, value)| is_word(name) && is_word(value)) {
        let rule = "must have claims with names and values of 1 to 256 visible ASCII characters";
        return Err(Error::Invalid { field, rule });
    }
    if claims.keys().any(|name| is_fixed(name)) {
        let rule = "must not name ak, chip_id, pcrs.15, rtmr3 or cloud.…, which no update changes";
        return Err(Error::Invalid { field, rule });
    }
    Ok(())
}

fn is_fixed(name: &str) -> bool {
    FIXED.contains(&name) || name.starts_with("cloud.")
}

impl Candidate {
    /// Its claims for the log.
    #[must_use]
    pub fn summary(&self) -> String {
        let claims: Vec<_> = self.claims.iter().map(|(name, value)| format!("{name}={value}")).collect();
        claims.join(" ")
    }
}

impl Machine {
    /// Those of `claims` whose values are none of the reference values. A claim without reference values is not compared
    /// at a boot either.
    #[must_use]
    pub fn lacks<'a>(&self, claims: &'a Expected) -> BTreeMap<&'a str, &'a str> {
        let differs = |(name, value): &(&String, &String)| {
            self.reference.get(*name).is_some_and(|allowed| !allowed.contains(*value))
        };
        claims.iter().filter(differs).map(|(name, value)| (&**name, &**value)).collect()
    }

    /// Compares what the machine proposes, and keeps what differs if somebody has to accept it. What waits already keeps
    /// its id, and is the newest then.
    pub fn propose(&mut self, proposal: &Proposal, id: RequestId, asked: Time) -> Outlook {
        let is_unnamed = |name: &&String| !is_fixed(name) && !proposal.claims.contains_key(*name);
        let unnamed = self.reference.keys().filter(is_unnamed).cloned().collect();
        let differs = self.lacks(&proposal.claims).into_iter();
        let claims: Expected = differs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let lacks = claims.keys().cloned().collect();
        if claims.is_empty() || proposal.dry_run {
            return Outlook { candidate: None, lacks, unnamed };
        }
        let same = self.candidates.iter().position(|candidate| candidate.claims == claims);
        let id = match same {
            Some(place) => self.candidates.remove(place).id,
            None => id,
        };
        if self.candidates.len() >= CANDIDATES_MAX {
            self.candidates.remove(0);
        }
        self.candidates.push(Candidate { id, claims, asked });
        Outlook { candidate: Some(id), lacks, unnamed }
    }

    /// Ends the waiting of a candidate, and gives it. If it is accepted, its values are added to those of claims that have
    /// reference values: of others nothing was demanded, and a demand would keep the present image from starting.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::TooLarge`] for too many reference values.
    pub fn decide_candidate(&mut self, id: RequestId, accept: bool) -> Result<Candidate, Error> {
        let place = self.candidates.iter().position(|candidate| candidate.id == id);
        let candidate = self.candidates[place.ok_or(Error::NotFound("candidate"))?].clone();
        if accept {
            let mut reference = self.reference.clone();
            for (name, value) in self.lacks(&candidate.claims) {
                reference.entry(name.to_owned()).or_default().insert(value.to_owned());
            }
            self.refer(reference)?;
        }
        self.candidates.retain(|other| other.id != id);
        Ok(candidate)
    }

    /// Takes `reference` as the reference values. Candidates that meet them wait no more.
    ///
    /// # Errors
    /// Those of [`check_reference`]; then nothing has changed.
    pub(super) fn refer(&mut self, reference: Reference) -> Result<(), Error> {
        check_reference(&reference)?;
        self.reference = reference;
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.retain(|candidate| !self.lacks(&candidate.claims).is_empty());
        self.candidates = candidates;
        Ok(())
    }
}

/// Takes `values` away from `reference`.
///
/// # Errors
/// [`Error::NotFound`] for what is not there. [`Error::Invalid`] if a claim would be left without a value: it would no
/// longer be compared.
pub(super) fn drop_values(reference: &mut Reference, values: &Reference) -> Result<(), Error> {
    for (name, values) in values {
        let allowed = reference.get_mut(name).ok_or(Error::NotFound("reference value"))?;
        for value in values {
            if !allowed.remove(value) {
                return Err(Error::NotFound("reference value"));
            }
        }
        if allowed.is_empty() {
            return Err(Error::Invalid {
                field: "drop",
                rule: "must leave each claim a value: add the next one first, or give all values anew",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::MachineChange;
    use super::super::tests::machine;
    use super::*;

    fn expected(pairs: &[(&str, &str)]) -> Expected {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn values(pairs: &[(&str, &[&str])]) -> Reference {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        pairs.iter().map(|(name, all)| ((*name).to_owned(), values(all))).collect()
    }

    /// A machine with one image that is known.
    fn known() -> Machine {
        Machine { reference: values(&[("ak", &["aa"]), ("pcrs.11", &["old"])]), ..machine() }
    }

    fn propose(machine: &mut Machine, claims: &[(&str, &str)], id: u8) -> Outlook {
        let proposal = Proposal { claims: expected(claims), dry_run: false };
        machine.propose(&proposal, RequestId([id; 16]), Time::from_unix_ms(id.into()))
    }

    #[test]
    fn what_differs_waits_and_what_is_accepted_is_added_to_what_was_before() {
        let mut machine = known();
        let met = propose(&mut machine, &[("pcrs.11", "old"), ("pcrs.4", "any")], 1);
        assert_eq!((met.candidate, met.lacks.len(), machine.candidates.len()), (None, 0, 0));
        let outlook = propose(&mut machine, &[("pcrs.11", "new"), ("pcrs.4", "any")], 2);
        assert_eq!(outlook.candidate, Some(RequestId([2; 16])));
        assert_eq!((outlook.lacks, outlook.unnamed.len()), (vec!["pcrs.11".to_owned()], 0));
        assert_eq!(machine.candidates[0].claims, expected(&[("pcrs.11", "new")]));
        let mut more = machine.clone();
        more.reference.extend(values(&[("pcrs.7", &["aa"]), ("measurement", &["bb"])]));
        let dry = Proposal { claims: expected(&[("pcrs.11", "old")]), dry_run: true };
        let unsaid = more.propose(&dry, RequestId([3; 16]), Time::from_unix_ms(3));
        assert_eq!(
            (unsaid.lacks.len(), unsaid.unnamed),
            (0, vec!["measurement".to_owned(), "pcrs.7".to_owned()])
        );
        // The same again is the same.
        let again = propose(&mut machine, &[("pcrs.4", "any"), ("pcrs.11", "new")], 3);
        assert_eq!((again.candidate, machine.candidates.len()), (outlook.candidate, 1));
        let dry = Proposal { claims: expected(&[("pcrs.11", "other")]), dry_run: true };
        let dry = machine.propose(&dry, RequestId([4; 16]), Time::from_unix_ms(4));
        assert_eq!((dry.candidate, dry.lacks.len(), machine.candidates.len()), (None, 1, 1));
        machine.decide_candidate(RequestId([2; 16]), true).unwrap();
        assert_eq!(machine.reference, values(&[("ak", &["aa"]), ("pcrs.11", &["old", "new"])]));
        assert_eq!(machine.decide_candidate(RequestId([2; 16]), true), Err(Error::NotFound("candidate")));
        propose(&mut machine, &[("pcrs.11", "odd")], 5);
        machine.decide_candidate(RequestId([5; 16]), false).unwrap();
        assert!(machine.candidates.is_empty() && machine.reference["pcrs.11"].len() == 2);
    }

    #[test]
    fn candidates_are_few_and_one_that_is_met_waits_no_more() {
        let mut machine = known();
        for number in 1..=CANDIDATES_MAX + 1 {
            let id = u8::try_from(number).unwrap();
            propose(&mut machine, &[("pcrs.11", &number.to_string())], id);
        }
        let ids: Vec<u8> = machine.candidates.iter().map(|candidate| candidate.id.0[0]).collect();
        assert_eq!(ids, [2, 3, 4, 5]);
        // What was said again is not the oldest.
        propose(&mut machine, &[("pcrs.11", "2")], 6);
        let ids: Vec<u8> = machine.candidates.iter().map(|candidate| candidate.id.0[0]).collect();
        assert_eq!(ids, [3, 4, 5, 2]);
        let add = values(&[("pcrs.11", &["3"])]);
        machine.change(&MachineChange { add, ..MachineChange::default() }).unwrap();
        assert_eq!(machine.candidates.len(), 3);
    }

    #[test]
    fn values_are_dropped_one_by_one_but_for_the_last() {
        let mut machine = known();
        let change = |add: &[(&str, &[&str])], drop: &[(&str, &[&str])]| MachineChange {
            add: values(add),
            drop: values(drop),
            ..MachineChange::default()
        };
        machine.change(&change(&[("pcrs.11", &["new"])], &[("pcrs.11", &["old"])])).unwrap();
        assert_eq!(machine.reference["pcrs.11"], ["new".to_owned()].into());
        let before = machine.clone();
        let last = machine.change(&change(&[], &[("pcrs.11", &["new"])]));
        assert!(matches!(last, Err(Error::Invalid { field: "drop", .. })));
        for missing in [("pcrs.11", "old"), ("pcrs.4", "new")] {
            let refused = machine.change(&change(&[("ak", &["bb"])], &[(missing.0, &[missing.1])]));
            assert_eq!(refused, Err(Error::NotFound("reference value")));
        }
        assert_eq!(machine, before, "what is refused changes nothing");
    }

    #[test]
    fn claims_are_few_short_and_visible() {
        check_expected(&expected(&[("pcrs.11", "00ff")])).unwrap();
        let long = "a".repeat(REFERENCE_BYTES_MAX + 1);
        for (name, value) in
            [("", "a"), ("a", ""), ("a", "b c"), ("a", "\u{1b}[2J"), ("ä", "b"), ("a", &long)]
        {
            assert!(check_expected(&expected(&[(name, value)])).is_err(), "{name} {value}");
        }
        for fixed in ["ak", "chip_id", "pcrs.15", "rtmr3", "cloud.account"] {
            assert!(check_expected(&expected(&[("pcrs.11", "00ff"), (fixed, "bb")])).is_err(), "{fixed}");
        }
        let many: Expected = (0..=CANDIDATE_CLAIMS_MAX).map(|n| (n.to_string(), "a".to_owned())).collect();
        assert!(check_expected(&many).is_err() && check_expected(&Expected::new()).is_err());
    }

    #[test]
    fn records_of_before_have_none() {
        let mut row = minicbor::to_vec(machine()).unwrap();
        assert_eq!((row[0], row.last()), (0x8f, Some(&0x80)), "15 members, of which the last is empty");
        row[0] = 0x8e;
        row.pop();
        assert_eq!(minicbor::decode::<Machine>(&row).unwrap(), machine());
    }
}
