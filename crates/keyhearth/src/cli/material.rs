//! Uses of keys: `encrypt`, `decrypt`, `sign`, …
//!
//! Plaintexts, messages and secrets are bytes, in files as in pipes. What may be seen (ciphertexts,
//! signatures, wrapped keys) is base64 in both directions, or bytes with `--raw`.

use clap::{Args, Subcommand};
use keyhearth_core::request::{KeyRef, PLAINTEXT_BYTES_MAX};
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{HMAC_BYTES_MAX, IMPORT_BYTES_MAX};
use keyhearth_crypto::keywrap;
use keyhearth_proto::rest::body::{
    Agree, CIPHERTEXT_BYTES_MAX, ComputeMac, Decapsulate, Decrypt, Encrypt, Exchange, MakeDataKey,
    MakeDataKeyPair, MakeRandom, PUBLIC_BYTES_MAX, Rewrap, SIGNATURE_BYTES_MAX, Sign, Unwrap, Verify,
    VerifyMac, Wrap,
};
use keyhearth_proto::rest::{Bytes, Is, Within, answer};

use super::failure::Failure;
use super::input::{self, Source};
use super::key::{KeyArgument, VersionFlag};
use super::output::Sink;
use super::session::{Server, Session};
use super::spelled::{pair, pairs, spelled, within};

/// Bytes of the longest digest, and of the longest IV, that the wire takes.
const DIGEST_BYTES_MAX: usize = 64;
const IV_BYTES_MAX: usize = 16;

/// A key and how to use it.
#[derive(Args)]
pub struct Using {
    #[command(flatten)]
    key: KeyArgument,
    /// How; the best for the key if absent.
    #[arg(long, value_parser = spelled::<Mechanism>())]
    mechanism: Option<Is<Mechanism>>,
}

/// Pairs that are bound to a ciphertext.
#[derive(Args)]
pub struct Context {
    /// A pair that is bound to the ciphertext; can be given again.
    #[arg(long = "context", value_name = "NAME=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

/// How what may be seen is written and read.
#[derive(Args, Clone, Copy)]
pub struct Raw {
    /// Read and write bytes, not base64.
    #[arg(long)]
    raw: bool,
}

/// How what is rewrapped was encrypted.
#[derive(Args)]
pub struct RewrapSource {
    /// The key that encrypted it; the same key if absent.
    #[arg(id = "source", long, value_name = "KEY", value_parser = spelled::<KeyRef>())]
    key: Option<Is<KeyRef>>,
    /// How it was encrypted; the best for that key if absent.
    #[arg(id = "source-mechanism", long, value_name = "MECHANISM", value_parser = spelled::<Mechanism>())]
    mechanism: Option<Is<Mechanism>>,
    #[command(flatten)]
    version: VersionFlag,
    #[command(flatten)]
    iv: Iv,
}

/// An IV that the ciphertext does not hold.
#[derive(Args)]
pub struct Iv {
    /// The IV in base64, for mechanisms that do not keep it in the ciphertext.
    #[arg(long, value_name = "BASE64")]
    iv: Option<String>,
}

impl Iv {
    fn bytes(self) -> Result<Option<Bytes<IV_BYTES_MAX>>, Failure> {
        self.iv.map(|iv| input::from_base64(iv.as_bytes(), IV_BYTES_MAX).map(Into::into)).transpose()
    }
}

/// Where secret bytes go.
#[derive(Args)]
pub struct SecretSink {
    #[command(flatten)]
    sink: Sink,
    /// Write to a terminal even what is no text.
    #[arg(long)]
    force: bool,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
pub enum Verb {
    Encrypt {
        #[command(flatten)]
        using: Using,
        #[command(flatten)]
        context: Context,
        #[command(flatten)]
        plaintext: Source,
        #[command(flatten)]
        sink: Sink,
        #[command(flatten)]
        raw: Raw,
    },
    Decrypt {
        #[command(flatten)]
        using: Using,
        #[command(flatten)]
        version: VersionFlag,
        #[command(flatten)]
        context: Context,
        #[command(flatten)]
        iv: Iv,
        #[command(flatten)]
        ciphertext: Source,
        #[command(flatten)]
        sink: SecretSink,
        #[command(flatten)]
        raw: Raw,
    },
    Rewrap {
        #[command(flatten)]
        using: Using,
        /// A pair that is bound to the new ciphertext, instead of those of the old one; can be given again.
        #[arg(long = "new-context", value_name = "NAME=VALUE", value_parser = pair)]
        new_pairs: Vec<(String, String)>,
        #[command(flatten)]
        source: RewrapSource,
        #[command(flatten)]
        context: Context,
        #[command(flatten)]
        ciphertext: Source,
        #[command(flatten)]
        sink: Sink,
        #[command(flatten)]
        raw: Raw,
    },
    /// The data key goes to --output; the encrypted data key is printed.
    DataKey {
        #[command(flatten)]
        key: KeyArgument,
        #[command(flatten)]
        context: Context,
        /// Its length; 32 if absent.
        #[arg(long, value_name = "NUMBER", value_parser = within::<1, 1024>)]
        bytes: Option<Within<1, 1024>>,
        /// Only the encrypted data key.
        #[arg(long, conflicts_with = "output")]
        without_plaintext: bool,
        #[command(flatten)]
        sink: Sink,
    },
    /// The private key goes to --output; the encrypted private key and the public key are printed, a line each.
    DataKeyPair {
        #[command(flatten)]
        key: KeyArgument,
        /// RSA, an elliptic curve, Ed25519 or ML-KEM.
        #[arg(value_parser = spelled::<Algorithm>())]
        algorithm: Is<Algorithm>,
        #[command(flatten)]
        context: Context,
        /// Only the encrypted private key.
        #[arg(long, conflicts_with = "output")]
        without_plaintext: bool,
        #[command(flatten)]
        sink: Sink,
    },
    #[command(flatten)]
    Signature(Signature),
    Wrap {
        #[command(flatten)]
        using: Using,
        #[command(flatten)]
        material: Source,
        #[command(flatten)]
        sink: Sink,
        #[command(flatten)]
        raw: Raw,
    },
    Unwrap {
        #[command(flatten)]
        using: Using,
        #[command(flatten)]
        version: VersionFlag,
        #[command(flatten)]
        wrapped: Source,
        #[command(flatten)]
        sink: SecretSink,
        #[command(flatten)]
        raw: Raw,
    },
    /// FILE is the other party's public key in DER.
    Agree {
        #[command(flatten)]
        key: KeyArgument,
        #[command(flatten)]
        version: VersionFlag,
        #[command(flatten)]
        peer: Source,
        #[command(flatten)]
        sink: SecretSink,
    },
    /// The secret goes to --output; its encapsulation is printed.
    Encapsulate {
        #[command(flatten)]
        key: KeyArgument,
        #[command(flatten)]
        sink: Sink,
    },
    Decapsulate {
        #[command(flatten)]
        key: KeyArgument,
        #[command(flatten)]
        version: VersionFlag,
        #[command(flatten)]
        encapsulated: Source,
        #[command(flatten)]
        sink: SecretSink,
        #[command(flatten)]
        raw: Raw,
    },
    /// FILE is the other party's public key in DER.
    Exchange {
        #[command(flatten)]
        key: KeyArgument,
        #[command(flatten)]
        version: VersionFlag,
        #[command(flatten)]
        peer: Source,
        #[command(flatten)]
        sink: Sink,
        #[command(flatten)]
        raw: Raw,
    },
    Random {
        /// How many bytes, 1 to 1024.
        #[arg(value_parser = within::<1, 1024>)]
        bytes: Within<1, 1024>,
        #[command(flatten)]
        sink: SecretSink,
    },
}

/// Signatures and message authentication codes.
#[derive(Subcommand)]
pub enum Signature {
    Sign {
        #[command(flatten)]
        using: Using,
        #[command(flatten)]
        message: Source,
        /// The input is the message's digest.
        #[arg(long)]
        digest: bool,
        #[command(flatten)]
        sink: Sink,
        #[command(flatten)]
        raw: Raw,
    },
    Verify {
        #[command(flatten)]
        using: Using,
        #[command(flatten)]
        version: VersionFlag,
        #[command(flatten)]
        message: Source,
        /// The input is the message's digest.
        #[arg(long)]
        digest: bool,
        /// File with the signature.
        #[arg(long, value_name = "FILE")]
        signature: std::path::PathBuf,
        #[command(flatten)]
        raw: Raw,
    },
    Mac {
        #[command(flatten)]
        using: Using,
        #[command(flatten)]
        message: Source,
        /// File with a code to verify, instead of computing one.
        #[arg(long, value_name = "FILE", conflicts_with = "output")]
        verify: Option<std::path::PathBuf>,
        #[command(flatten)]
        version: VersionFlag,
        #[command(flatten)]
        sink: Sink,
        #[command(flatten)]
        raw: Raw,
    },
}

impl SecretSink {
    fn write(&self, session: &Session, answer: &impl serde::Serialize, secret: &[u8]) -> Result<(), Failure> {
        if session.json() { session.show(answer) } else { self.sink.secret(secret, self.force) }
    }
}

/// Prints what may be seen, or the whole answer as JSON.
fn put(
    session: &Session,
    answer: &impl serde::Serialize,
    (sink, raw): (&Sink, Raw),
    bytes: &[u8],
) -> Result<(), Failure> {
    if session.json() { session.show(answer) } else { sink.public(bytes, raw.raw) }
}

impl Verb {
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = &session.server()?;
        match self {
            Self::Encrypt { using, context, plaintext, sink, raw } => {
                let plaintext = plaintext.read(PLAINTEXT_BYTES_MAX)?.into();
                let body = Encrypt { mechanism: using.mechanism, context: pairs(context.pairs), plaintext };
                let answer = server.wait(server.encrypt(&using.key.key, &body))?;
                if !answer.iv.is_empty() {
                    session.hint(&format!("iv: {}", base64(&answer.iv)));
                }
                put(session, &answer, (&sink, raw), &answer.ciphertext)
            }
            Self::Decrypt { using, version, context, iv, ciphertext, sink, raw } => {
                let body = Decrypt {
                    mechanism: using.mechanism,
                    version: version.version,
                    iv: iv.bytes()?,
                    context: pairs(context.pairs),
                    ciphertext: ciphertext.decode(raw.raw, CIPHERTEXT_BYTES_MAX)?.into(),
                    lease_seconds: None,
                };
                let answer = server.wait(server.decrypt(&using.key.key, &body))?;
                sink.write(session, &answer, &answer.plaintext)
            }
            Self::Rewrap { using, new_pairs, source, context, ciphertext, sink, raw } => {
                let body = Rewrap {
                    mechanism: using.mechanism,
                    new_context: pairs(new_pairs),
                    source: source.key,
                    source_mechanism: source.mechanism,
                    version: source.version.version,
                    iv: source.iv.bytes()?,
                    context: pairs(context.pairs),
                    ciphertext: ciphertext.decode(raw.raw, CIPHERTEXT_BYTES_MAX)?.into(),
                };
                let answer = server.wait(server.rewrap(&using.key.key, &body))?;
                if !answer.iv.is_empty() {
                    session.hint(&format!("iv: {}", base64(&answer.iv)));
                }
                put(session, &answer, (&sink, raw), &answer.ciphertext)
            }
            Self::DataKey { key, context, bytes, without_plaintext, sink } => {
                let body = MakeDataKey { context: pairs(context.pairs), bytes };
                let answer = || match without_plaintext {
                    true => server.wait(server.data_key_without_plaintext(&key.key, &body)),
                    false => server.wait(server.data_key(&key.key, &body)),
                };
                both(session, &sink, without_plaintext, answer, |answer: &answer::DataKey| {
                    (answer.plaintext.as_deref(), [&answer.ciphertext])
                })
            }
            Self::DataKeyPair { key, algorithm, context, without_plaintext, sink } => {
                let body = MakeDataKeyPair { algorithm, context: pairs(context.pairs) };
                let answer = || match without_plaintext {
                    true => server.wait(server.data_key_pair_without_plaintext(&key.key, &body)),
                    false => server.wait(server.data_key_pair(&key.key, &body)),
                };
                both(session, &sink, without_plaintext, answer, |answer: &answer::DataKeyPair| {
                    (answer.private.as_deref(), [&answer.ciphertext, &answer.public])
                })
            }
            Self::Signature(verb) => verb.run(session, server),
            Self::Wrap { using, material, sink, raw } => {
                let material = material.read(keywrap::KEY_BYTES_MAX)?.into();
                let answer = server
                    .wait(server.wrap(&using.key.key, &Wrap { mechanism: using.mechanism, material }))?;
                put(session, &answer, (&sink, raw), &answer.wrapped)
            }
            Self::Unwrap { using, version, wrapped, sink, raw } => {
                let wrapped = wrapped.decode(raw.raw, IMPORT_BYTES_MAX)?.into();
                let body = Unwrap { mechanism: using.mechanism, version: version.version, wrapped };
                let answer = server.wait(server.unwrap_key(&using.key.key, &body))?;
                sink.write(session, &answer, &answer.material)
            }
            Self::Agree { key, version, peer, sink } => {
                let peer = peer.read(PUBLIC_BYTES_MAX)?.into();
                let answer =
                    server.wait(server.agree(&key.key, &Agree { version: version.version, peer }))?;
                sink.write(session, &answer, &answer.secret)
            }
            Self::Encapsulate { key, sink } => {
                let answer = || server.wait(server.encapsulate(&key.key));
                both(session, &sink, false, answer, |answer: &answer::Encapsulated| {
                    (Some(&answer.secret), [&answer.encapsulated])
                })
            }
            Self::Decapsulate { key, version, encapsulated, sink, raw } => {
                let encapsulated = encapsulated.decode(raw.raw, PUBLIC_BYTES_MAX)?.into();
                let body = Decapsulate { version: version.version, encapsulated };
                let answer = server.wait(server.decapsulate(&key.key, &body))?;
                sink.write(session, &answer, &answer.secret)
            }
            Self::Exchange { key, version, peer, sink, raw } => {
                let body = Exchange { version: version.version, peer: peer.read(PUBLIC_BYTES_MAX)?.into() };
                let answer = server.wait(server.exchange(&key.key, &body))?;
                put(session, &answer, (&sink, raw), &answer.point)
            }
            Self::Random { bytes, sink } => {
                let answer = server.wait(server.random(&MakeRandom { bytes }))?;
                sink.write(session, &answer, &answer.bytes)
            }
        }
    }
}

/// Asks for a secret together with what keeps it: the secret goes to a file, the other is printed.
fn both<T: serde::Serialize, const N: usize>(
    session: &Session,
    sink: &Sink,
    alone: bool,
    ask: impl FnOnce() -> Result<T, Failure>,
    parts: impl Fn(&T) -> (Option<&[u8]>, [&[u8]; N]),
) -> Result<(), Failure> {
    if !alone && !session.json() && !sink.is_file() {
        return Err(Failure::new(
            "a secret comes of this and has no place to go",
            "name a file with --output, or add --json",
        ));
    }
    let answer = ask()?;
    if session.json() {
        return session.show(&answer);
    }
    let (secret, public) = parts(&answer);
    if let Some(secret) = secret {
        sink.secret(secret, false)?;
    }
    public.into_iter().try_for_each(|bytes| super::output::line(&base64(bytes)))
}

impl Signature {
    fn run(self, session: &Session, server: &Server) -> Result<(), Failure> {
        match self {
            Self::Sign { using, message, digest, sink, raw } => {
                let (message, digest) = input_of(&message, digest)?;
                let body = Sign { mechanism: using.mechanism, message, digest };
                let answer = server.wait(server.sign(&using.key.key, &body))?;
                put(session, &answer, (&sink, raw), &answer.signature)
            }
            Self::Verify { using, version, message, digest, signature, raw } => {
                let (message, digest) = input_of(&message, digest)?;
                let signature = Source::at(signature).decode(raw.raw, SIGNATURE_BYTES_MAX)?.into();
                let (mechanism, version) = (using.mechanism, version.version);
                let body = Verify { mechanism, version, message, digest, signature };
                verdict(session, &server.wait(server.verify(&using.key.key, &body))?)
            }
            Self::Mac { using, message, verify: None, version: _, sink, raw } => {
                let message = message.read(PLAINTEXT_BYTES_MAX)?.into();
                let body = ComputeMac { mechanism: using.mechanism, message };
                let answer = server.wait(server.mac(&using.key.key, &body))?;
                put(session, &answer, (&sink, raw), &answer.mac)
            }
            Self::Mac { using, message, verify: Some(mac), version, sink: _, raw } => {
                let message = message.read(PLAINTEXT_BYTES_MAX)?.into();
                let mac = Source::at(mac).decode(raw.raw, HMAC_BYTES_MAX)?.into();
                let body = VerifyMac { mechanism: using.mechanism, version: version.version, message, mac };
                verdict(session, &server.wait(server.verify_mac(&using.key.key, &body))?)
            }
        }
    }
}

type Message = (Option<keyhearth_proto::rest::body::Plaintext>, Option<Bytes<64>>);

/// The message or its digest, whichever is read.
fn input_of(source: &Source, digest: bool) -> Result<Message, Failure> {
    Ok(if digest {
        (None, Some(source.read(DIGEST_BYTES_MAX)?.into()))
    } else {
        (Some(source.read(PLAINTEXT_BYTES_MAX)?.into()), None)
    })
}

fn verdict(session: &Session, answer: &answer::Verified) -> Result<(), Failure> {
    session.say(answer, if answer.valid { "valid" } else { "not valid" })?;
    if answer.valid {
        Ok(())
    } else {
        Err(Failure::new(
            "it is not right for this message and key",
            "check the message, the key and its version",
        ))
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
