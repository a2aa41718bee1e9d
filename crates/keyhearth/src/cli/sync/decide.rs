//! What becomes of a path, by what happened to it on both sides since they were in step.
//!
//! | plain   | sealed  | |
//! |---------|---------|---|
//! | same    | same    | nothing |
//! | changed | same    | seal |
//! | changed | absent  | seal: a deletion gives way to a change |
//! | same    | changed | open, if it is signed |
//! | absent  | changed | open, if it is signed |
//! | changed | changed | compare: equal they are in step; otherwise both stay, if the sealed one is signed |
//! | absent  | same    | delete the sealed file |
//! | same    | absent  | delete the plain file, if that is signed |
//! | absent  | absent  | forget it |
//!
//! What is not signed waits, where somebody signs: the sync service may have done it. A path that was never in step is
//! changed or absent.

/// What happened on one side since both were in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nothing lies there.
    Absent,
    /// What lay there lies there.
    Same,
    /// Something else lies there.
    Changed,
}

/// What to do about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// They are in step.
    Nothing,
    /// Put the sealed file's content in place of the plain one.
    Open,
    /// Open the sealed file: if they differ both stay.
    Compare,
    /// Seal the plain file in place of the sealed one.
    Seal,
    /// Delete the sealed file.
    DeleteSealed,
    /// Delete the plain file.
    DeletePlain,
    /// Neither is there any more.
    Forget,
    /// Do nothing before somebody signs it.
    Wait,
}

/// What to do; `is_signed` says whether what lies on the sealed side, or that nothing does, was signed by a device.
pub fn decide(plain: Side, sealed: Side, is_signed: bool) -> Action {
    use Side::{Absent, Changed, Same};
    match (plain, sealed) {
        (Same, Same) => Action::Nothing,
        (Changed, Same | Absent) => Action::Seal,
        (Changed, Changed) => Action::Compare,
        (Absent, Same) => Action::DeleteSealed,
        (Absent, Absent) => Action::Forget,
        (Same | Absent, Changed) | (Same, Absent) if !is_signed => Action::Wait,
        (Same | Absent, Changed) => Action::Open,
        (Same, Absent) => Action::DeletePlain,
    }
}

#[cfg(test)]
mod tests {
    use super::Side::{Absent, Changed, Same};
    use super::*;

    /// Whole: both sides, and what is done when the sealed side is signed and when it is not.
    const TABLE: [(Side, Side, Action, Action); 9] = [
        (Absent, Absent, Action::Forget, Action::Forget),
        (Absent, Same, Action::DeleteSealed, Action::DeleteSealed),
        (Absent, Changed, Action::Open, Action::Wait),
        (Same, Absent, Action::DeletePlain, Action::Wait),
        (Same, Same, Action::Nothing, Action::Nothing),
        (Same, Changed, Action::Open, Action::Wait),
        (Changed, Absent, Action::Seal, Action::Seal),
        (Changed, Same, Action::Seal, Action::Seal),
        (Changed, Changed, Action::Compare, Action::Compare),
    ];

    #[test]
    fn the_whole_table_is_walked() {
        for (plain, sealed, signed, unsigned) in TABLE {
            assert_eq!(decide(plain, sealed, true), signed, "{plain:?} {sealed:?}");
            assert_eq!(decide(plain, sealed, false), unsigned, "{plain:?} {sealed:?}");
        }
    }

    #[test]
    fn nothing_that_changed_is_ever_deleted_or_replaced_unseen() {
        for (plain, sealed, signed, unsigned) in TABLE {
            for action in [signed, unsigned] {
                assert!(plain != Changed || !matches!(action, Action::Open | Action::DeletePlain));
                assert!(sealed != Changed || !matches!(action, Action::Seal | Action::DeleteSealed));
            }
        }
    }
}
