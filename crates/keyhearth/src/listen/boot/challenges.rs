//! Nonces that were given out. Each serves once, and is gone before what came with it is looked at.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use keyhearth_core::Error;
use keyhearth_core::id::{Name, PrincipalId};
use keyhearth_proto::boot::{CHALLENGE_S, NONCE_BYTES, SESSION_BYTES, Tee};

/// The most challenges that wait for an answer, in all: about 1 KiB each.
const WAITING_MAX: usize = 10_000;
/// The most that are given in [`CHALLENGE_S`], answered or not: 40 bytes each. Machines that run answer at once.
const GIVEN_MAX: usize = 100_000;
/// The most that wait from one address: more machines than boot at once behind one gateway.
const WAITING_OF_ADDRESS_MAX: usize = 500;

/// What was asked for with a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Who it said it was.
    pub machine: PrincipalId,
    /// What was to vouch for it.
    pub tee: Tee,
    /// What it wanted to open.
    pub volumes: Vec<Name>,
    /// What it was given.
    pub nonce: [u8; NONCE_BYTES],
    /// Where it asked from.
    pub address: IpAddr,
}

/// The challenges that wait for an answer.
#[derive(Debug, Default)]
pub struct Challenges {
    waiting: HashMap<[u8; SESSION_BYTES], Challenge>,
    of_address: HashMap<IpAddr, usize>,
    /// All of the last [`CHALLENGE_S`], answered or not, in the order of their ends.
    ends: VecDeque<(Instant, [u8; SESSION_BYTES])>,
}

impl Challenges {
    /// Waits for an answer.
    ///
    /// # Errors
    /// [`Error::TooMany`] for an address that has too many, [`Error::Unavailable`] if there are too many in all.
    pub fn put(
        &mut self,
        session: [u8; SESSION_BYTES],
        challenge: Challenge,
        now: Instant,
    ) -> Result<(), Error> {
        self.forget_ended(now);
        let retry_after_ms = CHALLENGE_S * 1_000;
        if self.of_address.get(&challenge.address).is_some_and(|count| *count >= WAITING_OF_ADDRESS_MAX) {
            return Err(Error::TooMany { retry_after_ms });
        }
        if self.waiting.len() >= WAITING_MAX || self.ends.len() >= GIVEN_MAX {
            return Err(Error::Unavailable { retry_after_ms });
        }
        *self.of_address.entry(challenge.address).or_default() += 1;
        self.ends.push_back((now + Duration::from_secs(CHALLENGE_S.into()), session));
        self.waiting.insert(session, challenge);
        Ok(())
    }

    /// Takes what was asked with the challenge of this session, if it waits still.
    pub fn take(&mut self, session: &[u8; SESSION_BYTES], now: Instant) -> Option<Challenge> {
        self.forget_ended(now);
        let challenge = self.waiting.remove(session)?;
        self.release(challenge.address);
        Some(challenge)
    }

    fn forget_ended(&mut self, now: Instant) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            let Some((_, session)) = self.ends.pop_front() else { return };
            if let Some(challenge) = self.waiting.remove(&session) {
                self.release(challenge.address);
            }
        }
    }

    fn release(&mut self, address: IpAddr) {
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(last: u8) -> Challenge {
        Challenge {
            machine: PrincipalId([1; 16]),
            tee: Tee::Snp,
            volumes: Vec::new(),
            nonce: [2; NONCE_BYTES],
            address: IpAddr::from([10, 0, 0, last]),
        }
    }

    fn session(number: usize) -> [u8; SESSION_BYTES] {
        (number as u128).to_be_bytes()
    }

    #[test]
    fn a_challenge_serves_once_and_for_a_time() {
        let (mut challenges, begin) = (Challenges::default(), Instant::now());
        challenges.put(session(1), challenge(1), begin).unwrap();
        challenges.put(session(2), challenge(1), begin).unwrap();
        assert_eq!(challenges.take(&session(1), begin), Some(challenge(1)));
        assert_eq!(challenges.take(&session(1), begin), None);
        let end = begin + Duration::from_secs(CHALLENGE_S.into());
        assert_eq!(challenges.take(&session(2), end), None);
        assert!(challenges.of_address.is_empty() && challenges.ends.is_empty());
    }

    #[test]
    fn neither_one_address_nor_all_fill_the_memory() {
        let (mut challenges, now) = (Challenges::default(), Instant::now());
        for number in 0..WAITING_OF_ADDRESS_MAX {
            challenges.put(session(number), challenge(1), now).unwrap();
        }
        let full = challenges.put(session(usize::MAX), challenge(1), now);
        assert!(matches!(full, Err(Error::TooMany { .. })));
        let mut number = WAITING_OF_ADDRESS_MAX;
        let refused = (2..=255).find_map(|last| {
            (0..WAITING_OF_ADDRESS_MAX - 1).find_map(|_| {
                number += 1;
                challenges.put(session(number), challenge(last), now).err()
            })
        });
        assert!(matches!(refused, Some(Error::Unavailable { .. })), "{refused:?}");
        assert_eq!(challenges.waiting.len(), WAITING_MAX);
    }

    #[test]
    fn what_is_answered_makes_room_but_not_without_end() {
        let (mut challenges, now) = (Challenges::default(), Instant::now());
        for number in 0..GIVEN_MAX {
            challenges.put(session(number), challenge(1), now).unwrap();
            challenges.take(&session(number), now).unwrap();
        }
        let full = challenges.put(session(GIVEN_MAX), challenge(1), now);
        assert!(matches!(full, Err(Error::Unavailable { .. })), "{full:?}");
        let later = now + Duration::from_secs(CHALLENGE_S.into());
        challenges.put(session(GIVEN_MAX), challenge(1), later).unwrap();
        assert_eq!(challenges.ends.len(), 1);
    }
}
