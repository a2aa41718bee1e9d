//! Sealing and opening whole files of this machine.
//!
//! A regular file is read and written on several threads: every chunk has its place in both files from the start. What
//! comes from or goes to a pipe goes chunk by chunk. A file gets its name once all of it is written ([`Output`]), so
//! that whatever happens before leaves no part of it.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};

use keyhearth_sys::filesystem;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use rustix::io::Errno;
use tempfile::TempPath;

use crate::Error;
use crate::age::armor::Armored;
use crate::age::{self, FileKey};
use crate::chunks::{self, Chunks, Reader, fill};
use crate::esdk;

/// The longest header that is read, in bytes, whatever the format.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The most bytes that the names of a file's attributes have, and the value of each. Source: linux/limits.h.
const ATTRIBUTES_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are asked of a pipe at once.
const READ_BYTES: usize = 64 * 1024;

/// A file that is being written and has no name yet.
///
/// Where the filesystem can, it has none at all: dropped, or after a crash, nothing is left. Elsewhere it lies beside
/// its place under a name that ends in `.part`.
pub struct Output {
    file: File,
    place: PathBuf,
    named: Option<TempPath>,
}

impl Output {
    /// Begins the file that will be at `place`, readable by its owner alone.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder is missing or may not be written.
    pub fn create(place: &Path) -> Result<Self, Error> {
        let folder = match place.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if let Some(file) = filesystem::unnamed_file(folder)? {
            return Ok(Self { file, place: place.to_owned(), named: None });
        }
        let named = tempfile::Builder::new().prefix(".keyhearth-").suffix(".part").tempfile_in(folder)?;
        let (file, path) = named.into_parts();
        Ok(Self { file, place: place.to_owned(), named: Some(path) })
    }

    /// Gives it the owner, the group, the permissions and the attributes of a file that it is to replace.
    ///
    /// # Errors
    /// The error of fchown(2): who owns neither file may not give it away; of fchmod(2), or of fsetxattr(2).
    pub fn belong_as(&self, replaced: &File) -> io::Result<()> {
        let (new, old) = (self.file.metadata()?, replaced.metadata()?);
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&self.file, Some(old.uid()), Some(old.gid()))?;
        }
        self.file.set_permissions(old.permissions())?;
        copy_attributes(replaced, &self.file)
    }

    /// Gives the file its name, which nothing may have yet. It is durable once its filesystem is synchronised.
    ///
    /// # Errors
    /// [`Error::Io`], of kind [`io::ErrorKind::AlreadyExists`] if something has the name.
    pub fn finish(self) -> Result<(), Error> {
        match self.named {
            None => filesystem::name_file(&self.file, &self.place)?,
            Some(path) => path.persist_noclobber(&self.place).map_err(|error| error.error)?,
        }
        Ok(())
    }

    /// Gives the file its name in place of what has it. The new file is durable before the old one is gone.
    ///
    /// # Errors
    /// [`Error::Io`]; the old file is then as it was, but for one of the last flush.
    pub fn replace(self) -> Result<(), Error> {
        self.file.sync_all()?;
        let place = self.place.clone();
        let (file, path) = self.name()?;
        path.persist(&place).map_err(|error| error.error)?;
        Ok(filesystem::synchronise_name(&file, &place)?)
    }

    /// Gives the file a name beside its place that ends in `.part`, for who brings it to its place; it is removed when that is
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Io`] as naming.
    pub fn name(self) -> Result<(File, TempPath), Error> {
        let folder = self.folder().to_owned();
        let path = match self.named {
            Some(path) => path,
            None => {
                // A name that is taken is drawn again.
                let named = tempfile::Builder::new()
                    .prefix(".keyhearth-")
                    .suffix(".part")
                    .make_in(folder, |path| filesystem::name_file(&self.file, path))?;
                named.into_temp_path()
            }
        };
        Ok((self.file, path))
    }

    fn folder(&self) -> &Path {
        match self.place.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// The file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Copies what users say of a file: attributes called `user.…`, and the list of who else may do what with it.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut bytes = vec![0; ATTRIBUTES_BYTES_MAX];
    let names = match flistxattr(from, &mut bytes) {
        Ok(len) => bytes[..len].to_vec(),
        // The filesystem has none.
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names.split(|byte| *byte == 0) {
        if name.starts_with(b"user.") || name == b"system.posix_acl_access" {
            let len = fgetxattr(from, name, &mut bytes)?;
            fsetxattr(to, name, &bytes[..len], XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// What was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of plaintext.
    pub plaintext_bytes: u64,
    /// Bytes of the sealed file.
    pub sealed_bytes: u64,
}

/// Seals `source`, a regular file, into `output` in the age format, on `threads` threads (1 or more).
///
/// # Errors
/// [`Error::Changed`] if `source` changed meanwhile; [`Error::Io`] as reading and writing.
pub fn seal(
    file_key: &FileKey,
    header: &age::Header,
    source: &File,
    output: &File,
    threads: usize,
) -> Result<Sealed, Error> {
    let (nonce, payload) = age::Payload::create(file_key)?;
    seal_file(&[header.to_text().as_bytes(), &nonce].concat(), &payload, source, output, threads)
}

/// Seals all of `source`, of any kind, in the age format.
///
/// # Errors
/// As [`seal`].
pub fn seal_stream(
    file_key: &FileKey,
    header: &age::Header,
    source: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<Sealed, Error> {
    let (nonce, payload) = age::Payload::create(file_key)?;
    seal_chunks(&[header.to_text().as_bytes(), &nonce].concat(), &payload, source, output)
}

/// Seals `source`, a regular file, behind `head`.
pub(crate) fn seal_file(
    head: &[u8],
    payload: &dyn Chunks,
    source: &File,
    output: &File,
    threads: usize,
) -> Result<Sealed, Error> {
    let before = source.metadata()?;
    if !before.is_file() {
        return Err(Error::Invalid("only a regular file is sealed in this way"));
    }
    let plaintext_bytes = before.len();
    let sealed_bytes = chunks::seal_file(payload, source, plaintext_bytes, output, head, threads)?;
    if is_changed(&before, &source.metadata()?) {
        return Err(Error::Changed);
    }
    Ok(Sealed { plaintext_bytes, sealed_bytes })
}

/// Seals all of `source` behind `head`.
pub(crate) fn seal_chunks(
    head: &[u8],
    payload: &dyn Chunks,
    source: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<Sealed, Error> {
    output.write_all(head)?;
    let (plaintext_bytes, sealed_bytes) = chunks::seal_stream(payload, source, output)?;
    output.flush()?;
    Ok(Sealed { plaintext_bytes, sealed_bytes: head.len() as u64 + sealed_bytes })
}

/// The header of a format.
pub trait Head: Sized {
    /// What opens a file.
    type Key;

    /// Reads the header at the front of `bytes`; what follows is the payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is none; [`Error::Unsupported`] if it is of a kind that is not read.
    fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Error>;

    /// Proves the header, and takes what the payload begins with from `body`.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if who wrote the header had not this key.
    fn unlock(&self, key: &Self::Key, body: &mut Body) -> Result<Box<dyn Chunks>, Error>;

    /// Bytes of plaintext in a file that has so many bytes after its header.
    ///
    /// # Errors
    /// [`Error::Malformed`] if no file has so many.
    fn plaintext_bytes(&self, body_bytes: u64) -> Result<u64, Error>;
}

/// A sealed file whose header was read.
pub struct Opened<H = age::Header> {
    /// What the file is for, and who may open it; proved once the file's key is there.
    pub header: H,
    body: Body,
}

/// What is left of a sealed file.
pub enum Body {
    /// The file, from here to its end.
    File(File, u64, u64),
    /// What comes next.
    Stream(Box<dyn Read + Send>),
}

impl Body {
    pub(crate) fn of(source: File) -> Result<Self, Error> {
        let metadata = source.metadata()?;
        Ok(if metadata.is_file() {
            Self::File(source, 0, metadata.len())
        } else {
            Self::Stream(Box::new(BufReader::with_capacity(READ_BYTES, source)))
        })
    }

    pub(crate) fn of_stream(source: Box<dyn Read + Send>) -> Self {
        Self::Stream(Box::new(BufReader::with_capacity(READ_BYTES, source)))
    }

    /// Takes what comes next: `out` full, if there is as much.
    pub(crate) fn take(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        match self {
            Self::File(source, start, end) => {
                let left = usize::try_from(end.saturating_sub(*start)).unwrap_or(usize::MAX);
                let len = left.min(out.len());
                source.read_exact_at(&mut out[..len], *start)?;
                *start += len as u64;
                Ok(len)
            }
            Self::Stream(source) => Ok(fill(source, out)?),
        }
    }

    /// What comes next, in so many bytes as a header can have.
    fn take_start(&mut self) -> Result<Vec<u8>, Error> {
        let bytes = match self {
            Self::File(_, start, end) => usize::try_from(end.saturating_sub(*start)).unwrap_or(usize::MAX),
            Self::Stream(_) => HEADER_BYTES_MAX,
        };
        let mut start = vec![0; bytes.min(HEADER_BYTES_MAX)];
        let len = self.take(&mut start)?;
        start.truncate(len);
        Ok(start)
    }

    /// Puts back what was taken and not used.
    fn put_back(self, bytes: &[u8]) -> Self {
        match self {
            Self::File(source, start, end) => Self::File(source, start - bytes.len() as u64, end),
            Self::Stream(source) => Self::Stream(Box::new(io::Cursor::new(bytes.to_vec()).chain(source))),
        }
    }

    /// The same as a stream.
    fn into_stream(self) -> Result<Box<dyn Read + Send>, Error> {
        Ok(match self {
            Self::File(mut source, start, end) => {
                io::Seek::seek(&mut source, io::SeekFrom::Start(start))?;
                Box::new(BufReader::with_capacity(READ_BYTES, source).take(end.saturating_sub(start)))
            }
            Self::Stream(source) => source,
        })
    }
}

/// Reads the header of the sealed file `source`, in bytes or in text.
///
/// # Errors
/// [`Error::Malformed`] if it is none.
pub fn open(source: File) -> Result<Opened, Error> {
    open_age(Body::of(source)?)
}

/// Reads the header of the sealed file at the front of `source`, in bytes or in text.
///
/// # Errors
/// As [`open()`].
pub fn open_stream(source: Box<dyn Read + Send>) -> Result<Opened, Error> {
    open_age(Body::of_stream(source))
}

fn open_age(mut body: Body) -> Result<Opened, Error> {
    let start = body.take_start()?;
    if !is_text(&start) {
        return Opened::read(&start, body);
    }
    let text = body.put_back(&start).into_stream()?;
    Opened::begin(Body::Stream(Box::new(Armored::new(BufReader::new(text)))))
}

impl<H: Head> Opened<H> {
    /// Reads the header that `body` begins with.
    pub(crate) fn begin(mut body: Body) -> Result<Self, Error> {
        let start = body.take_start()?;
        Self::read(&start, body)
    }

    /// Of what the file begins with, which was taken from `body`.
    fn read(start: &[u8], body: Body) -> Result<Self, Error> {
        let (header, rest) = H::read(start)?;
        Ok(Self { header, body: body.put_back(rest) })
    }

    /// Whether it can only be read from the front to the end: it comes from a pipe, or is a text.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.body, Body::Stream(_))
    }

    /// Bytes of plaintext, as the file's length says it; `None` of what comes from a pipe, and of what is cut.
    #[must_use]
    pub fn plaintext_bytes(&self) -> Option<u64> {
        match &self.body {
            Body::File(_, start, end) => self.header.plaintext_bytes(end.saturating_sub(*start)).ok(),
            Body::Stream(_) => None,
        }
    }

    /// Writes the plaintext into `output`, an empty file, on `threads` threads; gives its length in bytes. What was
    /// written is plaintext of the file only once this has returned.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if the header or a chunk is not as it was written under this key, [`Error::Malformed`]
    /// if the payload is cut, [`Error::Io`] as reading and writing.
    pub fn write_to(mut self, key: &H::Key, output: &File, threads: usize) -> Result<u64, Error> {
        let payload = self.header.unlock(key, &mut self.body)?;
        match self.body {
            Body::File(source, start, end) => {
                chunks::open_file(&*payload, &source, (start, end), output, threads)
            }
            Body::Stream(mut source) => chunks::open_stream(&*payload, &mut *source, &mut &*output),
        }
    }

    /// Writes the plaintext chunk by chunk, each once it was proved; gives its length in bytes. That all of it was
    /// written shows only at the end.
    ///
    /// # Errors
    /// As [`Opened::write_to`].
    pub fn stream_to(mut self, key: &H::Key, output: &mut dyn Write) -> Result<u64, Error> {
        let payload = self.header.unlock(key, &mut self.body)?;
        let written = chunks::open_stream(&*payload, &mut *self.body.into_stream()?, output)?;
        output.flush()?;
        Ok(written)
    }

    /// Reads the plaintext of a regular file at any place.
    ///
    /// # Errors
    /// As [`Opened::write_to`]; [`Error::Invalid`] if the file is a pipe or a text.
    pub fn into_reader(mut self, key: &H::Key) -> Result<Reader, Error> {
        let payload = self.header.unlock(key, &mut self.body)?;
        match self.body {
            Body::File(source, start, end) => Reader::new(payload, source, (start, end)),
            Body::Stream(_) => Err(Error::Invalid("only a regular file is read at any place")),
        }
    }
}

/// A sealed file whose header was read, of any format.
pub enum AnyOpened {
    /// Of age.
    Age(Opened),
    /// Of the AWS Encryption SDK.
    Esdk(Opened<esdk::Header>),
}

/// Reads the header of the sealed file `source`, whose format shows in its first byte.
///
/// # Errors
/// [`Error::Malformed`] if it is none; [`Error::Unsupported`] if it is of a kind that is not read.
pub fn open_any(source: File) -> Result<AnyOpened, Error> {
    begin_any(Body::of(source)?)
}

/// Reads the header of the sealed file at the front of `source`, whose format shows in its first byte.
///
/// # Errors
/// As [`open_any`].
pub fn open_any_stream(source: Box<dyn Read + Send>) -> Result<AnyOpened, Error> {
    begin_any(Body::of_stream(source))
}

fn begin_any(mut body: Body) -> Result<AnyOpened, Error> {
    let mut first = [0];
    let len = body.take(&mut first)?;
    let body = body.put_back(&first[..len]);
    // The versions of the AWS Encryption SDK; files of age begin with a letter, a hyphen or white space.
    Ok(if matches!(first, [1 | 2]) {
        AnyOpened::Esdk(Opened::begin(body)?)
    } else {
        AnyOpened::Age(open_age(body)?)
    })
}

fn is_text(start: &[u8]) -> bool {
    start.trim_ascii_start().starts_with(b"-----BEGIN ")
}

fn is_changed(before: &Metadata, after: &Metadata) -> bool {
    let stamp = |of: &Metadata| (of.len(), of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
    stamp(before) != stamp(after)
}
