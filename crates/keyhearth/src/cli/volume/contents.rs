//! What lies on a device that is no volume yet: whether it is empty, in use, and where its data end.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::super::failure::Failure;

/// Bytes that a conversion takes from the end of a device: twice a LUKS2 header.
/// Source: cryptsetup-reencrypt(8), `--reduce-device-size`.
pub const TAKEN_BYTES: u64 = 32 << 20;
/// As many bytes from the beginning hold every superblock that is known here.
const HEAD_BYTES: u64 = 68 << 10;

/// What is recognised on a device: file systems, partition tables, LUKS, LVM, RAID, swap.
pub fn signatures(device: &Path) -> Result<Vec<String>, Failure> {
    let failed = |what: &str| {
        let next = "wipefs comes with the package util-linux, 2.33 or later";
        Failure::new(format_args!("wipefs {}: {what}", device.display()), next)
    };
    let output = Command::new("wipefs")
        .args(["--no-act", "--json"])
        .arg(device)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim()));
    }
    if output.stdout.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let found: Value = serde_json::from_slice(&output.stdout).map_err(|_| failed("it printed no JSON"))?;
    let found = found["signatures"].as_array().ok_or_else(|| failed("it did not say what it found"))?;
    let mut kinds: Vec<String> =
        found.iter().map(|one| one["type"].as_str().unwrap_or("something").to_owned()).collect();
    kinds.dedup();
    Ok(kinds)
}

/// The loop device that an image file is attached to, if it is to one: then others may be writing to it.
pub fn attached(image: &Path) -> Option<String> {
    let image = image.canonicalize().ok()?;
    let devices = fs::read_dir("/sys/block").ok()?.flatten();
    let is_it = |name: &String| {
        let backing = format!("/sys/block/{name}/loop/backing_file");
        fs::read_to_string(backing).is_ok_and(|path| Path::new(path.trim_end_matches('\n')) == image)
    };
    devices.filter_map(|device| device.file_name().into_string().ok()).find(is_it)
}

/// Refuses an image file that is attached to a loop device. Devices that are in use, cryptsetup refuses itself.
pub fn refuse_attached(image: &Path) -> Result<(), Failure> {
    attached(image).map_or(Ok(()), |device| {
        let what = format_args!("{} is attached to /dev/{device}", image.display()).to_string();
        Err(Failure::new(what, format_args!("losetup --detach /dev/{device}, or name /dev/{device} itself")))
    })
}

/// A file system and where it ends.
#[derive(Debug, PartialEq, Eq)]
pub struct FileSystem {
    pub kind: Kind,
    /// Bytes from the device's beginning.
    pub end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext,
    Xfs,
    Btrfs,
}

/// The file system on a device, if it is one whose size is known here.
pub fn file_system(device: &Path) -> Result<Option<FileSystem>, Failure> {
    let mut head = Vec::new();
    let read = File::open(device).and_then(|mut file| {
        file.seek(SeekFrom::Start(0))?;
        file.take(HEAD_BYTES).read_to_end(&mut head)
    });
    read.map_err(|error| Failure::at(device.display(), &error))?;
    Ok(parse(&head))
}

/// Reads the superblock at a device's beginning.
///
/// Source: Linux, Documentation/filesystems/ext4 (super block); XFS Algorithms and Data Structures §Superblocks;
/// btrfs on-disk format §Superblock.
fn parse(head: &[u8]) -> Option<FileSystem> {
    const EXT: usize = 1024;
    const EXT_64BIT: u32 = 0x80;
    /// Blocks have 1 KiB times two to this power: 64 KiB at most.
    const EXT_LOG_MAX: u32 = 6;
    const BTRFS: usize = 64 << 10;
    if bytes::<2>(head, EXT + 0x38) == Some([0x53, 0xef]) {
        let word = |offset| bytes(head, EXT + offset).map(u32::from_le_bytes);
        let high = if word(0x60)? & EXT_64BIT == 0 { 0 } else { word(0x150)? };
        let blocks = u64::from(high) << 32 | u64::from(word(0x4)?);
        let log = word(0x18).filter(|log| *log <= EXT_LOG_MAX)?;
        let end = blocks.checked_mul(1024 << log)?;
        return Some(FileSystem { kind: Kind::Ext, end });
    }
    if bytes(head, 0) == Some(*b"XFSB") {
        let (size, blocks) = (u32::from_be_bytes(bytes(head, 4)?), u64::from_be_bytes(bytes(head, 8)?));
        return Some(FileSystem { kind: Kind::Xfs, end: blocks.checked_mul(u64::from(size))? });
    }
    if bytes(head, BTRFS + 0x40) == Some(*b"_BHRfS_M") {
        // With several devices its size is that of all of them.
        let number = |offset| bytes(head, BTRFS + offset).map(u64::from_le_bytes);
        let end = number(0x70).filter(|_| number(0x88) == Some(1))?;
        return Some(FileSystem { kind: Kind::Btrfs, end });
    }
    None
}

fn bytes<const LEN: usize>(head: &[u8], at: usize) -> Option<[u8; LEN]> {
    head.get(at..at.checked_add(LEN)?)?.try_into().ok()
}

/// Refuses a device of `size` bytes whose last [`TAKEN_BYTES`] are in use, or may be.
pub fn refuse_full(device: &Path, size: u64, is_free: bool) -> Result<(), Failure> {
    let room = size.saturating_sub(TAKEN_BYTES);
    let shown = device.display();
    let enlarge = if device.is_file() {
        format!("make the file larger: truncate --size=+32M {shown}")
    } else {
        "make the device 32 MiB larger, if it is one that grows (lvextend, the cloud's console)".to_owned()
    };
    let Some(found) = file_system(device)? else {
        if is_free && room > 0 {
            return Ok(());
        }
        let what = format_args!("nothing says whether the last 32 MiB of {shown} are free").to_string();
        return Err(Failure::new(
            what,
            format_args!("if nothing lies there add --end-is-free; else {enlarge}"),
        ));
    };
    if found.end <= room {
        return Ok(());
    }
    let what = format_args!(
        "the file system on {shown} ends at byte {}, and the last 32 MiB of the {size} are needed for the header",
        found.end
    )
    .to_string();
    let shrink = match found.kind {
        Kind::Ext => {
            format!("; or shrink it: e2fsck -f {shown} && resize2fs {shown} {}K", room / 4096 * 4)
        }
        Kind::Btrfs => format!("; or shrink it where it is mounted: btrfs filesystem resize {} FOLDER", room),
        Kind::Xfs => "; XFS cannot be shrunk".to_owned(),
    };
    Err(Failure::new(what, enlarge + &shrink))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ext(blocks: u32, log: u32) -> Vec<u8> {
        let mut head = vec![0; 4096];
        head[1024 + 4..][..4].copy_from_slice(&blocks.to_le_bytes());
        head[1024 + 0x18..][..4].copy_from_slice(&log.to_le_bytes());
        head[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
        head
    }

    #[test]
    fn file_systems_end_where_their_superblocks_say() {
        let is = |head: &[u8], kind, end| assert_eq!(parse(head), Some(FileSystem { kind, end }));
        is(&ext(100, 2), Kind::Ext, 100 * 4096);
        let mut large = ext(1, 2);
        large[1024 + 0x60] = 0x80;
        large[1024 + 0x150] = 1;
        is(&large, Kind::Ext, ((1 << 32) + 1) * 4096);
        let mut xfs = b"XFSB\0\0\x10\0\0\0\0\0\0\0\0\x09".to_vec();
        is(&xfs, Kind::Xfs, 9 * 4096);
        xfs.truncate(15);
        assert_eq!(parse(&xfs), None);
        let mut btrfs = vec![0; 66 << 10];
        btrfs[(64 << 10) + 0x40..][..8].copy_from_slice(b"_BHRfS_M");
        btrfs[(64 << 10) + 0x72] = 1;
        assert_eq!(parse(&btrfs), None, "the number of devices is not 1");
        btrfs[(64 << 10) + 0x88] = 1;
        is(&btrfs, Kind::Btrfs, 1 << 16);
    }

    #[test]
    fn sizes_that_cannot_be_are_no_sizes() {
        assert_eq!(parse(&ext(u32::MAX, u32::MAX)), None);
        assert_eq!(parse(&ext(2, 63)), None);
        for length in 0..2048 {
            parse(&ext(1, 1)[..length]);
        }
        assert_eq!(parse(b"XFSB\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
