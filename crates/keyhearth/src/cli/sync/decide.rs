//! What becomes of a path, by what happened on both sides since they were in step.
//!
//! What happened on the sealed side is what devices signed, and only once what lies there is that:
//!
//! | plain           | sealed | |
//! |-----------------|--------|---|
//! | same            | same   | nothing |
//! | changed         | same   | seal |
//! | absent          | same   | delete the sealed file |
//! | same or absent  | news   | open |
//! | changed         | news   | compare: equal they are in step, otherwise both stay |
//! | same            | gone   | delete the plain file |
//! | changed         | gone   | seal: a deletion gives way to a change |
//! | absent          | gone   | forget it |
//! | any             | torn   | wait |
//!
//! Where devices signed different files at once, one of them lies there. The device whose file it is has nothing to do;
//! on the other one, whose file it was to be, the plain file counts as changed: so both stay.

use std::collections::BTreeSet;

/// What happened on the plain side since both were in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Nothing lies there.
    Absent,
    /// What lay there lies there.
    Same,
    /// Something else lies there.
    Changed,
}

/// What happened on the sealed side since both were in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Nothing.
    Same,
    /// A device signed another file, and it lies there.
    News,
    /// A device signed that nothing lies there, and nothing does.
    Gone,
    /// What lies there is not what devices signed: the sync service is at work, or somebody else was.
    Torn,
}

/// What to do about a path, in the order in which it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// They are in step.
    Nothing,
    /// Delete the plain file. Before others are opened: a folder may take its place.
    DeletePlain,
    /// Put the sealed file's content in place of the plain one.
    Open,
    /// Open the sealed file: if they differ both stay.
    Compare,
    /// Seal the plain file in place of the sealed one.
    Seal,
    /// Delete the sealed file.
    DeleteSealed,
    /// Sign again what this device sealed: it was forgotten.
    SayAgain,
    /// Neither is there any more.
    Forget,
    /// Do nothing before the sealed side fits what was signed.
    Wait,
}

/// What happened on the sealed side; and whether the file that this device signed had to give way to another one.
///
/// `known` is what lay there when both were in step, `lies` what lies there now, `signed` what devices said last that lies
/// there: nothing if none ever spoke of it, several if they did at once.
pub fn sealed<F: Ord>(known: Option<&F>, lies: Option<&F>, signed: &BTreeSet<Option<F>>) -> (Sealed, bool) {
    let is_signed = |file: Option<&F>| signed.iter().any(|signed| signed.as_ref() == file);
    // What nobody ever spoke of is not there.
    let is_unheard_of = signed.is_empty() && lies.is_none() && known.is_none();
    if !(is_signed(lies) || is_unheard_of) {
        return (Sealed::Torn, false);
    }
    let what = match (known == lies, lies) {
        (true, _) => Sealed::Same,
        (false, Some(_)) => Sealed::News,
        (false, None) => Sealed::Gone,
    };
    (what, what != Sealed::Same && known.is_some() && is_signed(known))
}

/// What to do.
pub fn decide(plain: Plain, (sealed, gave_way): (Sealed, bool)) -> Action {
    let plain = if gave_way && plain == Plain::Same { Plain::Changed } else { plain };
    match (plain, sealed) {
        (_, Sealed::Torn) => Action::Wait,
        (Plain::Same, Sealed::Same) => Action::Nothing,
        (Plain::Changed, Sealed::Same | Sealed::Gone) => Action::Seal,
        (Plain::Absent, Sealed::Same) => Action::DeleteSealed,
        (Plain::Same | Plain::Absent, Sealed::News) => Action::Open,
        (Plain::Changed, Sealed::News) => Action::Compare,
        (Plain::Same, Sealed::Gone) => Action::DeletePlain,
        (Plain::Absent, Sealed::Gone) => Action::Forget,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files on the sealed side.
    const FILES: [Option<u8>; 4] = [None, Some(0), Some(1), Some(2)];

    /// Every case there is, with what is decided.
    fn each(check: impl Fn(Plain, Option<u8>, Option<u8>, &BTreeSet<Option<u8>>, Action)) {
        for signed in 0..1 << FILES.len() {
            let signed: BTreeSet<_> =
                (0..FILES.len()).filter(|at| signed >> at & 1 == 1).map(|at| FILES[at]).collect();
            for (known, lies) in FILES.into_iter().flat_map(|known| FILES.map(|lies| (known, lies))) {
                for plain in [Plain::Absent, Plain::Same, Plain::Changed] {
                    // What was not in step is not what it was then.
                    if known.is_some() || plain != Plain::Same {
                        let action = decide(plain, sealed(known.as_ref(), lies.as_ref(), &signed));
                        check(plain, known, lies, &signed, action);
                    }
                }
            }
        }
    }

    #[test]
    fn what_this_device_has_alone_is_neither_replaced_nor_deleted() {
        each(|plain, known, lies, signed, action| {
            let is_alone = plain == Plain::Changed
                || plain == Plain::Same && known != lies && signed.len() > 1 && signed.contains(&known);
            assert!(!is_alone || !matches!(action, Action::Open | Action::DeletePlain));
        });
    }

    #[test]
    fn only_what_both_sides_knew_is_replaced_or_deleted_on_the_sealed_one() {
        each(|_, known, lies, signed, action| {
            let is_known = lies == known && signed.contains(&lies);
            assert!(action != Action::Seal || lies.is_none() || is_known);
            assert!(action != Action::DeleteSealed || is_known || lies.is_none() && known.is_none());
        });
    }

    #[test]
    fn nothing_is_opened_or_deleted_that_no_device_signed() {
        each(|_, known, lies, signed, action| {
            let is_signed = signed.contains(&lies);
            let opens = matches!(action, Action::Open | Action::Compare);
            assert!(!opens || lies.is_some() && is_signed);
            assert!(action != Action::DeletePlain || lies.is_none() && is_signed);
            assert!(action != Action::Wait || !is_signed || signed.is_empty() && known.is_some());
        });
    }

    #[test]
    fn what_two_devices_signed_at_once_stays_with_both() {
        let both = BTreeSet::from([Some(0), Some(1)]);
        let decided = |plain, known: u8, lies: u8| decide(plain, sealed(Some(&known), Some(&lies), &both));
        assert_eq!(decided(Plain::Same, 0, 0), Action::Nothing);
        assert_eq!(decided(Plain::Same, 1, 0), Action::Compare);
        assert_eq!(decided(Plain::Same, 2, 0), Action::Open);
        let deleted = BTreeSet::from([None, Some(0)]);
        assert_eq!(decide(Plain::Same, sealed(Some(&0), None, &deleted)), Action::Seal);
        assert_eq!(decide(Plain::Absent, sealed(None, Some(&0), &deleted)), Action::Open);
    }
}
