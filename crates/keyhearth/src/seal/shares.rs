//! Collecting shares until there are enough.

use std::fmt;

use keyhearth_core::Error;
use keyhearth_core::time::Time;
use keyhearth_crypto as crypto;
use keyhearth_crypto::secret::SecretBytes;
use keyhearth_crypto::shamir::{self, Share};
use subtle::ConstantTimeEq;

use super::record::ShareSet;

/// How long shares are kept before the rest has to come, 15 minutes; then all are forgotten.
pub const COLLECT_MS_MAX: u64 = 15 * 60 * 1000;

/// What shares were split from, proven by the set's MAC.
#[derive(Debug)]
pub struct SealKey(pub(super) SecretBytes);

/// Collects shares of one set, each checked when it comes. The caller limits how often one may try.
///
/// Shares are in locked memory, and gone when they are enough, when [`COLLECT_MS_MAX`] is over,
/// and when this is dropped or cancelled.
#[derive(Debug)]
pub struct ShareCollector {
    set: ShareSet,
    shares: Vec<Share>,
    began: Option<Time>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Different shares that are there.
    pub present: u8,
    /// Shares needed.
    pub needed: u8,
}

/// What a good share led to.
#[derive(Debug)]
pub enum Collected {
    /// More are needed.
    Waiting(Progress),
    /// These were enough.
    Complete(SealKey),
}

/// Why a share was not taken. Those collected before stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareError {
    /// The text is no share; the rule it breaks.
    Text(&'static str),
    /// A share of another set: of an earlier seal, or of another server.
    OtherSet,
    /// Its data is not what was handed out.
    Altered {
        /// Which share it says it is.
        index: u8,
    },
    /// It is there already.
    Duplicate {
        /// Which share.
        index: u8,
    },
    /// All shares are good, but the stored record is not: all shares were forgotten.
    Record,
    /// Our own failure.
    Internal(&'static str),
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(rule) => write!(f, "{rule}: type it again"),
            Self::OtherSet => {
                f.write_str("this share belongs to another set: look for the one made last for this server")
            }
            Self::Altered { index } => {
                write!(f, "share {index} is not the one that was handed out: ask another custodian")
            }
            Self::Duplicate { index } => write!(f, "share {index} was given already: give another one"),
            Self::Record => f.write_str("the seal record was altered: restore it from a backup"),
            Self::Internal(what) => write!(f, "internal failure: {what}"),
        }
    }
}

impl std::error::Error for ShareError {}

impl From<ShareError> for Error {
    fn from(error: ShareError) -> Self {
        let invalid = |rule| Self::Invalid { field: "share", rule };
        match error {
            ShareError::Text(rule) => invalid(rule),
            ShareError::OtherSet => invalid("belongs to another set of shares"),
            ShareError::Altered { .. } => invalid("is not the one that was handed out"),
            ShareError::Duplicate { .. } => Self::Conflict("this share was given already"),
            ShareError::Record => Self::Damaged("seal record"),
            ShareError::Internal(what) => Self::Internal(what),
        }
    }
}

impl ShareCollector {
    pub(super) fn new(set: ShareSet) -> Self {
        Self { set, shares: Vec::new(), began: None }
    }

    /// Takes one share; with the last one needed, gives the key and forgets all shares.
    ///
    /// # Errors
    /// [`ShareError`], naming the share where that is known.
    pub fn add(&mut self, text: &str, now: Time) -> Result<Collected, ShareError> {
        self.expire(now);
        let share = Share::parse(text).map_err(|error| match error {
            crypto::Error::Internal(what) => ShareError::Internal(what),
            crypto::Error::Invalid(rule) => ShareError::Text(rule),
            crypto::Error::TooLarge { .. } | crypto::Error::Unsupported(_) | crypto::Error::NotAuthentic => {
                ShareError::Text("this is too long for a share")
            }
        })?;
        self.check(&share)?;
        self.began.get_or_insert(now);
        self.shares.push(share);
        if self.shares.len() < usize::from(self.set.threshold) {
            return Ok(Collected::Waiting(self.progress()));
        }
        let combined = shamir::combine(&self.shares);
        self.cancel();
        let key = combined.map_err(|_| ShareError::Internal("the shares do not combine"))?;
        if self.set.proves(&key) { Ok(Collected::Complete(SealKey(key))) } else { Err(ShareError::Record) }
    }

    fn check(&self, share: &Share) -> Result<(), ShareError> {
        let index = share.index;
        if share.set_id != *self.set.set_id {
            return Err(ShareError::OtherSet);
        }
        let expected = self.set.digests.get(usize::from(index).wrapping_sub(1));
        let genuine = expected.is_some_and(|expected| share.digest()[..].ct_eq(&expected[..]).into());
        if !genuine || share.threshold != self.set.threshold {
            return Err(ShareError::Altered { index });
        }
        if self.shares.iter().any(|present| present.index == index) {
            return Err(ShareError::Duplicate { index });
        }
        Ok(())
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let present = u8::try_from(self.shares.len()).expect("fewer shares than the threshold are kept");
        Progress { present, needed: self.set.threshold }
    }

    /// Forgets the shares if they have waited for too long, or the clock went backwards.
    pub fn expire(&mut self, now: Time) {
        if let Some(began) = self.began {
            let waited = now.unix_ms().checked_sub(began.unix_ms());
            if waited.is_none_or(|waited| waited >= COLLECT_MS_MAX) {
                self.cancel();
            }
        }
    }

    /// Forgets all shares.
    pub fn cancel(&mut self) {
        self.shares.clear();
        self.began = None;
    }
}
