//! What the kernel asks of a filesystem, answered from [`Files`].

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, Request,
};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::beneath::Entry;
use super::files::{Files, Seen};

/// How long the kernel believes names and lengths.
const TTL: Duration = Duration::from_secs(1);
/// The most that is written in one request, in bytes.
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// The most that is read in one request, in bytes.
const READ_BYTES_MAX: u32 = 1 << 20;
/// The longest name, in bytes; the suffix comes to it.
const NAME_BYTES_MAX: u32 = 250;

/// A listing of a folder, as it was when it was opened.
type Listing = Vec<(OsString, FileType)>;

/// The mounted folder.
pub struct View {
    files: Arc<Files>,
    /// Whose it is.
    owner: (u32, u32),
    listings: Mutex<HashMap<u64, Arc<Listing>>>,
    next: AtomicU64,
}

impl View {
    pub fn new(files: Arc<Files>) -> io::Result<Self> {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Ok(Self { files, owner, listings: Mutex::default(), next: AtomicU64::new(1) })
    }

    fn attributes(&self, number: u64, seen: &Seen) -> FileAttr {
        let (kind, perm) =
            if seen.is_folder { (FileType::Directory, 0o500) } else { (FileType::RegularFile, 0o400) };
        FileAttr {
            ino: INodeNo(number),
            size: seen.bytes,
            blocks: seen.bytes.div_ceil(512),
            atime: seen.modified,
            mtime: seen.modified,
            ctime: seen.changed,
            crtime: seen.modified,
            kind,
            perm,
            // Of folders too: how many they hold is not counted.
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 64 * 1024,
            flags: 0,
        }
    }

    fn look_up(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let path = self.files.path(parent.0)?.join(name);
        let seen = self.files.see(&path)?;
        let number = self.files.names.lock().look_up(path);
        Ok(self.attributes(number, &seen))
    }

    fn list(&self, folder: &Path) -> Result<Listing, Errno> {
        let above = [".", ".."].map(|name| (OsString::from(name), FileType::Directory));
        let entries = self.files.root.folder(folder)?.entries()?;
        let kind = |entry| match entry {
            Entry::Folder => FileType::Directory,
            Entry::File(_) => FileType::RegularFile,
        };
        Ok(above.into_iter().chain(entries.into_iter().map(|(name, entry)| (name, kind(entry)))).collect())
    }
}

impl Filesystem for View {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Another length is the kernel's choice.
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        Ok(())
    }

    fn destroy(&mut self) {
        self.files.end_all();
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.look_up(parent, name) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, lookups: u64) {
        self.files.names.lock().forget(number.0, lookups);
    }

    fn getattr(&self, _: &Request, number: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let seen = match handle {
            Some(handle) => self.files.see_open(handle.0),
            None => self.files.path(number.0).and_then(|path| self.files.see(&path)),
        };
        match seen {
            Ok(seen) => reply.attr(&TTL, &self.attributes(number.0, &seen)),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        match self.files.open(number.0) {
            // The kernel keeps nothing of what is read: it would outlast the lease.
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut out = Zeroizing::new(vec![0; size.min(READ_BYTES_MAX) as usize]);
        match self.files.read(handle.0, offset, &mut out) {
            Ok(read) => reply.data(&out[..read]),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.close(handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.files.path(number.0).and_then(|path| self.list(&path)) {
            Ok(listing) => {
                let handle = self.next.fetch_add(1, Ordering::Relaxed);
                self.listings.lock().insert(handle, Arc::new(listing));
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listing = self.listings.lock().get(&handle.0).map(Arc::clone);
        let (Some(listing), Ok(folder)) = (listing, self.files.path(number.0)) else {
            return reply.error(Errno::EBADF);
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (name, kind)) in listing.iter().enumerate().skip(from) {
            // What the kernel was not told of yet has no number; any other than 0 will do.
            let entry = self.files.names.lock().number(&folder.join(name)).unwrap_or(u64::MAX);
            if reply.add(INodeNo(entry), at as u64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listings.lock().remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.files.root.room() {
            Ok(room) => reply.statfs(
                room.f_blocks,
                room.f_bfree,
                room.f_bavail,
                room.f_files,
                room.f_ffree,
                u32::try_from(room.f_bsize).unwrap_or(u32::MAX),
                NAME_BYTES_MAX,
                u32::try_from(room.f_frsize).unwrap_or(u32::MAX),
            ),
            Err(error) => reply.error(error.into()),
        }
    }
}
