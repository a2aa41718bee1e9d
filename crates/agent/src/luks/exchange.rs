//! One header in the place of another, on the disk itself: at every moment the disk has the old one or the new one, whole.
//!
//! ```text
//! material of the new keyslot, where nothing lay ─▶ second copy ─▶ first copy ─▶ zeroes over the old keyslots
//!        the old header counts                   │ the new one, which has the higher number, counts
//! ```
//!
//! The commit point is the second copy: one that is torn does not count, and then the first one, which is the old header
//! still, does. Each step is on the disk before the next begins.
//!
//! Known limit: if the power fails after the commit point, the material of the old keyslots may stay. No header names it,
//! but who kept the old header and its secret gets the volume key from it, as from any copy of the old disk.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::refusal::{Refusal, Rule};
use super::{Header, mark};
use keyhearth_core::id::{Name, PrincipalId};

/// A piece that is written: where, and what.
pub type Piece = (u64, Vec<u8>);

/// What has to be written, in this order, so that the disk of `old` has the header `new`, marked as that of `machine`: the first
/// of `keyslots` is for its secret, one besides for its recovery secret. `image` is that of `new`.
///
/// # Errors
/// [`Refusal`] if `new` does not follow `old`, or their keyslots lie over each other.
pub fn pieces(
    old: &Header,
    new: &Header,
    image: &[u8],
    keyslots: &[u32],
    (machine, volume): (PrincipalId, &Name),
) -> Result<Vec<Piece>, Refusal> {
    if new.copy.sequence() <= old.copy.sequence() || new.copy.size() != old.copy.size() {
        return Err(Rule::CopiesDiffer.found("a header that does not follow the one before"));
    }
    let overlaps = |(start, length): &(u64, u64)| {
        old.areas.iter().any(|(other, bytes)| start < &(other + bytes) && other < &(start + length))
    };
    let mut sorted = keyslots.to_vec();
    sorted.sort_unstable();
    let mut present = new.keyslots();
    present.sort_unstable();
    if sorted != present || new.areas.iter().any(overlaps) {
        return Err(Rule::KeyslotArea.found("other keyslots, or some that lie over those before"));
    }
    let mut marked = new.clone();
    marked.json.set("tokens", mark::tokens(machine, volume, keyslots));
    let copies = marked.metadata()?;
    let (first, second) = copies.split_at(new.copy.size());
    let place = |number: u64| usize::try_from(number).map_err(|_| Rule::KeyslotArea.found(number));
    let mut pieces = Vec::new();
    for (offset, length) in &new.areas {
        let material = image.get(place(*offset)?..).and_then(|rest| rest.get(..place(*length).ok()?));
        let material = material.ok_or_else(|| Rule::KeyslotArea.found("an image that ends before it"))?;
        pieces.push((*offset, material.to_vec()));
    }
    pieces.extend([(first.len() as u64, second.to_vec()), (0, first.to_vec())]);
    for (start, length) in &old.areas {
        pieces.push((*start, vec![0; place(*length)?]));
    }
    Ok(pieces)
}

/// A disk that keeps what it was given before it is given more.
pub trait Durable: Read + Write + Seek {
    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// The error of fsync(2).
    fn settle(&mut self) -> io::Result<()>;
}

impl Durable for std::fs::File {
    fn settle(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Writes pieces, each durable before the next.
///
/// # Errors
/// Those of writing. The disk has the old header then, or the new one.
pub fn write(disk: &mut impl Durable, pieces: &[Piece]) -> io::Result<()> {
    for (start, bytes) in pieces {
        disk.seek(SeekFrom::Start(*start))?;
        disk.write_all(bytes)?;
        disk.settle()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use keyhearth_crypto::secret::SecretBytes;

    use super::super::testing::{KEY, format};
    use super::super::{Refusal, read};
    use super::*;
    use crate::cryptsetup::{self, Error, Purpose};

    const CLONE: PrincipalId = PrincipalId([2; 16]);
    const IMAGE: PrincipalId = PrincipalId([1; 16]);

    fn secret(bytes: [u8; 32]) -> SecretBytes {
        SecretBytes::copy_from(&bytes).unwrap()
    }

    fn root() -> Name {
        "root".parse().unwrap()
    }

    /// A disk of an image, and what makes it a clone's that `[9; 32]` opens, and `[8; 32]` for recovery.
    fn exchanged() -> (tempfile::NamedTempFile, [[u8; 32]; 2], Vec<Piece>) {
        let disk = format(&[]);
        let (old, image) = read(&mut File::open(disk.path()).unwrap()).unwrap();
        let own = [secret([9; 32]), secret([8; 32])];
        let (mut file, slots) = cryptsetup::exchange(&image, &old.keyslots(), &secret(KEY), &own).unwrap();
        let (new, image) = read(&mut file).unwrap();
        let pieces = pieces(&old, &new, &image, &slots, (CLONE, &root())).unwrap();
        (disk, [old.hash(), new.hash()], pieces)
    }

    fn header(disk: &std::path::Path) -> Result<Header, Refusal> {
        read(&mut File::open(disk).unwrap()).map(|(header, _)| header)
    }

    /// Whether cryptsetup opens the disk, by the header on it, with this key.
    fn opens(disk: &std::path::Path, key: [u8; 32]) -> bool {
        let (_, image) = read(&mut File::open(disk).unwrap()).unwrap();
        match cryptsetup::open(disk, &image, &secret(key), Purpose::Try) {
            Ok(()) => true,
            Err(Error::WrongKey) => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_clone_s_secret_opens_its_disk_and_its_image_s_does_not() {
        let (disk, [_, new], pieces) = exchanged();
        assert!(opens(disk.path(), KEY));
        write(&mut File::options().read(true).write(true).open(disk.path()).unwrap(), &pieces).unwrap();
        let written = header(disk.path()).unwrap();
        assert_eq!((written.hash(), written.keyslots().len()), (new, 2));
        assert_eq!(written.clone_of(&root(), IMAGE), Some(CLONE));
        assert!(opens(disk.path(), [9; 32]) && opens(disk.path(), [8; 32]) && !opens(disk.path(), KEY));
        // cryptsetup itself believes what was written, mark and all.
        let dumped =
            std::process::Command::new("cryptsetup").args(["luksDump"]).arg(disk.path()).output().unwrap();
        assert!(dumped.status.success() && String::from_utf8_lossy(&dumped.stdout).contains("keyhearth"));
    }

    /// Power fails after each piece, and within each at every sector of the copies, from either end.
    #[test]
    fn a_disk_whose_writing_stops_is_its_image_s_or_the_clone_s() {
        let (disk, [old, new], pieces) = exchanged();
        let whole = fs::read(disk.path()).unwrap();
        let (mut disk_now, mut seen) = (whole.clone(), Vec::new());
        let mut look = |disk_now: &[u8], expected: Option<[u8; 32]>| {
            let found = super::super::Header::parse(disk_now).unwrap().hash();
            assert!(found == old || found == new);
            assert!(expected.is_none_or(|expected| expected == found));
            seen.push(found);
        };
        for (index, (start, bytes)) in pieces.iter().enumerate() {
            let start = usize::try_from(*start).unwrap();
            let before = disk_now.clone();
            for cut in (0..bytes.len()).step_by(512).take(64) {
                let mut torn = before.clone();
                torn[start..start + cut].copy_from_slice(&bytes[..cut]);
                look(&torn, None);
                // Disks write sectors in the order that suits them.
                let mut torn = before.clone();
                torn[start + cut..start + bytes.len()].copy_from_slice(&bytes[cut..]);
                look(&torn, None);
            }
            disk_now[start..start + bytes.len()].copy_from_slice(bytes);
            look(&disk_now, Some(if index < 2 { old } else { new }));
        }
        let first_new = seen.iter().position(|found| *found == new).unwrap();
        assert!(seen[..first_new].iter().all(|found| *found == old) && seen.last() == Some(&new));
        // Where the old header counts its key opens, and where the new one does, the other.
        for (stopped, key) in [(1, KEY), (2, KEY), (3, [9; 32]), (4, [9; 32]), (5, [9; 32])] {
            let mut disk_now = whole.clone();
            for (start, bytes) in &pieces[..stopped] {
                let start = usize::try_from(*start).unwrap();
                disk_now[start..start + bytes.len()].copy_from_slice(bytes);
            }
            fs::write(disk.path(), &disk_now).unwrap();
            assert!(opens(disk.path(), key), "{stopped}");
            assert!(!opens(disk.path(), if key == KEY { [9; 32] } else { KEY }), "{stopped}");
        }
    }

    #[test]
    fn a_header_that_does_not_follow_is_not_written() {
        let disk = format(&[]);
        let (old, image) = read(&mut File::open(disk.path()).unwrap()).unwrap();
        let (whose, own) = ((CLONE, &root()), [secret([9; 32])]);
        assert!(pieces(&old, &old, &image, &[0], whose).is_err());
        let (mut file, slots) = cryptsetup::exchange(&image, &old.keyslots(), &secret(KEY), &own).unwrap();
        let (new, made) = read(&mut file).unwrap();
        assert!(pieces(&new, &old, &made, &slots, whose).is_err());
        assert!(pieces(&old, &new, &made[..4096], &slots, whose).is_err());
        assert!(pieces(&old, &new, &made, &[slots[0] + 1], whose).is_err());
        assert!(pieces(&old, &new, &made, &slots, whose).is_ok());
        let wrong = cryptsetup::exchange(&image, &old.keyslots(), &secret([1; 32]), &own);
        assert!(matches!(wrong, Err(Error::WrongKey | Error::Failed(_))), "{wrong:?}");
    }
}
