//! Where the next page of a listing begins, as AWS's clients carry it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyhearth_core::id::PrincipalId;
use keyhearth_core::request::{PAGE_MAX, Page};
use keyhearth_crypto::digest::sha256;

use super::error::{Exception, Kind};
use super::model::Operation;

/// One listing: markers of another one are refused.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    /// Who lists.
    pub caller: PrincipalId,
    /// With what.
    pub operation: Operation,
    /// The key, or whatever else the request selects by.
    pub filter: &'a str,
}

/// Bytes of the check in a marker. It tells a foreign or damaged marker from one of this listing; it is no
/// secret, for a marker says where to go on and gives no authority.
const CHECK_BYTES: usize = 16;

/// The longest marker, in characters.
const MARKER_MAX: usize = 1_024;

impl Listing<'_> {
    fn check(&self, cursor: &[u8]) -> [u8; CHECK_BYTES] {
        let filter_len = self.filter.len().to_be_bytes();
        let digest = sha256(&[
            b"keyhearth/aws/marker",
            &self.caller.0,
            self.operation.name().as_bytes(),
            b"\0",
            &filter_len,
            self.filter.as_bytes(),
            cursor,
        ]);
        *digest.first_chunk().expect("a digest has 32 bytes")
    }

    /// The marker of a cursor.
    #[must_use]
    pub fn marker(&self, cursor: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.check(cursor)[..], cursor].concat())
    }

    /// The page that a request asks for: from its `marker`, or the first; `limit` items, or `usual`.
    ///
    /// # Errors
    /// [`Kind::InvalidMarker`] for what is no marker of this listing.
    pub fn page(&self, marker: Option<&str>, limit: Option<u32>, usual: usize) -> Result<Page, Exception> {
        let limit = limit.map_or(usual, |limit| limit as usize).min(PAGE_MAX);
        let after = match marker {
            Some(marker) => self.cursor(marker).ok_or_else(|| {
                Exception::new(Kind::InvalidMarker, "The marker does not belong to this listing.")
            })?,
            None => Vec::new(),
        };
        Ok(Page { after, limit })
    }

    fn cursor(&self, marker: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(Some(marker).filter(|marker| marker.len() <= MARKER_MAX)?).ok()?;
        let (check, cursor) = bytes.split_first_chunk()?;
        (*check == self.check(cursor)).then(|| cursor.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_serves_its_own_listing_alone() {
        let listing = Listing { caller: PrincipalId([1; 16]), operation: Operation::ListGrants, filter: "a" };
        let marker = listing.marker(b"cursor");
        let page = listing.page(Some(&marker), Some(7), 50).unwrap();
        assert_eq!((&page.after[..], page.limit), (&b"cursor"[..], 7));
        assert_eq!(listing.page(None, None, 50).unwrap().limit, 50);

        let refuses = |listing: Listing<'_>, marker: &str| {
            let refused = listing.page(Some(marker), None, 50);
            assert_eq!(refused.unwrap_err().kind, Kind::InvalidMarker, "{marker}");
        };
        refuses(Listing { caller: PrincipalId([2; 16]), ..listing }, &marker);
        refuses(Listing { operation: Operation::ListAliases, ..listing }, &marker);
        refuses(Listing { filter: "b", ..listing }, &marker);
        refuses(listing, "");
        refuses(listing, "ä");
        refuses(listing, &marker[1..]);
        refuses(listing, &format!("{marker}AA"));
        for at in 0..marker.len() {
            let mut altered = marker.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            refuses(listing, &String::from_utf8(altered).unwrap());
        }
    }
}
