//! Clouds: identity documents of instances, and the certificates that vouch for them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keyhearth_attest::cloud::{audience, nonce};
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::key::{Input, Key};
use serde_json::{Value, json};

use crate::der::{bits, certificate_body, constraints, extension, integer, sequence, tlv, unknown_extension};
use crate::{AFTER, BEFORE, NOW_S, make};

/// Whose key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// A CA of the web.
    Ca,
    /// One that it issued.
    Intermediate,
    /// The metadata service of a region.
    Region,
}

static KEYS: LazyLock<[Key; 3]> = LazyLock::new(|| std::array::from_fn(|_| make(Algorithm::Rsa2048)));

impl Signer {
    fn key(self) -> &'static Key {
        match self {
            Self::Ca => &KEYS[0],
            Self::Intermediate => &KEYS[1],
            Self::Region => &KEYS[2],
        }
    }

    fn sign(self, message: &[u8]) -> Vec<u8> {
        self.key().sign(Mechanism::RsaPkcs1Sha256, Input::Message(message)).expect("an RSA pair")
    }
}

/// The last part of names below 1.2.840.113549.1.
fn pkcs(last: &[u8]) -> Vec<u8> {
    tlv(0x06, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01], last])
}

fn sha256_with_rsa() -> Vec<u8> {
    sequence(&[&pkcs(&[1, 11]), &[5, 0]])
}

/// Everything that a certificate says.
#[derive(Clone)]
pub struct Certificate {
    /// Common name of its holder.
    pub subject: &'static str,
    /// Common name of its issuer.
    pub issuer: &'static str,
    /// The holder's key.
    pub of: Signer,
    /// Whose key signs it.
    pub by: Signer,
    /// When it begins and ends, as `UTCTime`.
    pub dates: [&'static str; 2],
    /// In DER.
    pub extensions: Vec<Vec<u8>>,
}

impl Certificate {
    /// As AWS has them: self-signed, for nothing in particular.
    pub fn of_region() -> Self {
        let name = "Hearth Web Services LLC";
        Self { subject: name, issuer: name, of: Signer::Region, by: Signer::Region, ..Self::ca() }
            .of_hosts(&[])
    }

    /// Of a metadata service of Azure's, for these hosts.
    pub fn of_hosts(self, hosts: &[&str]) -> Self {
        self.of_names(&hosts.iter().map(|host| (0x82, host.as_bytes())).collect::<Vec<_>>())
    }

    /// For these names and nothing else, each with its tag.
    pub fn of_names(mut self, names: &[(u8, &[u8])]) -> Self {
        let names: Vec<Vec<u8>> = names.iter().map(|(tag, name)| tlv(*tag, &[name])).collect();
        self.extensions = vec![extension(&[0x55, 0x1d, 0x11], true, &sequence(&[&names.concat()]))];
        self
    }

    /// Of the metadata service of Azure's region `hearth-1`, issued by [`Certificate::intermediate`].
    pub fn azure() -> Self {
        let (subject, issuer) = ("metadata.azure.com", "Hearth Issuing CA");
        let certificate =
            Self { subject, issuer, of: Signer::Region, by: Signer::Intermediate, ..Self::ca() };
        certificate.of_hosts(&["metadata.azure.com", "hearth-1.metadata.azure.com"])
    }

    /// Issued by [`Certificate::ca`].
    pub fn intermediate() -> Self {
        let (subject, issuer) = ("Hearth Issuing CA", "Hearth Root CA");
        Self { subject, issuer, of: Signer::Intermediate, ..Self::ca() }
    }

    /// A root.
    pub fn ca() -> Self {
        Self {
            subject: "Hearth Root CA",
            issuer: "Hearth Root CA",
            of: Signer::Ca,
            by: Signer::Ca,
            dates: [BEFORE, AFTER],
            extensions: vec![constraints(true)],
        }
    }

    /// Makes it one that no issuer may stand below.
    #[must_use]
    pub fn for_leaves_alone(mut self) -> Self {
        let path = sequence(&[&[0x01, 0x01, 0xff], &integer(0)]);
        self.extensions = vec![extension(&[0x55, 0x1d, 0x13], true, &path)];
        self
    }

    /// Says what the key is for: the bits of its usage, and the last parts of purposes below 1.3.6.1.5.5.7.3 (1 is servers,
    /// 4 is mail).
    #[must_use]
    pub fn for_use(mut self, usage: u8, purposes: &[u8]) -> Self {
        let purposes: Vec<Vec<u8>> = purposes
            .iter()
            .map(|last| tlv(0x06, &[&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03], &[*last]]))
            .collect();
        self.extensions.push(extension(&[0x55, 0x1d, 0x0f], true, &bits(&[usage])));
        self.extensions.push(extension(&[0x55, 0x1d, 0x25], true, &sequence(&[&purposes.concat()])));
        self
    }

    /// Constrains what its holder may vouch for: names that are permitted and excluded, each with its tag.
    #[must_use]
    pub fn constrained(mut self, permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]) -> Self {
        let subtrees = |tag: u8, names: &[(u8, &[u8])]| {
            let each: Vec<_> = names.iter().map(|(kind, name)| sequence(&[&tlv(*kind, &[name])])).collect();
            if each.is_empty() { Vec::new() } else { tlv(tag, &[&each.concat()]) }
        };
        let value = sequence(&[&subtrees(0xa0, permitted), &subtrees(0xa1, excluded)]);
        self.extensions.push(extension(&[0x55, 0x1d, 0x1e], true, &value));
        self
    }

    /// Adds the extension that nobody knows and that must be known.
    #[must_use]
    pub fn with_unknown(mut self) -> Self {
        self.extensions.push(unknown_extension());
        self
    }

    /// The certificate, signed.
    pub fn der(&self) -> Vec<u8> {
        let spki = self.of.key().public_key_der().expect("a pair");
        let names = [self.issuer, self.subject];
        let body = certificate_body(1, &sha256_with_rsa(), names, self.dates, spki, &self.extensions);
        sequence(&[&body, &sha256_with_rsa(), &bits(&self.by.sign(&body))])
    }
}

/// A CMS message with one signer.
#[derive(Clone)]
pub struct Message {
    /// What is signed.
    pub content: Vec<u8>,
    /// The hash in the attributes, if there are some and it is another than the content's.
    pub digest: Option<[u8; 32]>,
    /// Whether it has signed attributes, as AWS's have and Azure's have not.
    pub attributes: bool,
    /// Whether it is spelled as out of a stream, as AWS's are.
    pub streamed: bool,
    /// What comes along, in DER.
    pub certificates: Vec<Vec<u8>>,
    /// Whose key signs.
    pub by: Signer,
    /// The algorithm that it names, of those below 1.2.840.113549.1.1: 11 is RSA with SHA-256.
    pub algorithm: u8,
}

impl Message {
    /// As AWS spells it.
    pub fn aws(document: &Value) -> Self {
        Self {
            content: serde_json::to_vec_pretty(document).expect("it is JSON"),
            digest: None,
            attributes: true,
            streamed: true,
            certificates: Vec::new(),
            by: Signer::Region,
            algorithm: 11,
        }
    }

    /// As Azure spells it.
    pub fn azure(document: &Value) -> Self {
        let certificates = [Certificate::azure(), Certificate::intermediate()].map(|one| one.der()).into();
        let content = document.to_string().into_bytes();
        Self {
            content,
            attributes: false,
            streamed: false,
            certificates,
            algorithm: 1,
            ..Self::aws(document)
        }
    }

    /// The message in BER.
    pub fn ber(&self) -> Vec<u8> {
        let constructed = |tag: u8, parts: &[&[u8]]| {
            if self.streamed {
                [&[tag, 0x80], &parts.concat()[..], &[0, 0]].concat()
            } else {
                tlv(tag, parts)
            }
        };
        let attributes = self.attributes.then(|| self.attributes());
        let signed = attributes.as_ref().map_or_else(|| self.content.clone(), |set| tlv(0x31, &[set]));
        let algorithm = |last: u8| sequence(&[&pkcs(&[1, last]), &[5, 0]]);
        let signer = sequence(&[
            &integer(1),
            &sequence(&[&sequence(&[]), &integer(1)]),
            &algorithm(11),
            &attributes.map(|set| tlv(0xa0, &[&set])).unwrap_or_default(),
            &algorithm(self.algorithm),
            &tlv(0x04, &[&self.by.sign(&signed)]),
        ]);
        let halves = self.content.split_at(self.content.len() / 2);
        let octets = if self.streamed {
            constructed(0x24, &[&tlv(0x04, &[halves.0]), &tlv(0x04, &[halves.1])])
        } else {
            tlv(0x04, &[&self.content])
        };
        let carried = self.certificates.concat();
        let data = constructed(
            0x30,
            &[
                &integer(1),
                &tlv(0x31, &[&algorithm(11)]),
                &constructed(0x30, &[&pkcs(&[7, 1]), &constructed(0xa0, &[&octets])]),
                &if carried.is_empty() { Vec::new() } else { tlv(0xa0, &[&carried]) },
                &tlv(0x31, &[&signer]),
            ],
        );
        constructed(0x30, &[&pkcs(&[7, 2]), &constructed(0xa0, &[&data])])
    }

    fn attributes(&self) -> Vec<u8> {
        let attribute = |last: u8, value: &[u8]| sequence(&[&pkcs(&[9, last]), &tlv(0x31, &[value])]);
        let digest = self.digest.unwrap_or_else(|| sha256(&[&self.content]));
        [attribute(3, &pkcs(&[7, 1])), attribute(4, &tlv(0x04, &[&digest]))].concat()
    }

    /// As the metadata service of AWS gives it: lines of base64.
    pub fn as_aws(&self) -> Vec<u8> {
        let base64 = STANDARD.encode(self.ber());
        let lines: Vec<&[u8]> = base64.as_bytes().chunks(76).collect();
        lines.join(&b'\n')
    }

    /// As the metadata service of Azure gives it.
    pub fn as_azure(&self) -> Vec<u8> {
        json!({ "encoding": "pkcs7", "signature": STANDARD.encode(self.ber()) }).to_string().into_bytes()
    }
}

/// What AWS says of an instance.
pub fn aws_document() -> Value {
    json!({
        "accountId": "123456789012",
        "architecture": "x86_64",
        "availabilityZone": "hearth-west-1a",
        "billingProducts": null,
        "imageId": "ami-0fa9e1f64142cde17",
        "instanceId": "i-078517ca8a70a1dde",
        "instanceType": "c6a.large",
        "pendingTime": "2025-06-30T21:25:44Z",
        "region": "hearth-west-1",
        "version": "2017-09-30",
    })
}

/// What Azure says of an instance to a request with this report data, at [`NOW_S`].
pub fn azure_document(report_data: &[u8; 64]) -> Value {
    assert_eq!(NOW_S, 1_751_328_000, "the times below are of it");
    json!({
        "licenseType": "",
        "nonce": nonce(report_data),
        "plan": { "name": "", "product": "", "publisher": "" },
        "sku": "12-gen2",
        "subscriptionId": "0afbfffa-5df9-4a3b-987e-fe7577624272",
        "timeStamp": { "createdOn": "06/30/25 23:59:58 -0000", "expiresOn": "07/01/25 05:59:58 -0000" },
        "vmId": "990878d4-068a-4ac4-9ee9-1231d2218ef2",
    })
}

/// What GCP says of an instance to a request with this report data, at [`NOW_S`].
pub fn gcp_token(report_data: &[u8; 64]) -> Value {
    json!({
        "aud": audience(report_data),
        "azp": "113774264463038321964",
        "exp": NOW_S + 3_600,
        "google": { "compute_engine": {
            "instance_creation_timestamp": NOW_S - 60,
            "instance_id": "152986662232938449",
            "instance_name": "web-1",
            "project_id": "hearth-project",
            "project_number": 739_419_398_126_u64,
            "zone": "hearth-west1-a",
        }},
        "iat": NOW_S,
        "iss": "https://accounts.google.com",
        "sub": "113774264463038321964",
    })
}

/// A JWT that says `token`, whose header names the algorithm `alg`.
pub fn jwt(alg: &str, token: &Value, by: Signer) -> Vec<u8> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "alg": alg, "kid": "1", "typ": "JWT" })), part(token));
    let signature = URL_SAFE_NO_PAD.encode(by.sign(message.as_bytes()));
    format!("{message}.{signature}").into_bytes()
}

/// A certificate in PEM.
pub fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
