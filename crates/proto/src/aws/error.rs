//! What is answered instead of a result.

use std::fmt;

use super::json::Writer;

macro_rules! kinds {
    ($($name:ident $status:literal,)+) => {
        /// The exceptions of the protocol, by AWS's names without `Exception` at the end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "AWS's documentation describes them")]
        pub enum Kind { $($name,)+ }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What stands in the member `__type`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => concat!(stringify!($name), "Exception"),)+ }
            }

            /// The HTTP status: 400 for everything the caller can mend.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }
        }
    };
}

// Of the service, of the protocol and of the signature, in this order.
kinds! {
    AlreadyExists 400,
    Conflict 400,
    Disabled 400,
    DryRunOperation 400,
    ExpiredImportToken 400,
    IncorrectKey 400,
    IncorrectKeyMaterial 400,
    InvalidAliasName 400,
    InvalidArn 400,
    InvalidCiphertext 400,
    InvalidGrantId 400,
    InvalidGrantToken 400,
    InvalidImportToken 400,
    InvalidKeyUsage 400,
    InvalidMarker 400,
    KMSInternal 500,
    KMSInvalidMac 400,
    KMSInvalidSignature 400,
    KMSInvalidState 400,
    LimitExceeded 400,
    MalformedPolicyDocument 400,
    NotFound 400,
    Tag 400,
    UnsupportedOperation 400,

    AccessDenied 400,
    RequestEntityTooLarge 413,
    Serialization 400,
    ServiceUnavailable 503,
    Throttling 400,
    UnknownOperation 400,
    Validation 400,

    ExpiredToken 400,
    IncompleteSignature 400,
    InvalidSignature 400,
    MissingAuthenticationToken 400,
    UnrecognizedClient 400,
}

/// A refusal or failure as AWS words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Which one.
    pub kind: Kind,
    /// What the caller may read. AWS says nothing at all where a word would help to forge.
    pub message: Option<String>,
}

impl Exception {
    /// An exception with a text.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: Some(message.into()) }
    }

    /// An exception that says no more than its name.
    #[must_use]
    pub const fn silent(kind: Kind) -> Self {
        Self { kind, message: None }
    }

    /// A member that this call cannot do without is absent.
    #[must_use]
    pub fn missing(member: &str) -> Self {
        let rule = super::model::shape::NOT_NULL;
        let text = format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: {rule}"
        );
        Self::new(Kind::Validation, text)
    }

    /// A choice of AWS's that this server does not have.
    #[must_use]
    pub fn unsupported(choice: &str) -> Self {
        let text = format!("{choice} is not supported by this deployment.");
        Self::new(Kind::UnsupportedOperation, text)
    }

    /// The body of the answer; its status is [`Kind::status`].
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.open(b'{');
        writer.name("__type");
        writer.text(self.kind.name());
        if let Some(message) = &self.message {
            writer.name("message");
            writer.text(message);
        }
        writer.close(b'}');
        writer.finish().to_vec()
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        self.message.iter().try_for_each(|message| write!(f, ": {message}"))
    }
}

impl std::error::Error for Exception {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_as_aws_writes_them() {
        let named = Exception::new(Kind::NotFound, "Invalid keyId 'a\"b'");
        assert_eq!(named.body(), br#"{"__type":"NotFoundException","message":"Invalid keyId 'a\"b'"}"#);
        let silent = Exception::silent(Kind::InvalidCiphertext);
        assert_eq!(silent.body(), br#"{"__type":"InvalidCiphertextException"}"#);
    }
}
