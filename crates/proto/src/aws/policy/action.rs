//! What AWS's actions are here: the table, and which of them a statement can tell apart.

use keyhearth_core::operation::{Operation, Scope};
use keyhearth_core::state::Class;

/// How far a row's core operation can be given or refused without the actions that share it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// It only reads what is known about a key: whoever may one of these may read it all.
    Reads,
    /// It changes something: an allowance must name all that share it.
    Whole,
    /// Another row's operation does this too: whoever may that may this, and not the other way round.
    Part,
}

/// One action on a key: AWS's name after `kms:`, what it is here, and how it shares that.
struct Row(&'static str, &'static [Operation], Sharing);

use Operation as O;
use Sharing::{Part, Reads, Whole};

/// AWS's actions on keys. Those without an operation are refused by this deployment whatever a policy says.
///
/// Source: AWS Service Authorization Reference, "Actions, resources, and condition keys for AWS KMS".
const ON_KEYS: &[Row] = &[
    Row("CancelKeyDeletion", &[O::CancelDestroy], Whole),
    Row("CreateAlias", &[O::SetAlias], Whole),
    Row("CreateGrant", &[O::CreateGrant], Whole),
    Row("Decapsulate", &[O::Decapsulate], Whole),
    Row("Decrypt", &[O::Decrypt], Whole),
    Row("DeleteAlias", &[O::DeleteAlias], Whole),
    Row("DeleteImportedKeyMaterial", &[O::UnloadKey], Whole),
    Row("DeriveSharedSecret", &[O::Agree], Whole),
    Row("DescribeKey", &[O::DescribeKey], Reads),
    Row("DisableKey", &[O::SuspendKey], Whole),
    Row("DisableKeyRotation", &[O::UpdateKey], Whole),
    Row("EnableKey", &[O::ResumeKey], Whole),
    Row("EnableKeyRotation", &[O::UpdateKey], Whole),
    Row("Encapsulate", &[O::Encapsulate], Whole),
    Row("Encrypt", &[O::Encrypt], Whole),
    Row("GenerateDataKey", &[O::DataKey], Whole),
    Row("GenerateDataKeyPair", &[O::DataKeyPair], Whole),
    Row("GenerateDataKeyPairWithoutPlaintext", &[O::DataKeyPairWithoutPlaintext], Whole),
    Row("GenerateDataKeyWithoutPlaintext", &[O::DataKeyWithoutPlaintext], Whole),
    Row("GenerateMac", &[O::Mac], Whole),
    Row("GetKeyLastUsage", &[O::LastUse], Whole),
    Row("GetKeyPolicy", &[O::KeyPolicy], Whole),
    Row("GetKeyRotationStatus", &[O::DescribeKey], Reads),
    Row("GetParametersForImport", &[O::ImportParameters], Whole),
    Row("GetPublicKey", &[O::PublicKey], Whole),
    Row("ImportKeyMaterial", &[O::ImportKey], Whole),
    Row("ListGrants", &[O::ListGrants], Whole),
    Row("ListKeyPolicies", &[O::DescribeKey], Reads),
    Row("ListKeyRotations", &[O::DescribeKey], Reads),
    Row("ListResourceTags", &[O::DescribeKey], Reads),
    Row("PutKeyPolicy", &[O::PutKeyPolicy], Whole),
    Row("ReEncryptFrom", &[O::RewrapFrom], Whole),
    Row("ReEncryptTo", &[O::Rewrap], Whole),
    Row("ReplicateKey", &[], Whole),
    Row("RetireGrant", &[O::RevokeGrant], Part),
    Row("RevokeGrant", &[O::RevokeGrant], Whole),
    Row("RotateKeyOnDemand", &[O::RotateKey], Whole),
    Row("ScheduleKeyDeletion", &[O::ScheduleDestroy], Whole),
    Row("Sign", &[O::Sign], Whole),
    Row("SynchronizeMultiRegionKey", &[], Whole),
    Row("TagResource", &[O::UpdateKey], Whole),
    Row("UntagResource", &[O::UpdateKey], Whole),
    Row("UpdateAlias", &[O::MoveAlias], Whole),
    Row("UpdateKeyDescription", &[O::UpdateKey], Whole),
    Row("UpdatePrimaryRegion", &[], Whole),
    Row("Verify", &[O::Verify], Whole),
    Row("VerifyMac", &[O::VerifyMac], Whole),
];

/// AWS's actions that are on no key: a key policy has no say on them, there as here.
const ON_NO_KEY: &[&str] = &[
    "ConnectCustomKeyStore",
    "CreateCustomKeyStore",
    "CreateKey",
    "DeleteCustomKeyStore",
    "DescribeCustomKeyStores",
    "DisconnectCustomKeyStore",
    "GenerateRandom",
    "ListAliases",
    "ListKeys",
    "ListRetirableGrants",
    "UpdateCustomKeyStore",
];

/// What a refusal of an operation refuses as well: operations that AWS does not know and that come to the same, or to
/// more. A use that is refused refuses the export too, after which every use is free.
const REFUSED_TOO: &[(Operation, &[Operation])] = &[
    (O::ScheduleDestroy, &[O::DestroyKey]),
    (O::UnloadKey, &[O::DestroyKey]),
    (O::SuspendKey, &[O::DeactivateKey, O::CompromiseKey]),
    (O::ResumeKey, &[O::ActivateKey]),
    (O::Encrypt, &[O::Wrap, O::KeepSecret]),
    (O::Decrypt, &[O::Unwrap, O::ReadSecret]),
];

/// A set of AWS's actions on keys, one bit a row of [`ON_KEYS`], and one for all that AWS does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Actions(u64);

const _: () = assert!(ON_KEYS.len() < 64, "one bit for each action, and one more");

/// What AWS does not know: in whatever names all actions, or all but some.
const BEYOND: u64 = 1 << ON_KEYS.len();

impl Actions {
    /// Every action there is.
    pub(super) const ALL: Self = Self(BEYOND | (BEYOND - 1));

    const fn of(bits: u64) -> Self {
        if bits | BEYOND == Self::ALL.0 { Self::ALL } else { Self(bits) }
    }

    /// Reads one pattern such as `kms:Encrypt`, `kms:Describe*` or `*`. Case does not matter.
    ///
    /// `None` if it names no action of AWS KMS.
    pub(super) fn read(pattern: &str) -> Option<Self> {
        if pattern == "*" {
            return Some(Self::ALL);
        }
        let (service, pattern) = pattern.split_once(':')?;
        let pattern = pattern.to_ascii_lowercase();
        let named = |name: &str| matches(&pattern, &name.to_ascii_lowercase());
        let found = ON_KEYS.iter().enumerate().filter(|(_, row)| named(row.0));
        let found = Self::of(found.fold(0, |bits, (at, _)| bits | 1 << at));
        let any = found != Self::default() || ON_NO_KEY.iter().any(|name| named(name));
        (service.eq_ignore_ascii_case("kms") && any).then_some(found)
    }

    /// All that are in either.
    pub(super) const fn and(self, other: Self) -> Self {
        Self::of(self.0 | other.0)
    }

    /// All that are not in it.
    pub(super) const fn others(self) -> Self {
        Self(Self::ALL.0 & !self.0)
    }

    fn has(self, at: usize) -> bool {
        self.0 & 1 << at != 0
    }

    /// The rows that are in it.
    fn rows(self) -> impl Iterator<Item = &'static Row> {
        ON_KEYS.iter().enumerate().filter(move |(at, _)| self.has(*at)).map(|(_, row)| row)
    }

    /// Of the actions that are `operation` here, one that is not in this set and that `counts`.
    fn lacks(self, operation: Operation, counts: impl Fn(Sharing) -> bool) -> Option<&'static str> {
        let rows = ON_KEYS.iter().enumerate().filter(|(_, row)| row.1.contains(&operation));
        let mut lacking = rows.filter(|(at, row)| counts(row.2) && !self.has(*at));
        lacking.next().map(|(_, row)| row.0)
    }

    /// The core operations of an allowance of exactly these actions.
    ///
    /// # Errors
    /// The name of an action that such an allowance would give too.
    pub(super) fn allowed(self) -> Result<Vec<Operation>, &'static str> {
        let mut operations = Vec::new();
        for Row(_, own, sharing) in self.rows() {
            for &operation in *own {
                match self.lacks(operation, |sharing| sharing == Whole) {
                    Some(missing) if *sharing != Reads => return Err(missing),
                    Some(_) | None => operations.push(operation),
                }
            }
        }
        Ok(sorted(operations))
    }

    /// The core operations of a refusal of exactly these actions, with those that AWS does not know: all of them for
    /// all actions and for all but some, otherwise those that come to the same.
    ///
    /// # Errors
    /// The name of an action that such a refusal would refuse too.
    pub(super) fn denied(self) -> Result<Vec<Operation>, &'static str> {
        let mut operations: Vec<Operation> = self.rows().flat_map(|row| row.1.iter().copied()).collect();
        if let Some(missing) = operations.iter().find_map(|operation| self.lacks(*operation, |_| true)) {
            return Err(missing);
        }
        let same = REFUSED_TOO.iter().filter(|(operation, _)| operations.contains(operation));
        let mut beside: Vec<Operation> = same.flat_map(|(_, beside)| beside.iter().copied()).collect();
        if operations.iter().any(|operation| matches!(operation.class(), Class::Protect | Class::Process)) {
            beside.push(O::ExportKey);
        }
        if self.0 & BEYOND != 0 {
            beside.extend(Operation::ALL.iter().copied().filter(is_unknown_to_aws));
        }
        operations.extend(beside);
        Ok(sorted(operations))
    }
}

fn is_unknown_to_aws(operation: &Operation) -> bool {
    let on_keys = operation.info().scope == Scope::Key && operation.is_decided();
    on_keys && !ON_KEYS.iter().any(|row| row.1.contains(operation))
}

fn sorted(mut operations: Vec<Operation>) -> Vec<Operation> {
    operations.sort_by_key(|operation| operation.info().code);
    operations.dedup();
    operations
}

/// Whether `text` fits `pattern`, in which `*` is any text and `?` any one character.
///
/// Takes steps in proportion to the product of both lengths at most.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    let (pattern, text) = (chars(pattern), chars(text));
    let (mut at, mut seen) = (0, 0);
    // Where the last star was, and how much of the text it took.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match (pattern.get(at), star) {
            (Some('*'), _) => {
                star = Some((at, seen));
                at += 1;
            }
            (Some(&c), _) if c == '?' || c == text[seen] => (at, seen) = (at + 1, seen + 1),
            (_, Some((place, taken))) => {
                star = Some((place, taken + 1));
                (at, seen) = (place + 1, taken + 1);
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use keyhearth_core::operation::Group;

    use super::*;

    #[test]
    fn patterns_match_as_aws_matches() {
        for (pattern, text) in
            [("*", ""), ("a*", "abc"), ("*c", "abc"), ("a*c*e", "abcde"), ("a?c", "abc"), ("**", "x")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a?", "a"), ("", "a"), ("a*b", "abc"), ("?", ""), ("A", "a")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn actions_are_read_and_told_apart() {
        let read = |patterns: &[&str]| {
            patterns.iter().fold(Actions::default(), |all, one| all.and(Actions::read(one).unwrap()))
        };
        assert_eq!(read(&["kms:*"]), Actions::ALL);
        assert_eq!(read(&["*"]), read(&["KMS:*"]));
        assert_eq!(read(&["kms:encrypt"]).allowed(), Ok(vec![O::Encrypt]));
        assert_eq!(read(&["kms:ReEncrypt*"]).allowed(), Ok(vec![O::Rewrap, O::RewrapFrom]));
        assert_eq!(read(&["kms:GenerateDataKey"]).allowed(), Ok(vec![O::DataKey]));
        assert_eq!(
            read(&["kms:GenerateDataKeyWithoutPlaintext"]).allowed(),
            Ok(vec![O::DataKeyWithoutPlaintext])
        );
        assert_eq!(read(&["kms:ListResourceTags"]).allowed(), Ok(vec![O::DescribeKey]), "what only reads");
        assert!(read(&["kms:ListResourceTags"]).denied().is_err());
        assert!(read(&["kms:TagResource"]).allowed().is_err());
        assert!(read(&["kms:TagResource"]).denied().is_err());
        assert_eq!(read(&["kms:RevokeGrant"]).allowed(), Ok(vec![O::RevokeGrant]));
        assert_eq!(read(&["kms:RetireGrant"]).allowed(), Err("RevokeGrant"));
        assert_eq!(read(&["kms:RevokeGrant"]).denied(), Err("RetireGrant"));
        assert_eq!(read(&["kms:CreateKey", "kms:List*Keys", "kms:ReplicateKey"]).allowed(), Ok(vec![]));
        assert_eq!(read(&["kms:Sign"]).others().others(), read(&["kms:Sign"]));
        for bad in ["", "kms", "kms:", "kms:Encrypts", "s3:*", "encrypt", "kms:Encrypt "] {
            assert_eq!(Actions::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn all_is_what_aws_knows_to_allow_and_everything_to_refuse() {
        let allowed = Actions::ALL.allowed().unwrap();
        for beyond in [O::ExportKey, O::DestroyKey, O::Wrap, O::Unwrap, O::WhoCan, O::CompromiseKey] {
            assert!(!allowed.contains(&beyond), "{beyond:?}");
        }
        let denied = Actions::ALL.denied().unwrap();
        let on_keys = |operation: &&O| operation.info().scope == Scope::Key && operation.is_decided();
        for operation in Operation::ALL.iter().filter(on_keys) {
            assert!(denied.contains(operation), "{operation:?}");
        }
    }

    #[test]
    fn a_refusal_reaches_what_comes_to_the_same() {
        let denied = |action: &str| Actions::read(action).unwrap().denied().unwrap();
        for (action, beside) in [
            ("kms:ScheduleKeyDeletion", &[O::DestroyKey][..]),
            ("kms:DisableKey", &[O::DeactivateKey, O::CompromiseKey]),
            ("kms:EnableKey", &[O::ActivateKey]),
            ("kms:Decrypt", &[O::Unwrap, O::ReadSecret, O::ExportKey]),
            ("kms:Encrypt", &[O::Wrap, O::KeepSecret, O::ExportKey]),
            ("kms:Sign", &[O::ExportKey]),
            ("kms:RotateKeyOnDemand", &[]),
        ] {
            let beyond: Vec<O> = denied(action).into_iter().filter(is_unknown_to_aws).collect();
            assert_eq!(beyond, sorted(beside.to_vec()), "{action}");
        }
        let but_one = Actions::read("kms:Decrypt").unwrap().others().denied().unwrap();
        for &operation in Operation::ALL.iter().filter(|operation| is_unknown_to_aws(operation)) {
            assert!(but_one.contains(&operation), "{operation:?}");
        }
        assert!(!but_one.contains(&O::Decrypt));
        assert_eq!(Actions::ALL.others().denied(), Ok(vec![]));
    }

    #[test]
    fn what_shares_an_operation_shares_it_in_one_way() {
        for &operation in Operation::ALL {
            let rows = ON_KEYS.iter().filter(|row| row.1.contains(&operation));
            let sharing: Vec<_> = rows.map(|row| row.2).filter(|one| *one != Part).collect();
            assert!(sharing.iter().all(|one| *one == sharing[0]), "{operation:?}");
            assert!(
                sharing.first() != Some(&Reads) || operation.info().group == Group::Inspect,
                "{operation:?}"
            );
        }
    }
}
