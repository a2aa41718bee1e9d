//! `tang …`: the pairs of keys that Clevis binds machines to. What else happens to them, `key …` does by their aliases.

use clap::{Args, Subcommand};
use keyhearth_core::id::Name;
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_proto::rest::body::{Days, NewKey};
use keyhearth_proto::rest::{Is, Text, Use, answer};
use keyhearth_proto::tang::{DEFAULT, Pair, Point};
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
        let (Self::Create { pair: PairArgument { name }, .. } | Self::Show(PairArgument { name })) = &self;
        let pair = Pair::new((**name).clone())?;
        if let Self::Create { rotate_days, .. } = self {
            create(server, &pair, rotate_days)?;
        }
        let (exchange_key, signing_key) = (pair.exchange().to_string(), pair.signing().to_string());
        let thumbprint = |key: &str| -> Result<String, Failure> {
            let public = server.wait(server.public_key(key, None))?;
            let point = Point::of_public_key(&public.der);
            let unlike =
                || Failure::new(format_args!("{key} is not on P-521"), "give Tang's aliases to such keys");
            Ok(point.ok_or_else(unlike)?.thumbprints().to_string())
        };
        session.show(&Shown {
            path: if pair.path().is_empty() { "/".to_owned() } else { pair.path() },
            thumbprint: thumbprint(&signing_key)?,
            exchange_thumbprint: thumbprint(&exchange_key)?,
            exchange_key,
            signing_key,
        })
    }
}

/// Makes what there is not yet of a pair, the key that exchanges last: a pair that has it is whole.
fn create(server: &Server, pair: &Pair, rotate_days: Option<Days>) -> Result<(), Failure> {
    let key = |alias, usage: &[&'static str], rotate_days| NewKey {
        algorithm: Is(Algorithm::EcP521),
        usage: Some(usage.iter().map(|name| Is(Use(name))).collect()),
        exportable: None,
        import: None,
        description: Some(Text(format!("Tang keys of {}", pair.name()))),
        tags: pairs(vec![(TAG.to_owned(), pair.name().to_string())]),
        alias: Some(Is(alias)),
        activation: None,
        cryptoperiod: None,
        rotate_days,
        policy: None,
    };
    match server.wait(server.create_key(&key(pair.signing(), &["sign", "verify"], None))) {
        Err(failure) if failure.code() != Some("conflict") => return Err(failure),
        Ok(answer::Key { .. }) | Err(_) => {}
    }
    server.wait(server.create_key(&key(pair.exchange(), &["exchange"], rotate_days))).map(drop)
}
