//! The folder of certificates that identity documents of clouds are judged by.
//!
//! ```text
//! clouds/aws/REGION.pem   clouds/gcp/…   clouds/azure/…   clouds/azure-us/…   clouds/azure-cn/…
//! ```
//! Any of them may be missing. Whatever begins with a dot is left out, as what is being written.
//!
//! Called by the boot listener, for each document, and by `keyhearth boot appraise`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use keyhearth_attest::cloud::{Clouds, Provider};
use keyhearth_attest::{ENDORSEMENT_BYTES_MAX, Refusal};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It, or a file in it, cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It holds something that is no folder of a cloud's.
    #[error("{}: must be a folder named aws, gcp, azure, azure-us or azure-cn; move it elsewhere", .0.display())]
    Stranger(PathBuf),
    /// A file in a folder of a cloud's holds no certificates.
    #[error("{}: {refusal}; keep only certificates of that cloud in this folder", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        refusal: Refusal,
    },
}

/// Reads the certificates of these clouds in the folder.
///
/// # Errors
/// [`Error`], for the first file that is not what it should be. What is wrong with one cloud's does not concern another's.
pub fn read(folder: &Path, of: &[Provider]) -> Result<Clouds, Error> {
    let mut clouds = Clouds::default();
    for path in entries(folder)? {
        let provider = Provider::ALL.iter().find(|provider| path.ends_with(provider.name()));
        let Some(provider) = provider.filter(|_| path.is_dir()) else { return Err(Error::Stranger(path)) };
        if !of.contains(provider) {
            continue;
        }
        for path in entries(&path)? {
            let bytes = contents(&path).map_err(|error| Error::Read { path: path.clone(), error })?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let added = clouds.add(*provider, &name, &bytes);
            added.map_err(|refusal| Error::Certificates { path, refusal })?;
        }
    }
    Ok(clouds)
}

/// What is in a folder, in the order of names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = read().map_err(|error| Error::Read { path: folder.to_owned(), error })?;
    paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

/// One byte more than is allowed shows that there are too many.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(ENDORSEMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use keyhearth_attest::Reason;
    use keyhearth_machines::clouds::Certificate;

    use super::*;

    #[test]
    fn folders_of_clouds_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| read(path, Provider::ALL);
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            path
        };
        read(folder.path()).unwrap();
        write("aws/hearth-west-1.pem", &Certificate::of_region().der());
        write("azure/root.pem", &Certificate::ca().der());
        write("azure/.new", b"half");
        write(".git/config", b"");
        read(folder.path()).unwrap();
        let readme = write("gcp/readme", b"none");
        assert!(matches!(read(folder.path()),
            Err(Error::Certificates { path, refusal }) if path == readme && refusal.reason == Reason::EndorsementMalformed));
        super::read(folder.path(), &[Provider::Aws]).unwrap();
        fs::remove_file(&readme).unwrap();
        let stranger = write("amazon/a.pem", b"");
        let refused = read(folder.path()).unwrap_err();
        assert!(matches!(&refused, Error::Stranger(path) if *path == stranger.parent().unwrap()));
        assert!(refused.to_string().ends_with("move it elsewhere"));
        assert!(matches!(read(&readme), Err(Error::Read { .. })));
    }
}
