//! Golden images: one encrypted image, and machines that are copies of it. Each gets an identity of its own when it starts
//! for the first time.
//!
//! An image is a machine that never boots. Whoever shows its evidence, and is allowed `clone-image`, becomes a new machine:
//!
//! ```text
//! asked ──▶ unsettled ──(header said in time)──▶ settled ──▶ an ordinary machine
//!              │  ▲ the same clone asks again
//!              └──┘ and after SETTLE_MS: nothing more, for ever
//! ```
//!
//! An unsettled clone gets nothing: its volume has no secret yet. Settling is the commit point. Before it the clone's disk is
//! that of the image, and its next start makes another clone; after it the disk may be written.

use minicbor::{Decode, Encode};

use super::{Machine, Reason, Release};
use crate::error::Error;
use crate::id::{NAME_BYTES_MAX, Name, PrincipalId};
use crate::time::{Now, Time};

/// The most clones of one image.
pub const CLONES_MAX: u32 = 100_000;
/// The longest name of an image, in bytes: those of its clones are longer.
pub const IMAGE_NAME_BYTES_MAX: usize = 48;
const _: () = assert!(IMAGE_NAME_BYTES_MAX + "-100000-01234567".len() <= NAME_BYTES_MAX, "clones have names");
/// How long a clone may take from its identity to saying which header its volume will have, in milliseconds.
pub const SETTLE_MS: u64 = 10 * 60 * 1_000;

/// What makes a machine a golden image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Image {
    /// How many clones it may make in all, 1 to [`CLONES_MAX`].
    #[n(0)]
    pub clones_max: u32,
    /// How many it made. It never becomes less.
    #[n(1)]
    pub clones: u32,
    /// Whether each of them gets its recovery secret too, for a keyslot.
    #[n(2)]
    pub recovery: bool,
}

/// Where a clone comes from.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Origin {
    /// The golden image.
    #[n(0)]
    pub image: PrincipalId,
    /// The session of the newest answer that gave its identity.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// What that was bound to.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub transcript: [u8; 64],
    /// When it is too late to settle.
    #[n(3)]
    pub until: Time,
}

/// Checks what is to be an image of at most `clones` clones.
///
/// # Errors
/// [`Error::Invalid`]: it has one volume, because one write to one disk is what makes a copy of it a clone.
pub fn check_image(name: &Name, volumes: usize, clones: u32, recovery: bool) -> Result<Image, Error> {
    if volumes != 1 {
        return Err(Error::Invalid { field: "volumes", rule: "must be one, of a golden image" });
    }
    if name.as_str().len() > IMAGE_NAME_BYTES_MAX {
        let rule = "must have at most 48 bytes, of a golden image: its clones have longer ones";
        return Err(Error::Invalid { field: "name", rule });
    }
    check_clones(clones)?;
    Ok(Image { clones_max: clones, clones: 0, recovery })
}

fn check_clones(clones: u32) -> Result<(), Error> {
    let rule = "must be 1 to 100,000";
    if (1..=CLONES_MAX).contains(&clones) { Ok(()) } else { Err(Error::Invalid { field: "clones", rule }) }
}

impl Machine {
    /// The golden image that it is, or that it is a clone of.
    #[must_use]
    pub fn image_id(&self) -> Option<PrincipalId> {
        self.origin.as_ref().map(|origin| origin.image).or(self.image.map(|_| self.id))
    }

    /// Sets how many clones it may make in all. Fewer than it made keep their identities; there will be no more.
    pub(super) fn allow_clones(&mut self, clones: u32) -> Result<(), Error> {
        check_clones(clones)?;
        let image = self.image.as_mut();
        let rule = "must be absent: this is no golden image, and a machine does not become one";
        image.ok_or(Error::Invalid { field: "clones", rule })?.clones_max = clones;
        Ok(())
    }

    /// Counts one more clone, and gives its number, from 1.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if it has made as many as it may.
    pub fn count_clone(&mut self) -> Result<u32, Error> {
        let image = self.image.as_mut().ok_or(Error::Internal("not a golden image"))?;
        if image.clones >= image.clones_max {
            return Err(Error::TooLarge { field: "clones", limit: image.clones_max as usize });
        }
        image.clones += 1;
        Ok(image.clones)
    }

    /// Where a clone that asks in `release` comes from.
    #[must_use]
    pub fn origin_of(&self, release: &Release, now: Now) -> Origin {
        let (session, transcript) = (release.session, release.transcript);
        Origin { image: self.id, session, transcript, until: now.latest.plus_ms(SETTLE_MS) }
    }

    /// Whether it is a clone whose disk is still that of its image, as far as is known.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.origin.is_some() && self.volumes.iter().all(|volume| volume.header.is_none())
    }

    /// The origin of a clone that may settle in this session. It may say the same again, as an answer may be lost, until it
    /// was released to.
    ///
    /// # Errors
    /// [`Reason::SessionUnknown`].
    pub fn settling(&self, session: &[u8; 16], now: Now) -> Result<&Origin, Reason> {
        let origin = self.origin.as_ref().filter(|origin| origin.session == *session);
        let origin = origin.filter(|origin| self.boots == 0 && !now.may_have_passed(origin.until));
        origin.ok_or(Reason::SessionUnknown)
    }

    /// Takes the header that its volume will have: its first secret opens it.
    ///
    /// # Errors
    /// [`Error::Conflict`] for another one than it said before.
    pub fn settle(&mut self, header: [u8; 32]) -> Result<(), Error> {
        for volume in &mut self.volumes {
            if volume.header.is_some_and(|known| known != header) {
                return Err(Error::Conflict("the clone said another header before"));
            }
            (volume.generation, volume.header) = (1, Some(header));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{machine, now, prepared, release};
    use super::super::{MachineChange, Volume};
    use super::*;

    fn golden() -> Machine {
        Machine { image: Some(Image { clones_max: 2, clones: 0, recovery: false }), ..prepared() }
    }

    fn clone() -> Machine {
        let asked = Release { clone: Some([5; 32]), ..release(1, None) };
        let origin = Some(golden().origin_of(&asked, now(0)));
        let volumes = vec![Volume { name: "root".parse().unwrap(), generation: 0, given: 1, header: None }];
        Machine { id: PrincipalId([9; 16]), volumes, origin, ..machine() }
    }

    #[test]
    fn an_image_gets_no_keys_and_a_machine_no_identity() {
        let (asks, boots) = (Release { clone: Some([5; 32]), ..release(1, None) }, release(1, None));
        assert_eq!(golden().check(&asks, now(0)), Ok(()));
        assert_eq!(golden().check(&boots, now(0)), Err(Reason::IsImage));
        assert_eq!(prepared().check(&asks, now(0)), Err(Reason::NoImage));
        let other = Release { headers: vec![[0; 32]], ..asks };
        assert_eq!(golden().check(&other, now(0)), Err(Reason::HeaderDiffers));
        assert_eq!((golden().image_id(), prepared().image_id()), (Some(golden().id), None));
        assert_eq!(clone().image_id(), Some(golden().id));
    }

    #[test]
    fn an_image_makes_so_many_clones_and_no_more() {
        let mut image = golden();
        assert_eq!((image.count_clone(), image.count_clone()), (Ok(1), Ok(2)));
        assert_eq!(image.count_clone(), Err(Error::TooLarge { field: "clones", limit: 2 }));
        let change = |clones| MachineChange { clones: Some(clones), ..MachineChange::default() };
        image.change(&change(3)).unwrap();
        assert_eq!(image.count_clone(), Ok(3));
        image.change(&change(1)).unwrap();
        assert!(image.count_clone().is_err() && image.image.unwrap().clones == 3);
        for clones in [0, CLONES_MAX + 1] {
            assert!(image.change(&change(clones)).is_err());
        }
        assert!(machine().change(&change(1)).is_err(), "a machine does not become an image");
    }

    #[test]
    fn a_clone_boots_once_it_has_settled() {
        let mut clone = clone();
        assert!(clone.is_unsettled());
        assert_eq!(clone.check(&release(2, None), now(0)), Err(Reason::VolumeUnknown));
        for (session, at) in [([2; 16], 0), ([1; 16], SETTLE_MS)] {
            assert_eq!(clone.settling(&session, now(at)), Err(Reason::SessionUnknown));
        }
        clone.settling(&[1; 16], now(0)).unwrap();
        clone.settle([7; 32]).unwrap();
        assert!(!clone.is_unsettled());
        // The answer was lost.
        clone.settling(&[1; 16], now(1)).unwrap();
        clone.settle([7; 32]).unwrap();
        assert!(matches!(clone.settle([8; 32]), Err(Error::Conflict(_))));
        assert_eq!(clone.check(&release(2, None), now(0)), Ok(()));
        clone.lease_to(&release(2, None), now(0));
        assert_eq!(clone.settling(&[1; 16], now(1)), Err(Reason::SessionUnknown));
    }

    #[test]
    fn an_image_has_one_volume_and_a_short_name() {
        let name = |len: usize| "a".repeat(len).parse::<Name>().unwrap();
        let check = |len, volumes, clones| check_image(&name(len), volumes, clones, false);
        check(IMAGE_NAME_BYTES_MAX, 1, 1).unwrap();
        assert!(check(IMAGE_NAME_BYTES_MAX + 1, 1, 1).is_err());
        assert!(check(1, 2, 1).is_err() && check(1, 1, 0).is_err());
    }
}
