//! Stands in for the kernel's report interface in a test machine: a FUSE file system like `configfs-tsm`.
//!
//! Each folder that is made has the files of a report. What is written to `inblob` goes to the address of the first
//! argument, and what comes back from there is `outblob` and `auxblob`: the hardware is outside, so that the test
//! decides what it signs. Standard input is `/dev/fuse`, mounted by whoever starts this.
//!
//! Source: Linux, Documentation/ABI/testing/configfs-tsm and include/uapi/linux/fuse.h (7.31).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;

const ROOT: u64 = 1;
/// A folder is a multiple of this; its files follow it.
const STEP: u64 = 16;
const FILES: [&str; 7] =
    ["inblob", "outblob", "auxblob", "provider", "generation", "privlevel", "privlevel_floor"];
const REQUEST_BYTES_MAX: usize = 1 << 17;

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;
const ENODATA: i32 = 61;
const FOLDER: u32 = 0o40_755;
const FILE: u32 = 0o100_644;

#[derive(Default)]
struct Report {
    name: Vec<u8>,
    asked: Vec<u8>,
    generation: u32,
    /// What the hardware said, and to which generation.
    answered: Option<(u32, Vec<u8>, Vec<u8>)>,
}

struct Reports {
    hardware: String,
    reports: BTreeMap<u64, Report>,
    next: u64,
}

type Answer = Result<Vec<u8>, i32>;

fn number<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], i32> {
    bytes.get(offset..offset + N).and_then(|part| part.try_into().ok()).ok_or(EINVAL)
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, i32> {
    number(bytes, offset).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Result<u64, i32> {
    number(bytes, offset).map(u64::from_ne_bytes)
}

fn name(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// `struct fuse_attr`
fn attributes(node: u64) -> Vec<u8> {
    let mode = if node == ROOT || node.is_multiple_of(STEP) { FOLDER } else { FILE };
    let mut bytes = vec![0; 88];
    bytes[..8].copy_from_slice(&node.to_ne_bytes());
    bytes[60..64].copy_from_slice(&mode.to_ne_bytes());
    bytes[64..68].copy_from_slice(&1_u32.to_ne_bytes());
    bytes
}

/// `struct fuse_entry_out`, which the kernel keeps for no time.
fn entry(node: u64) -> Vec<u8> {
    [&node.to_ne_bytes()[..], &[0; 32], &attributes(node)].concat()
}

impl Reports {
    fn answer(&mut self, operation: u32, node: u64, body: &[u8]) -> Answer {
        match operation {
            1 => self.lookup(node, &name(body)),
            3 | 4 => Ok([&[0; 16][..], &attributes(node)].concat()),
            9 => self.make(node, name(body.get(8..).unwrap_or_default())),
            11 => self.remove(&name(body)),
            // Opened without a cache: files have no size.
            14 => Ok([&[0; 8][..], &1_u32.to_ne_bytes(), &[0; 4]].concat()),
            15 => self.read(node, u64_at(body, 8)?, u32_at(body, 16)?),
            16 => self.write(node, body.get(40..).ok_or(EINVAL)?),
            18 | 25 | 29 | 34 => Ok(Vec::new()),
            26 => Ok(initial()),
            27 => Ok(vec![0; 16]),
            28 => Ok(Vec::new()),
            _ => Err(ENOSYS),
        }
    }

    fn lookup(&self, node: u64, name: &[u8]) -> Answer {
        if node == ROOT {
            return self.find(name).map(entry).ok_or(ENOENT);
        }
        let place = FILES.iter().position(|file| file.as_bytes() == name).ok_or(ENOENT)?;
        Ok(entry(node + 1 + place as u64))
    }

    fn find(&self, name: &[u8]) -> Option<u64> {
        self.reports.iter().find(|(_, report)| report.name == name).map(|(node, _)| *node)
    }

    fn make(&mut self, parent: u64, name: Vec<u8>) -> Answer {
        if parent != ROOT || self.find(&name).is_some() {
            return Err(EEXIST);
        }
        self.next += STEP;
        self.reports.insert(self.next, Report { name, ..Report::default() });
        Ok(entry(self.next))
    }

    fn remove(&mut self, name: &[u8]) -> Answer {
        let node = self.find(name).ok_or(ENOENT)?;
        self.reports.remove(&node);
        Ok(Vec::new())
    }

    fn report(&mut self, node: u64) -> Result<(&mut Report, &'static str), i32> {
        let file = usize::try_from(node % STEP).ok().and_then(|place| FILES.get(place.wrapping_sub(1)));
        let report = self.reports.get_mut(&(node - node % STEP));
        report.zip(file.copied()).ok_or(ENOENT)
    }

    fn write(&mut self, node: u64, data: &[u8]) -> Answer {
        let (report, file) = self.report(node)?;
        match file {
            "inblob" if data.len() == 64 => data.clone_into(&mut report.asked),
            "privlevel" => {}
            _ => return Err(EINVAL),
        }
        report.generation += 1;
        let written = u32::try_from(data.len()).map_err(|_| EINVAL)?;
        Ok([written.to_ne_bytes(), [0; 4]].concat())
    }

    fn read(&mut self, node: u64, offset: u64, size: u32) -> Answer {
        let hardware = self.hardware.clone();
        let (report, file) = self.report(node)?;
        let contents = match file {
            "provider" => b"sev_guest\n".to_vec(),
            "privlevel_floor" => b"0\n".to_vec(),
            "generation" => format!("{}\n", report.generation).into_bytes(),
            "outblob" | "auxblob" => {
                let (out, aux) = report.answered(&hardware)?;
                if file == "outblob" { out } else { aux }
            }
            _ => return Err(EINVAL),
        };
        let start = usize::try_from(offset).map_err(|_| EINVAL)?.min(contents.len());
        let end = start.saturating_add(size as usize).min(contents.len());
        Ok(contents[start..end].to_vec())
    }
}

impl Report {
    fn answered(&mut self, hardware: &str) -> Result<(Vec<u8>, Vec<u8>), i32> {
        if self.asked.is_empty() {
            return Err(EINVAL);
        }
        if self.answered.as_ref().is_none_or(|(generation, ..)| *generation != self.generation) {
            let (out, aux) = ask(hardware, &self.asked).map_err(|_| ENODATA)?;
            self.answered = Some((self.generation, out, aux));
        }
        self.answered.as_ref().map(|(_, out, aux)| (out.clone(), aux.clone())).ok_or(ENODATA)
    }
}

/// Sends 64 bytes; gets two blobs, each behind its length (4 bytes, big-endian).
fn ask(hardware: &str, asked: &[u8]) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut stream = TcpStream::connect(hardware)?;
    stream.write_all(asked)?;
    let mut blob = || {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut bytes).map(|()| bytes)
    };
    Ok((blob()?, blob()?))
}

/// `struct fuse_init_out`
fn initial() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    for (offset, value) in [(0, 7_u32), (4, 31), (20, 4096), (24, 1)] {
        bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

fn main() -> std::io::Result<()> {
    let hardware = std::env::args().nth(1).unwrap_or_default();
    let mut device = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut reports = Reports { hardware, reports: BTreeMap::new(), next: 0 };
    let mut request = vec![0; REQUEST_BYTES_MAX];
    loop {
        let length = device.read(&mut request)?;
        let Some((header, body)) = request[..length].split_at_checked(40) else { continue };
        let parsed = (u32_at(header, 4), u64_at(header, 8), u64_at(header, 16));
        let (Ok(operation), Ok(unique), Ok(node)) = parsed else { continue };
        // Forgotten nodes and interrupts have no answer.
        if matches!(operation, 2 | 36 | 42) {
            continue;
        }
        let (error, contents) = match reports.answer(operation, node, body) {
            Ok(contents) => (0, contents),
            Err(error) => (-error, Vec::new()),
        };
        let total = u32::try_from(16 + contents.len()).map_err(std::io::Error::other)?;
        let head = [&total.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()].concat();
        device.write_all(&[head, contents].concat())?;
    }
}
