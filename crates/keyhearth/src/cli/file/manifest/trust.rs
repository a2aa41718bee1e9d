//! Whose signatures on manifests are believed, and who signs.

use std::cell::OnceCell;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{Input, PUBLIC_KEY_BYTES_MAX, PublicKey};
use keyhearth_files::manifest::{Manifest, Signed, Statement};
use keyhearth_proto::rest::Is;
use keyhearth_proto::rest::body::Sign;

use super::super::super::failure::Failure;
use super::super::super::session::{Server, Session};
use super::super::super::{input, key};
use super::remembered::About;

/// Keys that sign manifests, and how.
const SCHEMES: [(Algorithm, Mechanism); 2] =
    [(Algorithm::Ed25519, Mechanism::Ed25519), (Algorithm::EcP256, Mechanism::EcdsaSha256)];

/// A public half, and how it verifies.
struct Verifier(PublicKey, Mechanism);

impl Verifier {
    fn from_der(der: &[u8]) -> Option<Self> {
        SCHEMES.iter().find_map(|&(algorithm, mechanism)| {
            Some(Self(PublicKey::from_der(algorithm, der).ok()?, mechanism))
        })
    }

    fn has_signed(&self, signed: &Signed) -> bool {
        let text = signed.by.of(&signed.manifest);
        self.0.verify(self.1, Input::Message(text.as_bytes()), &signed.signature).is_ok()
    }
}

/// Where public halves come from: the user, this machine's memory, the server.
pub struct Trust<'s> {
    session: &'s Session,
    server: OnceCell<Server>,
    /// Public halves that the user gave; then no others are believed.
    given: Vec<Verifier>,
    /// The id of the key that signs from now on, if the user named it.
    sign_key: Option<String>,
}

impl<'s> Trust<'s> {
    /// By these files of public halves, if there are any, and by this key, if there is one.
    pub fn new(session: &'s Session, public: &[PathBuf], sign_key: Option<&str>) -> Result<Self, Failure> {
        let given = public.iter().map(|path| {
            let bytes = input::read(path, 2 * PUBLIC_KEY_BYTES_MAX)?;
            Verifier::from_der(&key::public_key(&bytes)).ok_or_else(|| {
                let what = format!("{} is no public key of Ed25519 or P-256", path.display());
                Failure::new(what, "give what `keyhearth key public KEY` prints")
            })
        });
        let given = given.collect::<Result<_, _>>()?;
        let mut trust = Self { session, server: OnceCell::new(), given, sign_key: None };
        if let Some(sign_key) = sign_key {
            let server = trust.server()?;
            let public = server.wait(server.public_key(sign_key, None))?;
            if !SCHEMES.iter().any(|(algorithm, _)| *algorithm == *public.algorithm) {
                let what = format!("{sign_key} is {}, which signs no manifests", public.algorithm.name());
                let next = "make one: `keyhearth key create ed25519 --alias NAME`";
                return Err(Failure::of("unsupported", &what, "", next));
            }
            trust.sign_key = Some(public.key.to_string());
        }
        Ok(trust)
    }

    fn server(&self) -> Result<&Server, Failure> {
        if let Some(server) = self.server.get() {
            return Ok(server);
        }
        let server = self.session.server()?;
        Ok(self.server.get_or_init(|| server))
    }

    fn tenant(&self) -> Result<String, Failure> {
        let server = self.server()?;
        Ok(server.wait(server.who_am_i())?.tenant.to_string())
    }

    /// The public half of a version, as the server has it: DER.
    fn public(&self, key: &str, version: u32) -> Result<Vec<u8>, Failure> {
        let server = self.server()?;
        let public = server.wait(server.public_key(key, Some(version)))?;
        if public.key.to_string() != key {
            let what = format!("{key} is not the id of a key");
            return Err(Failure::of("not_authentic", &what, "", "remove it: no device writes that"));
        }
        Ok(public.der.to_vec())
    }

    /// Believes the key that the user named, besides those that were believed.
    pub fn name_key(&self, about: &mut About) -> Result<(), Failure> {
        if let Some(key) = self.sign_key.as_ref().filter(|key| !about.keys.contains_key(*key)) {
            about.tenant = self.tenant()?;
            about.keys.insert(key.clone(), [].into());
        }
        Ok(())
    }

    /// Believes no other key than the one that the user named, if one was.
    pub fn name_only_key(&self, about: &mut About) {
        if let Some(named) = &self.sign_key {
            about.keys.retain(|key, _| key == named);
        }
    }

    /// Proves a signature: by what the user gave; by a key that is believed; or, if none is, by the one that the manifest
    /// names, as the server knows it. What is proved is believed from then on.
    pub fn prove(&self, signed: &Signed, about: &mut About) -> Result<(), Failure> {
        let Statement { tenant, key, version } = &signed.by;
        let refused = |what: &str, next: &str| Err(Failure::of("not_authentic", what, "", next));
        let known = about.keys.get(key).filter(|_| about.tenant == *tenant);
        let der = if !self.given.is_empty() {
            match self.given.iter().find(|verifier| verifier.has_signed(signed)) {
                Some(Verifier(public, _)) => public.der().to_vec(),
                None => {
                    return refused(
                        "none of the keys that were given signed it",
                        "ask who signs this folder",
                    );
                }
            }
        } else if let Some(known) = known {
            let der = known.get(version).and_then(|text| BASE64.decode(text).ok());
            der.map_or_else(|| self.public(key, *version), Ok)?
        } else if about.keys.is_empty() && self.tenant()? == *tenant {
            self.public(key, *version)?
        } else {
            let next = "if that is right, name this key with --sign-key";
            return refused(&format!("the key {key} signed it, which is not the one that is believed"), next);
        };
        if !Verifier::from_der(&der).is_some_and(|verifier| verifier.has_signed(signed)) {
            return refused("its signature does not hold", "remove it, or take an older copy of it");
        }
        about.tenant.clone_from(tenant);
        about.keys.entry(key.clone()).or_default().insert(*version, BASE64.encode(der));
        Ok(())
    }

    /// Whether the key that the user named signed this.
    pub fn is_newest(&self, by: &Statement) -> bool {
        self.sign_key.as_deref() == Some(&*by.key)
    }

    /// Signs a manifest by the newest version of the key that the user named.
    pub fn sign(&self, manifest: Manifest, about: &mut About) -> Result<Signed, Failure> {
        let (server, key) = (self.server()?, self.sign_key.as_deref());
        let key = key.ok_or_else(|| Failure::new("no key signs", "name one with --sign-key"))?;
        let public = server.wait(server.public_key(key, None))?;
        let scheme = SCHEMES.iter().find(|(algorithm, _)| *algorithm == *public.algorithm);
        let mechanism = scheme.map(|(_, mechanism)| Is(*mechanism));
        let by = Statement { tenant: about.tenant.clone(), key: key.to_owned(), version: public.version };
        let message = Some(by.of(&manifest).into_bytes().into());
        let signature = server.wait(server.sign(key, &Sign { mechanism, message, digest: None }))?;
        let signed = Signed { manifest, by, signature: signature.signature.to_vec() };
        // If the key was rotated in between, another version signed.
        if !Verifier::from_der(&public.der).is_some_and(|verifier| verifier.has_signed(&signed)) {
            return Err(Failure::new("the key was rotated meanwhile", "try again"));
        }
        let versions = about.keys.entry(key.to_owned()).or_default();
        versions.insert(public.version, BASE64.encode(&*public.der));
        Ok(signed)
    }
}
