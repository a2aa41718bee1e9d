//! From method and path to the operation, by the paths of the operation table.

use std::borrow::Cow;
use std::sync::LazyLock;

use keyhearth_core::Error;
use keyhearth_core::operation::{Method, Operation};

use super::spelling::Spelling;

/// The most parameters in a path of the table.
const PARAMS_MAX: usize = 2;

/// Why a method and a path lead nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No operation has this path.
    NotFound,
    /// The path exists; these methods do, as the `Allow` header of the answer lists them.
    MethodNotAllowed(&'static str),
}

/// The parameters of a path, percent-decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params<'p>([Option<(&'static str, Cow<'p, str>)>; PARAMS_MAX]);

impl<'p> Params<'p> {
    /// Those of a path to this key.
    pub(super) fn of_key(key: Cow<'p, str>) -> Self {
        Self([Some(("key", key)), None])
    }

    /// Reads the parameter of this name.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not spelled as a `T`.
    pub fn read<T: Spelling>(&self, field: &'static str) -> Result<T, Error> {
        let value = self.0.iter().flatten().find(|(name, _)| *name == field);
        value.and_then(|(_, text)| T::read(text)).ok_or(Error::Invalid { field, rule: T::RULE })
    }
}

/// One place in the tree of paths.
#[derive(Default)]
struct Node {
    /// Segments that are written as they are; they go before the parameter.
    fixed: Vec<(&'static str, Node)>,
    param: Option<(&'static str, Box<Node>)>,
    operations: Vec<(&'static str, Operation)>,
    allow: String,
}

static ROOT: LazyLock<Node> = LazyLock::new(|| {
    let mut root = Node::default();
    for &operation in Operation::ALL.iter().filter(|operation| operation.is_request()) {
        root.add(operation);
    }
    root
});

impl Node {
    fn add(&mut self, operation: Operation) {
        let mut node = self;
        for segment in operation.info().path.split('/').skip(1) {
            node = match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) => &mut node.param.get_or_insert_with(|| (name, Box::default())).1,
                None => {
                    let at = node.fixed.iter().position(|(text, _)| *text == segment);
                    let at = at.unwrap_or_else(|| {
                        node.fixed.push((segment, Self::default()));
                        node.fixed.len() - 1
                    });
                    &mut node.fixed[at].1
                }
            };
        }
        let method = method_name(operation.info().method);
        node.operations.push((method, operation));
        if !node.allow.is_empty() {
            node.allow.push_str(", ");
        }
        node.allow.push_str(method);
    }
}

/// The method as HTTP spells it.
#[must_use]
pub const fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
}

/// Finds the operation. The path is split first and its parameters are percent-decoded afterwards, so that
/// `%2F` never separates; fixed segments are compared as they are written.
///
/// # Errors
/// [`Refused`]; also where a parameter is empty or not percent-encoded UTF-8.
pub fn route<'p>(method: &str, path: &'p str) -> Result<(Operation, Params<'p>), Refused> {
    let mut params = Params::default();
    let mut free = params.0.iter_mut();
    let mut node = &*ROOT;
    for segment in path.strip_prefix('/').ok_or(Refused::NotFound)?.split('/') {
        if let Some((_, next)) = node.fixed.iter().find(|(text, _)| *text == segment) {
            node = next;
        } else {
            let (name, next) = node.param.as_ref().ok_or(Refused::NotFound)?;
            let value = decode(segment).filter(|value| !value.is_empty()).ok_or(Refused::NotFound)?;
            *free.next().ok_or(Refused::NotFound)? = Some((name, value));
            node = next;
        }
    }
    match node.operations.iter().find(|(name, _)| *name == method) {
        Some(&(_, operation)) => Ok((operation, params)),
        None if node.operations.is_empty() => Err(Refused::NotFound),
        None => Err(Refused::MethodNotAllowed(&node.allow)),
    }
}

/// Decodes `%XX`; `None` if that is malformed or the result is not UTF-8.
///
/// Source: RFC 3986 §2.1.
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(c) = rest.next() {
        bytes.push(if c == b'%' { digit(rest.next()?)? << 4 | digit(rest.next()?)? } else { c });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use keyhearth_core::request::KeyRef;

    use super::*;

    #[test]
    fn every_operation_is_reached_by_its_own_path_only() {
        for &operation in Operation::ALL.iter().filter(|operation| operation.is_request()) {
            let info = operation.info();
            let path = info.path.replace(['{', '}'], "");
            let (found, params) = route(method_name(info.method), &path).unwrap();
            assert_eq!(found, operation, "{path}");
            assert_eq!(params.0.iter().flatten().count(), info.path.matches('{').count());
            assert_eq!(route("GET", &format!("{path}/")), Err(Refused::NotFound));
            let Err(Refused::MethodNotAllowed(allow)) = route("TRACE", &path) else { panic!("{path}") };
            assert!(allow.split(", ").any(|method| method == method_name(info.method)));
        }
    }

    #[test]
    fn parameters_are_decoded_after_splitting() {
        let (operation, params) = route("POST", "/v1/keys/team%2Fdb/encrypt").unwrap();
        assert_eq!(operation, Operation::Encrypt);
        assert_eq!(params.read::<KeyRef>("key").unwrap(), "team/db".parse().unwrap());
        for path in
            ["", "v1/keys", "/v1/keys/", "/v1/keys//encrypt", "/v1/keys/%/encrypt", "/v1/keys/%ff/encrypt"]
        {
            assert_eq!(route("POST", path), Err(Refused::NotFound), "{path}");
        }
        assert_eq!(route("GET", "/v1/%6beys"), Err(Refused::NotFound));
        assert_eq!(route("PUT", "/v1/keys"), Err(Refused::MethodNotAllowed("POST, GET")));
    }

    #[test]
    fn a_fixed_segment_goes_before_a_parameter() {
        assert_eq!(route("POST", "/v1/identities/renew").unwrap().0, Operation::RenewIdentity);
        assert_eq!(route("POST", "/v1/identities/x/revoke").unwrap().0, Operation::RevokeIdentity);
    }
}
