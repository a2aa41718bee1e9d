//! What the kernel asks of a filesystem, answered from [`Files`].
//!
//! Not here: links and devices, which there are none of; locks and copies within it, which the kernel does itself.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use keyhearth_files::SCRATCH_BYTES_MAX;
use parking_lot::Mutex;
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::files::{Files, Seen, Wanted};
use super::shown::Entry;

/// How long the kernel believes names and lengths.
const TTL: Duration = Duration::from_secs(1);
/// The most that is written in one request, in bytes.
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// The most that is read in one request, in bytes.
const READ_BYTES_MAX: u32 = 1 << 20;

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
        let write = if self.files.key.is_some() { 0o200 } else { 0 };
        let (kind, perm) = if seen.is_folder {
            (FileType::Directory, 0o500 | write)
        } else {
            (FileType::RegularFile, 0o400 | write)
        };
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
        let number = self.files.numbers.lock().look_up(path);
        Ok(self.attributes(number, &seen))
    }

    fn see(&self, number: u64, handle: Option<FileHandle>) -> Result<FileAttr, Errno> {
        let seen = match (handle, self.files.path(number)) {
            (Some(handle), _) => self.files.see_open(handle.0),
            (None, Ok(path)) => self.files.see(&path),
            (None, Err(_)) => self.files.see_nameless(number),
        };
        Ok(self.attributes(number, &seen?))
    }

    /// Where something of this name in a folder is.
    fn inside(&self, parent: INodeNo, name: &OsStr) -> Result<PathBuf, Errno> {
        Ok(self.files.path(parent.0)?.join(name))
    }

    /// Makes a file, or opens that which is there already, unless it must not be.
    fn create(&self, path: PathBuf, flags: OFlags) -> Result<(FileAttr, u64), Errno> {
        let number = || self.files.numbers.lock().look_up(path.clone());
        let handle = match self.files.create(&path, number) {
            Err(error) if error.code() == Errno::EEXIST.code() && !flags.contains(OFlags::EXCL) => {
                let writes =
                    !matches!(OpenFlags(flags.bits().cast_signed()).acc_mode(), OpenAccMode::O_RDONLY);
                let number = number();
                let wanted = Wanted { writes, cut: flags.contains(OFlags::TRUNC) };
                // The kernel is not told of it then.
                self.files
                    .open(number, wanted)
                    .inspect_err(|_| self.files.numbers.lock().forget(number, 1))?
            }
            made => made?,
        };
        let number = self.files.held(handle)?.number;
        Ok((self.see(number, Some(FileHandle(handle)))?, handle))
    }

    /// Changes the length of a file: of what is open, or else of what has this name.
    fn cut(&self, number: u64, handle: Option<FileHandle>, len: u64) -> Result<(), Errno> {
        if len > SCRATCH_BYTES_MAX {
            return Err(Errno::EFBIG);
        }
        if let Some(handle) = handle {
            return self.files.cut(handle.0, len);
        }
        let handle = self.files.open(number, Wanted { writes: true, cut: len == 0 })?;
        let cut = if len == 0 { Ok(()) } else { self.files.cut(handle, len) };
        let saved = cut.and_then(|()| self.files.has_written(handle));
        self.files.close(handle);
        saved
    }

    fn set_modified(
        &self,
        number: u64,
        handle: Option<FileHandle>,
        modified: SystemTime,
    ) -> Result<(), Errno> {
        match self.files.path(number) {
            Ok(path) => self.files.set_modified(&path, modified),
            // Of what has no name any more nobody sees it.
            Err(error) => handle.map(drop).ok_or(error),
        }
    }

    fn list(&self, folder: &Path) -> Result<Listing, Errno> {
        let above = [".", ".."].map(|name| (OsString::from(name), FileType::Directory));
        let entries = self.files.root.folder(folder)?.entries()?;
        let kind = |entry| match entry {
            Entry::Folder(_) => FileType::Directory,
            Entry::File(_) => FileType::RegularFile,
        };
        Ok(above.into_iter().chain(entries.into_iter().map(|(name, entry)| (name, kind(entry)))).collect())
    }
}

fn finish(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for View {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Another length is the kernel's choice.
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        // Kernels that can not ask to open and cut at once ask for one after the other.
        let _ = config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC);
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
        self.files.numbers.lock().forget(number.0, lookups);
    }

    fn getattr(&self, _: &Request, number: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.see(number.0, handle) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    /// Owner and permissions are what they are for all; that they are set to that, or permissions to others, is no error.
    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _: Option<u32>,
        owner: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let is_other = owner.is_some_and(|owner| owner != self.owner.0)
            || group.is_some_and(|group| group != self.owner.1);
        let modified = modified.map(|modified| match modified {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        });
        let set = if is_other { Err(Errno::EPERM) } else { Ok(()) };
        let set = set.and_then(|()| size.map_or(Ok(()), |size| self.cut(number.0, handle, size)));
        let set = set
            .and_then(|()| modified.map_or(Ok(()), |modified| self.set_modified(number.0, handle, modified)));
        match set.and_then(|()| self.see(number.0, handle)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let made = self.inside(parent, name).and_then(|path| self.files.make_folder(&path));
        match made.and_then(|()| self.look_up(parent, name)) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        finish(reply, self.inside(parent, name).and_then(|path| self.files.remove(&path)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        finish(reply, self.inside(parent, name).and_then(|path| self.files.remove_folder(&path)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let is_kept = flags.contains(RenameFlags::RENAME_NOREPLACE);
        if flags.difference(RenameFlags::RENAME_NOREPLACE) != RenameFlags::empty() {
            return reply.error(Errno::EINVAL);
        }
        let from = self.inside(parent, name);
        let renamed =
            from.and_then(|from| self.files.rename(&from, &self.inside(new_parent, new_name)?, is_kept));
        finish(reply, renamed);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let flags = OFlags::from_bits_retain(flags.cast_unsigned());
        match self.inside(parent, name).and_then(|path| self.create(path, flags)) {
            Ok((attributes, handle)) => {
                reply.created(
                    &TTL,
                    &attributes,
                    Generation(0),
                    FileHandle(handle),
                    FopenFlags::FOPEN_DIRECT_IO,
                );
            }
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let cut = OFlags::from_bits_retain(flags.0.cast_unsigned()).contains(OFlags::TRUNC);
        match self.files.open(number.0, Wanted { writes, cut }) {
            // The kernel keeps nothing of what is read: it would outlast the lease.
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // What the kernel takes for the end may be that of an older version.
        let is_at_end = OFlags::from_bits_retain(flags.0.cast_unsigned()).contains(OFlags::APPEND);
        let offset = Some(offset).filter(|_| !is_at_end);
        let end = offset.unwrap_or(0).checked_add(data.len() as u64);
        if end.is_none_or(|end| end > SCRATCH_BYTES_MAX) {
            return reply.error(Errno::EFBIG);
        }
        match self.files.write(handle.0, offset, data, owner.map(|owner| owner.0)) {
            // No request is longer than `WRITE_BYTES_MAX`.
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, handle: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        finish(reply, self.files.flush(handle.0, owner.0));
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        finish(reply, self.files.synchronise(handle.0));
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let path = self.files.path(number.0);
        finish(reply, path.and_then(|path| self.files.synchronise_folder(&path)));
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
            let entry = self.files.numbers.lock().number(&folder.join(name)).unwrap_or(u64::MAX);
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
                u32::try_from(self.files.root.name_bytes_max()).unwrap_or(u32::MAX),
                u32::try_from(room.f_frsize).unwrap_or(u32::MAX),
            ),
            Err(error) => reply.error(error.into()),
        }
    }
}
