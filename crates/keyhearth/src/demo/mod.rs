//! A demonstration: a real deployment, real files, and the life of a key from creation to destruction.
//!
//! Everything is made in a temporary folder that is removed however it ends. Every step checks what it says;
//! the first one that is not so ends the demonstration with an error. The caller's files are only read.
//!
//! Not here: how the story is shown; the caller brings an [`Audience`].

mod deployment;
mod error;
mod log;
mod sealed;
mod step;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use keyhearth_client::{Algorithm, Client, Error as ClientError, Pairs, Role, Text, Within, answer, body};
use keyhearth_crypto::random;
use tokio::signal::unix::{Signal, SignalKind, signal};

use deployment::{Deployment, QUORUM};
pub use error::Error;
use sealed::{Binding, CHUNK_BYTES, Hash};
pub use step::Step;

/// The most files that are sealed, so that the story fits on a screen.
pub const FILES_MAX: usize = 12;

/// Files that are made where the caller names none, and their lengths.
const MADE: [(&str, u64); 3] = [("letter.txt", 2_000), ("scan.pdf", 3 << 20), ("backup.img", 256 << 20)];

/// Who watches.
pub trait Audience {
    /// A step was done.
    fn step(&self, step: &Step);
    /// So much of a file was sealed or opened.
    fn progress(&self, file: &str, done: u64, bytes: u64);
}

/// Demonstrates with copies of `files`, or with files of its own if there are none.
///
/// # Errors
/// [`Error`], [`Error::Interrupted`] by SIGINT, SIGTERM or SIGHUP. The temporary folder is removed before that.
pub async fn run(files: &[PathBuf], audience: &dyn Audience) -> Result<(), Error> {
    let begun = Instant::now();
    let mut ended = Ended::listen()?;
    let folder = tempfile::Builder::new().prefix("keyhearth-demo-").tempdir()?;
    let deployment = Deployment::start(&folder.path().join("data")).await?;
    let told = tokio::select! {
        told = tell(&deployment, folder.path(), files, audience, begun) => told,
        () = ended.wait() => Err(Error::Interrupted),
    };
    deployment.stop().await;
    folder.close()?;
    told?;
    audience.step(&Step::Removed { ms: ms(begun) });
    Ok(())
}

/// The signals that end a program; from `listen` on they no longer end it before the folder is removed.
struct Ended([Signal; 3]);

impl Ended {
    fn listen() -> io::Result<Self> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

async fn tell(
    deployment: &Deployment,
    folder: &Path,
    files: &[PathBuf],
    audience: &dyn Audience,
    begun: Instant,
) -> Result<(), Error> {
    let (url, folder_shown) = (deployment.url.clone(), folder.display().to_string());
    audience.step(&Step::Server { url, folder: folder_shown, ms: ms(begun) });
    let unsealing = Instant::now();
    let sealed = refused("a sealed server answers", "sealed", deployment.operator.who_am_i().await)?;
    deployment.unseal().await?;
    audience.step(&Step::Unsealed { shares: QUORUM, refusal: sealed, ms: ms(unsealing) });

    let people = People::meet(deployment).await?;
    audience.step(&Step::Identities {
        tenant: TENANT,
        roles: [Role::TenantAdmin, Role::KeyAdmin, Role::KeyUser, Role::Auditor, Role::Custodian]
            .map(Role::name),
    });
    let story = Story { key: people.make_key(audience).await?, people, folder, audience };
    let sources = if files.is_empty() { make_files(folder)? } else { files.to_vec() };
    let mut kept = Vec::new();
    for (number, source) in (1..).zip(&sources) {
        kept.push(story.seal(number, source).await?);
    }
    story.open_all(&kept).await?;
    story.refuse(&kept).await?;
    story.live(&kept).await?;
    audience.step(&log::exported(deployment).await?);
    Ok(())
}

/// Makes files to seal. Every block of a large one differs.
fn make_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = folder.join("files");
    fs::create_dir(&folder)?;
    let mut block = vec![0; CHUNK_BYTES];
    random::fill("demonstration file", &mut block)?;
    MADE.into_iter()
        .map(|(name, bytes)| {
            let path = folder.join(name);
            let mut file = File::create_new(&path)?;
            for at in (0..bytes).step_by(CHUNK_BYTES) {
                block[..8].copy_from_slice(&at.to_be_bytes());
                let rest = usize::try_from(bytes - at).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
                file.write_all(&block[..rest])?;
            }
            Ok(path)
        })
        .collect()
}

const TENANT: &str = "demo";
const PURPOSE: (&str, &str) = ("purpose", "demo");

/// The identities of the tenant.
struct People {
    admin: Client,
    key_admin: Client,
    key_user: Client,
    auditor: Client,
    custodian: Client,
}

impl People {
    async fn meet(deployment: &Deployment) -> Result<Self, Error> {
        let admin = deployment.tenant(TENANT).await?;
        Ok(Self {
            key_admin: deployment.identity(&admin, Role::KeyAdmin).await?,
            key_user: deployment.identity(&admin, Role::KeyUser).await?,
            auditor: deployment.identity(&admin, Role::Auditor).await?,
            custodian: deployment.identity(&admin, Role::Custodian).await?,
            admin,
        })
    }

    /// Makes the key, and the policy that limits what it is used for.
    async fn make_key(&self, audience: &dyn Audience) -> Result<answer::Key, Error> {
        let making = Instant::now();
        let new = body::NewKey {
            description: Some(Text("seals the files of the demonstration".to_owned())),
            ..body::NewKey::from(Algorithm::Aes256)
        };
        let key = self.key_admin.create_key(&new).await?;
        audience.step(&Step::Key {
            id: key.id.to_string(),
            algorithm: key.algorithm.to_string(),
            ms: ms(making),
        });
        let (name, value) = PURPOSE;
        let policy = format!(
            r#"forbid (principal, action in Keyhearth::Action::"use", resource == Keyhearth::Key::"{}")
unless {{
  principal in Keyhearth::Role::"key-user" &&
  context.context.hasTag("{name}") && context.context.getTag("{name}") == "{value}"
}};"#,
            key.id
        );
        let policy_name = "only-for-the-demo".parse().map_err(crate::server::ServerError::from)?;
        self.admin.put_policy(&policy_name, &body::Policy { text: Text(policy) }).await?;
        audience.step(&Step::Policy { role: Role::KeyUser.name(), context: PURPOSE });
        Ok(key)
    }
}

/// A file that was sealed.
struct Sealed {
    name: String,
    path: PathBuf,
    wrapped_key: Vec<u8>,
    bytes: u64,
    hash: Hash,
}

struct Story<'a> {
    people: People,
    key: answer::Key,
    folder: &'a Path,
    audience: &'a dyn Audience,
}

impl Story<'_> {
    fn id(&self) -> String {
        self.key.id.to_string()
    }

    async fn seal(&self, number: usize, source: &Path) -> Result<Sealed, Error> {
        let at = |error| Error::File { path: source.to_owned(), error };
        let metadata = fs::metadata(source).map_err(at)?;
        if !metadata.is_file() {
            return Err(at(io::Error::other("not a regular file")));
        }
        let from = File::open(source).map_err(at)?;
        let (name, bytes) = (shown(source), metadata.len());
        let sealing = Instant::now();
        let wish = body::MakeDataKey { context: Some(context(&name)), ..body::MakeDataKey::default() };
        let made = self.people.key_user.data_key(&self.id(), &wish).await?;
        let data_key = made.plaintext.ok_or(ClientError::Answer)?;
        let data_key_ms = ms(sealing);
        let path = self.folder.join(format!("{number}.sealed"));
        let progress = |done| self.audience.progress(&name, done, bytes);
        let hash =
            binding(&data_key, &self.key, &name).seal(from, File::create_new(&path)?, progress).await?;
        fs::write(path.with_extension("key"), &*made.ciphertext)?;
        self.audience.step(&Step::Sealed { file: name.clone(), bytes, data_key_ms, ms: ms(sealing) });
        Ok(Sealed { name, path, wrapped_key: made.ciphertext.to_vec(), bytes, hash })
    }

    async fn data_key(
        &self,
        who: &Client,
        file: &Sealed,
        context: Pairs,
    ) -> Result<answer::Decrypted, ClientError> {
        let ciphertext = body::Decrypt {
            mechanism: None,
            version: None,
            iv: None,
            context: Some(context),
            ciphertext: file.wrapped_key.clone().into(),
            lease_seconds: None,
        };
        who.decrypt(&self.id(), &ciphertext).await
    }

    /// Opens a sealed file and compares it with what was sealed.
    async fn open(&self, file: &Sealed) -> Result<(), Error> {
        let key = self.data_key(&self.people.key_user, file, context(&file.name)).await?;
        let path = file.path.with_extension("opened");
        let (from, to) = (File::open(&file.path)?, File::create_new(&path)?);
        let progress = |done| self.audience.progress(&file.name, done, file.bytes);
        let hash = binding(&key.plaintext, &self.key, &file.name).open(from, to, progress).await?;
        fs::remove_file(&path)?;
        if hash == file.hash { Ok(()) } else { Err(Error::Differs(file.path.clone())) }
    }

    async fn open_all(&self, files: &[Sealed]) -> Result<(), Error> {
        let opening = Instant::now();
        for file in files {
            self.open(file).await?;
        }
        let bytes = files.iter().map(|file| file.bytes).sum();
        self.audience.step(&Step::Opened { files: files.len(), bytes, ms: ms(opening) });
        Ok(())
    }

    /// Who must not open the files, does not.
    async fn refuse(&self, files: &[Sealed]) -> Result<(), Error> {
        let Some(file) = files.first() else { return Ok(()) };
        let (people, without) = (&self.people, Pairs::from_iter([("file", &file.name)]));
        let attempts = [
            (Role::Auditor, "asks for a data key", &people.auditor, context(&file.name)),
            (Role::KeyAdmin, "asks for a data key", &people.key_admin, context(&file.name)),
            (Role::KeyUser, "asks without the purpose", &people.key_user, without),
        ];
        for (role, attempt, who, context) in attempts {
            let code = refused(attempt, "denied", self.data_key(who, file, context).await)?;
            self.audience.step(&Step::Refused { role: role.name(), attempt, code });
        }
        Ok(())
    }

    /// The key's further life, and what becomes of the files with it.
    async fn live(&self, files: &[Sealed]) -> Result<(), Error> {
        let (id, keys) = (&self.id(), &self.people.key_admin);
        let Some(smallest) = files.iter().min_by_key(|file| file.bytes) else { return Ok(()) };
        let opened = || smallest.name.clone();
        let first = body::KeyOrVersion { version: Within::new(1) };

        keys.suspend_key(id, &first).await?;
        let code = self.refuse_all("a suspended version is used", files).await?;
        self.audience.step(&Step::Suspended { version: 1, code });
        keys.resume_key(id, &first).await?;
        self.open(smallest).await?;
        self.audience.step(&Step::Resumed { version: 1, opened: opened() });

        let primary = keys.rotate_key(id).await?.primary;
        self.open(smallest).await?;
        self.audience.step(&Step::Rotated { primary, opened: opened() });

        keys.deactivate_key(id, &body::OfVersion::default()).await?;
        let wish = body::MakeDataKey { context: Some(context("new")), ..body::MakeDataKey::default() };
        let answer = self.people.key_user.data_key(id, &wish).await;
        let code = refused("a deactivated version protects", "wrong_state", answer)?;
        self.open(smallest).await?;
        self.audience.step(&Step::Deactivated { version: primary, code, opened: opened() });

        let end = body::Destruction {
            version: Within::new(1).expect("1 is in the range from 1"),
            confirm: self.key.id.clone(),
        };
        let attempt = "tries to destroy it";
        let code = refused(attempt, "denied", keys.destroy_key(id, &end).await)?;
        self.audience.step(&Step::Refused { role: Role::KeyAdmin.name(), attempt, code });
        self.people.custodian.because("end of the demonstration").destroy_key(id, &end).await?;
        let code = self.refuse_all("a destroyed version is used", files).await?;
        self.audience.step(&Step::Destroyed { version: 1, files: files.len(), code });
        Ok(())
    }

    /// None of the files' data keys is given out, because of the version's state.
    async fn refuse_all(&self, attempt: &'static str, files: &[Sealed]) -> Result<String, Error> {
        let mut code = String::new();
        for file in files {
            let answer = self.data_key(&self.people.key_user, file, context(&file.name)).await;
            code = refused(attempt, "wrong_state", answer)?;
        }
        Ok(code)
    }
}

fn binding<'a>(data_key: &'a [u8], key: &answer::Key, name: &'a str) -> Binding<'a> {
    Binding { data_key, key_id: key.id.0.0, name }
}

fn context(file: &str) -> Pairs {
    Pairs::from_iter([PURPOSE, ("file", file)])
}

/// A file's name, without what could confuse a terminal.
fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The code of the refusal that `answer` has to be.
fn refused<T>(attempt: &'static str, code: &str, answer: Result<T, ClientError>) -> Result<String, Error> {
    match answer {
        Ok(_) => Err(Error::Allowed(attempt)),
        Err(error) if error.code() == Some(code) => Ok(code.to_owned()),
        Err(error) => Err(error.into()),
    }
}
