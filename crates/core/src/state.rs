//! The states of a key version and what each allows.
//!
//! ```text
//!                ┌────────── compromise ──────────────┐
//!                │                                    ▼
//!  PreActive ─activate─▶ Active ─deactivate─▶ Deactivated ─compromise─▶ Compromised
//!      │                 │    ▲                 ▲  │                        │
//!      │             suspend resume         deactivate                      │
//!      │                 ▼    │                 │  │                        │
//!      │                Suspended ──────────────┘  │                        │
//!      └─────────── destroy ───────────────────────┴── destroy ─────────────┴──▶ Destroyed
//! ```
//! `compromise` is allowed from every state; on `Destroyed` it only records the date (the older
//! "destroyed compromised", which KMIP still spells). Nothing goes back but `resume`.
//! A version older than the primary one that is activated, or whose date comes, is deactivated at once: it
//! only processes. Destroying an `Active` or `Suspended` version is refused: deactivate or compromise it first.
//! A key can also be suspended as a whole ([`crate::key::Key::suspended`]): then its versions keep their states and
//! allow what both their own and [`State::Suspended`] allow. An imported version whose material was deleted keeps
//! its state as well, and allows nothing until it has that material again.
//!
//! Source: NIST SP 800-57 Part 1 Rev. 5 §7.

use std::fmt;

use minicbor::{Decode, Encode};

/// The state of one key version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum State {
    /// Exists; protects and processes nothing yet.
    #[n(0)]
    PreActive,
    /// In use, inside its dates.
    #[n(1)]
    Active,
    /// Stopped for a while.
    #[n(2)]
    Suspended,
    /// Processes what it protected; protects nothing more.
    #[n(3)]
    Deactivated,
    /// Known or suspected to others.
    #[n(4)]
    Compromised,
    /// The material is gone; the record stays for ever.
    #[n(5)]
    Destroyed,
}

impl State {
    /// All states, in the order of a version's life.
    pub const ALL: [Self; 6] = [
        Self::PreActive,
        Self::Active,
        Self::Suspended,
        Self::Deactivated,
        Self::Compromised,
        Self::Destroyed,
    ];

    /// The state's name as every interface of ours spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether this version may be used for `class` in this state; dates are looked at elsewhere.
    #[must_use]
    pub const fn allows(self, class: Class, switches: Switches) -> bool {
        match (self, class) {
            (_, Class::Metadata)
            | (Self::Active, Class::Protect | Class::Process | Class::Export)
            | (Self::Deactivated, Class::Process | Class::Export) => true,
            (Self::Suspended, Class::Process) => switches.process_when_suspended,
            (Self::Compromised, Class::Process) => switches.process_when_compromised,
            (Self::PreActive, Class::Protect | Class::Process | Class::Export)
            | (Self::Suspended, Class::Protect | Class::Export)
            | (Self::Deactivated, Class::Protect)
            | (Self::Compromised, Class::Protect | Class::Export)
            | (Self::Destroyed, Class::Protect | Class::Process | Class::Export) => false,
        }
    }

    /// The state after `transition`, or `None` where it is refused.
    #[must_use]
    pub const fn after(self, transition: Transition) -> Option<Self> {
        match (self, transition) {
            (Self::PreActive, Transition::Activate) | (Self::Suspended, Transition::Resume) => {
                Some(Self::Active)
            }
            (Self::Active, Transition::Suspend) => Some(Self::Suspended),
            (Self::Active | Self::Suspended, Transition::Deactivate) => Some(Self::Deactivated),
            (
                Self::PreActive | Self::Active | Self::Suspended | Self::Deactivated,
                Transition::Compromise,
            ) => Some(Self::Compromised),
            (Self::Destroyed, Transition::Compromise)
            | (Self::PreActive | Self::Deactivated | Self::Compromised, Transition::Destroy) => {
                Some(Self::Destroyed)
            }
            (
                Self::Active | Self::Suspended | Self::Deactivated | Self::Compromised | Self::Destroyed,
                Transition::Activate,
            )
            | (
                Self::PreActive | Self::Active | Self::Deactivated | Self::Compromised | Self::Destroyed,
                Transition::Resume,
            )
            | (
                Self::PreActive | Self::Suspended | Self::Deactivated | Self::Compromised | Self::Destroyed,
                Transition::Suspend,
            )
            | (
                Self::PreActive | Self::Deactivated | Self::Compromised | Self::Destroyed,
                Transition::Deactivate,
            )
            | (Self::Compromised, Transition::Compromise)
            | (Self::Active | Self::Suspended | Self::Destroyed, Transition::Destroy) => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a use of key material does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Encrypt, sign, MAC, wrap, encapsulate.
    Protect,
    /// Decrypt, verify, unwrap, decapsulate, agree.
    Process,
    /// Give the material out, wrapped.
    Export,
    /// Read what is known about the key.
    Metadata,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Protect, Self::Process, Self::Export, Self::Metadata];
}

/// Exceptions that a key's administrator can switch on, one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Switches {
    /// A suspended version still processes.
    #[n(0)]
    pub process_when_suspended: bool,
    /// A compromised version still processes, to recover data. Each use must state a reason, which is logged.
    #[n(1)]
    pub process_when_compromised: bool,
}

/// A change of state that somebody or a date can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transition {
    /// Begin use.
    Activate,
    /// Stop for a while.
    Suspend,
    /// End a suspension.
    Resume,
    /// End protecting.
    Deactivate,
    /// Record that others may know it.
    Compromise,
    /// Delete the material.
    Destroy,
}

impl Transition {
    /// All transitions.
    pub const ALL: [Self; 6] =
        [Self::Activate, Self::Suspend, Self::Resume, Self::Deactivate, Self::Compromise, Self::Destroy];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the module's documentation, cell by cell: `+` yes, `-` no, `s` by a switch.
    #[test]
    fn the_whole_use_table() {
        let table = [
            (State::PreActive, "---+"),
            (State::Active, "++++"),
            (State::Suspended, "-s-+"),
            (State::Deactivated, "-+++"),
            (State::Compromised, "-s-+"),
            (State::Destroyed, "---+"),
        ];
        let on = Switches { process_when_suspended: true, process_when_compromised: true };
        for (state, row) in table {
            for (class, cell) in Class::ALL.into_iter().zip(row.chars()) {
                let expected = match cell {
                    '+' => (true, true),
                    's' => (false, true),
                    _ => (false, false),
                };
                let found = (state.allows(class, Switches::default()), state.allows(class, on));
                assert_eq!(found, expected, "{state} {class:?}");
            }
        }
        let only_suspended = Switches { process_when_suspended: true, process_when_compromised: false };
        assert!(!State::Compromised.allows(Class::Process, only_suspended));
    }

    #[test]
    fn the_whole_transition_table() {
        use State as S;
        // Columns as Transition::ALL: activate, suspend, resume, deactivate, compromise, destroy.
        let table = [
            (S::PreActive, [Some(S::Active), None, None, None, Some(S::Compromised), Some(S::Destroyed)]),
            (S::Active, [None, Some(S::Suspended), None, Some(S::Deactivated), Some(S::Compromised), None]),
            (S::Suspended, [None, None, Some(S::Active), Some(S::Deactivated), Some(S::Compromised), None]),
            (S::Deactivated, [None, None, None, None, Some(S::Compromised), Some(S::Destroyed)]),
            (S::Compromised, [None, None, None, None, None, Some(S::Destroyed)]),
            (S::Destroyed, [None, None, None, None, Some(S::Destroyed), None]),
        ];
        for (state, row) in table {
            for (transition, expected) in Transition::ALL.into_iter().zip(row) {
                assert_eq!(state.after(transition), expected, "{state} {transition:?}");
            }
        }
    }
}
