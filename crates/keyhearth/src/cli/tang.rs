//! `tang …`: the pairs of keys that Clevis binds machines to. What else happens to them, `key …` does by their aliases.

use clap::{Args, Subcommand};
use keyhearth_core::id::Name;
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_proto::rest::body::{Days, NewKey};
use keyhearth_proto::rest::{Is, Text, Use, answer};
use keyhearth_proto::tang::{DEFAULT, Pair, Point, Thumbprint};
use serde::Serialize;

use super::failure::Failure;
use super::session::{Server, Session};
use super::spelled::{pairs, spelled, within};

/// The tag of both keys of a pair, with the pair's name: policies read it.
const TAG: &str = "tang";

/// A pair of keys.
#[derive(Args)]
pub struct PairArgument {
    /// The machine or group of machines whose keys they are; it stands in the URL that Clevis is given.
    #[arg(default_value = DEFAULT, value_parser = spelled::<Name>())]
    name: Is<Name>,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Makes a key that exchanges and one that signs what is advertised
    Create {
        #[command(flatten)]
        pair: PairArgument,
        /// Days between automatic rotations of the key that exchanges.
        #[arg(long, value_name = "DAYS", value_parser = within::<1, 3650>)]
        rotate_days: Option<Days>,
    },
    /// Replaces both keys by new ones; what is bound to those before is recovered as ever
    ///
    /// The signing key before goes on signing what is advertised for those who name it by its thumbprint, until
    /// `key suspend` or `key deactivate` ends that: its alias is `tang/NAME/sign/THUMBPRINT`.
    Rotate(PairArgument),
    /// Shows a pair and its thumbprints
    Show(PairArgument),
}

/// What Clevis is told of a pair, and what `key …` calls it.
#[derive(Serialize)]
struct Shown {
    /// What follows the server's address in Clevis's `url`.
    path: String,
    /// Clevis's `thp`: who gives it trusts this key and no other.
    thumbprint: String,
    exchange_key: String,
    exchange_thumbprint: String,
    signing_key: String,
}

impl Verb {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let server = &session.server()?;
        let (Self::Create { pair: named, .. } | Self::Rotate(named) | Self::Show(named)) = &self;
        let pair = Pair::new((*named.name).clone())?;
        match self {
            Self::Create { rotate_days, .. } => create(server, &pair, rotate_days)?,
            Self::Rotate(_) => rotate(server, &pair)?,
            Self::Show(_) => {}
        }
        let (exchange_key, signing_key) = (pair.exchange().to_string(), pair.signing().to_string());
        session.show(&Shown {
            path: if pair.path().is_empty() { "/".to_owned() } else { pair.path() },
            thumbprint: thumbprint(server, &signing_key)?.to_string(),
            exchange_thumbprint: thumbprint(server, &exchange_key)?.to_string(),
            exchange_key,
            signing_key,
        })
    }
}

/// Makes what there is not yet of a pair, the key that exchanges last: a pair that has it is whole.
fn create(server: &Server, pair: &Pair, rotate_days: Option<Days>) -> Result<(), Failure> {
    let signing = NewKey { alias: Some(Is(pair.signing())), ..new_key(pair, SIGNING) };
    match server.wait(server.create_key(&signing)) {
        Err(failure) if failure.code() != Some("conflict") => return Err(failure),
        Ok(answer::Key { .. }) | Err(_) => {}
    }
    let exchange = NewKey { alias: Some(Is(pair.exchange())), rotate_days, ..new_key(pair, EXCHANGE) };
    server.wait(server.create_key(&exchange)).map(drop)
}

/// Replaces the signing key and rotates the one that exchanges.
///
/// Signing keys are keys of their own, because an older version signs nothing. The commit point is the move of the
/// alias: what ends before it leaves at most a key that nobody reaches, and what ends after it the exchange key of before.
fn rotate(server: &Server, pair: &Pair) -> Result<(), Failure> {
    let signing = pair.signing().to_string();
    let before =
        pair.signing_before(&thumbprint(server, &signing)?).expect("the usual thumbprint is by SHA-256");
    server.wait(server.set_alias(&signing, before.as_str()))?;
    let new = server.wait(server.create_key(&new_key(pair, SIGNING)))?;
    server.wait(server.move_alias(&new.id.to_string(), &signing))?;
    server.wait(server.rotate_key(pair.exchange().as_str())).map(drop)
}

const SIGNING: &[&str] = &["sign", "verify"];
const EXCHANGE: &[&str] = &["exchange"];

fn new_key(pair: &Pair, usage: &[&'static str]) -> NewKey {
    NewKey {
        algorithm: Is(Algorithm::EcP521),
        usage: Some(usage.iter().map(|name| Is(Use(name))).collect()),
        exportable: None,
        import: None,
        description: Some(Text(format!("Tang keys of {}", pair.name()))),
        tags: pairs(vec![(TAG.to_owned(), pair.name().to_string())]),
        alias: None,
        activation: None,
        cryptoperiod: None,
        rotate_days: None,
        policy: None,
    }
}

/// The thumbprint of the public half that a key has now.
fn thumbprint(server: &Server, key: &str) -> Result<Thumbprint, Failure> {
    let public = server.wait(server.public_key(key, None))?;
    let unlike = || Failure::new(format_args!("{key} is not on P-521"), "give Tang's aliases to such keys");
    Ok(Point::of_public_key(&public.der).ok_or_else(unlike)?.thumbprints().usual())
}
