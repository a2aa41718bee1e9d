//! Rows: how every record lies in the store, and why an altered, moved or older one is not believed.
//!
//! A row's MAC covers its table, tenant, id, revision and body. The store knows no keys: it keeps
//! what it is given. [`Presence`] remembers which MAC every row has now, so that an older row with a
//! valid MAC, a row that was deleted, or one that is missing is noticed. [`StateDigest`] sums all
//! rows up; its seal is stored with every change and compared at start.

use std::collections::HashMap;

use keyhearth_crypto::kdf::MacKey;

use crate::id::TenantId;

/// The kind of record a row holds. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// [`crate::key::Key`] by key id.
    Key = 1,
    /// [`crate::key::Material`] by key id and version (4 bytes, big-endian).
    Material = 2,
    /// Key id by alias.
    Alias = 3,
    /// [`crate::grant::Grant`] by key id and grant id.
    Grant = 4,
    /// [`crate::principal::Principal`] by principal id.
    Principal = 5,
    /// Principal id by principal name.
    PrincipalName = 6,
    /// Tenant and principal id by certificate fingerprint; in the platform tenant.
    Certificate = 7,
    /// [`crate::principal::AccessKey`] by access key id.
    AccessKey = 8,
    /// [`crate::policy::Policy`] by name.
    Policy = 9,
    /// [`crate::tenant::Tenant`] by tenant id; in the platform tenant.
    Tenant = 10,
    /// Tenant id by tenant name; in the platform tenant.
    TenantName = 11,
    /// A wrapped tenant key by version (4 bytes, big-endian).
    TenantKey = 12,
    /// The remembered result of a creating request, by idempotency key.
    Idempotency = 13,
    /// A wrapped private key that awaits an import, by key id.
    Import = 14,
    /// The server's own records, by name; in the platform tenant.
    System = 15,
    /// Tenant by access key id; in the platform tenant.
    AccessKeyOwner = 16,
    /// [`crate::machine::Machine`] by principal id.
    Machine = 17,
    /// Tenant by the principal id of a machine; in the platform tenant.
    MachineOwner = 18,
    /// [`crate::machine::Approval`] by machine.
    Approval = 19,
    /// [`crate::secret::KeptSecret`] by name.
    Secret = 20,
}

impl Table {
    /// Whether [`Presence`] knows how many of its rows a tenant has.
    const fn is_counted(self) -> bool {
        matches!(self, Self::Policy | Self::Secret)
    }

    /// All tables.
    pub const ALL: [Self; 20] = [
        Self::Key,
        Self::Material,
        Self::Alias,
        Self::Grant,
        Self::Principal,
        Self::PrincipalName,
        Self::Certificate,
        Self::AccessKey,
        Self::Policy,
        Self::Tenant,
        Self::TenantName,
        Self::TenantKey,
        Self::Idempotency,
        Self::Import,
        Self::System,
        Self::AccessKeyOwner,
        Self::Machine,
        Self::MachineOwner,
        Self::Approval,
        Self::Secret,
    ];
}

/// The longest id of a row, in bytes.
pub const ROW_ID_BYTES_MAX: usize = 300;

/// Where a row lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Kind of record.
    pub table: Table,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id in that table, 1 to [`ROW_ID_BYTES_MAX`] bytes.
    pub id: Vec<u8>,
}

impl RowKey {
    /// A row of `tenant`.
    #[must_use]
    pub fn new(table: Table, tenant: TenantId, id: &[u8]) -> Self {
        Self { table, tenant, id: id.to_vec() }
    }

    /// The row of version `version` of something with a 16-byte id.
    #[must_use]
    pub fn versioned(table: Table, tenant: TenantId, id: &[u8], version: u32) -> Self {
        let mut full = Vec::with_capacity(id.len() + 4);
        full.extend_from_slice(id);
        full.extend_from_slice(&version.to_be_bytes());
        Self { table, tenant, id: full }
    }
}

/// A row as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Counts up with every change; never reused for the same row key while the row exists.
    pub revision: u64,
    /// The record, CBOR.
    pub body: Vec<u8>,
    /// HMAC-SHA-256 over all of the above and the row key.
    pub mac: [u8; 32],
}

/// The keys that authenticate rows.
#[derive(Debug)]
pub struct RowAuth {
    row: MacKey,
    digest: MacKey,
}

impl RowAuth {
    /// From the server's 32-byte row secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let derive = |label| {
            let mut key = zeroize::Zeroizing::new([0; 32]);
            keyhearth_crypto::kdf::kbkdf(secret, label, &[], key.as_mut());
            MacKey::new(key.as_ref())
        };
        Self { row: derive("keyhearth/row"), digest: derive("keyhearth/row-digest") }
    }

    /// Makes the stored row.
    #[must_use]
    pub fn seal(&self, key: &RowKey, revision: u64, body: Vec<u8>) -> Row {
        let mac = self.mac(key, revision, &body);
        Row { revision, body, mac }
    }

    /// Whether the row was made by [`RowAuth::seal`] for this place.
    #[must_use]
    pub fn verify(&self, key: &RowKey, row: &Row) -> bool {
        let (head, length) = frame(key, row.revision);
        self.row.verify(&[&head, &length, &key.id, &row.body], &row.mac)
    }

    fn mac(&self, key: &RowKey, revision: u64, body: &[u8]) -> [u8; 32] {
        let (head, length) = frame(key, revision);
        self.row.sign(&[&head, &length, &key.id, body])
    }

    /// The seal of a sum of rows at an epoch and a size of the log.
    #[must_use]
    pub fn seal_digest(&self, digest: &StateDigest, epoch: u64, log_size: u64) -> [u8; 32] {
        self.digest.sign(&[b"seal", &digest.sum, &epoch.to_be_bytes(), &log_size.to_be_bytes()])
    }
}

/// The fixed part of what a row's MAC covers, and the length of its id.
fn frame(key: &RowKey, revision: u64) -> ([u8; 25], [u8; 2]) {
    let mut head = [0; 25];
    head[0] = key.table as u8;
    head[1..17].copy_from_slice(&key.tenant.0);
    head[17..].copy_from_slice(&revision.to_be_bytes());
    let length = u16::try_from(key.id.len()).expect("ids of rows are at most 300 bytes");
    (head, length.to_be_bytes())
}

/// A sum over all rows that are present, in any order: the same rows give the same sum.
///
/// Each row counts as a keyed hash of its MAC, added modulo 2^256. Neither the terms nor the sum
/// are ever stored, only their seal: whoever can write the store cannot search for other rows with
/// the same sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateDigest {
    sum: [u8; 32],
}

impl StateDigest {
    /// What a row with this MAC counts as.
    #[must_use]
    pub fn term(auth: &RowAuth, mac: &[u8; 32]) -> [u8; 32] {
        auth.digest.sign(&[b"term", mac])
    }

    /// Counts in a row whose term was computed elsewhere.
    pub fn add_term(&mut self, term: &[u8; 32]) {
        let mut carry = 0;
        for (sum, term) in self.sum.iter_mut().zip(term) {
            let total = u16::from(*sum) + u16::from(*term) + carry;
            carry = total >> 8;
            *sum = total.to_le_bytes()[0];
        }
    }

    /// Counts a row in.
    pub fn add(&mut self, auth: &RowAuth, mac: &[u8; 32]) {
        self.add_term(&Self::term(auth, mac));
    }

    /// Counts a row out.
    pub fn remove(&mut self, auth: &RowAuth, mac: &[u8; 32]) {
        let mut borrow = 0;
        for (sum, term) in self.sum.iter_mut().zip(Self::term(auth, mac)) {
            let total = 256 + u16::from(*sum) - u16::from(term) - borrow;
            borrow = 1 - (total >> 8);
            *sum = total.to_le_bytes()[0];
        }
    }
}

/// Where [`Presence`] remembers a row: half of the SHA-256 of its key.
#[derive(Clone, Copy, Debug)]
pub struct Place(u128);

/// Which MAC every row has now: 24 bytes a row. And how many policies and secrets a tenant has, as policies are read as a
/// whole: nobody would miss one that was taken out.
#[derive(Debug, Default)]
pub struct Presence {
    rows: HashMap<u128, u64>,
    counts: HashMap<(Table, TenantId), usize>,
}

impl Presence {
    /// Remembers that the row at `key` now has `mac`.
    pub fn set(&mut self, key: &RowKey, mac: &[u8; 32]) {
        self.set_at(Self::place(key), key, mac);
    }

    /// As [`Presence::set`], with the row's place computed elsewhere.
    pub fn set_at(&mut self, Place(place): Place, key: &RowKey, mac: &[u8; 32]) {
        let old = self.rows.insert(place, Self::short(mac));
        if old.is_none() && key.table.is_counted() {
            *self.counts.entry((key.table, key.tenant)).or_default() += 1;
        }
    }

    /// Remembers that there is no row at `key`.
    pub fn unset(&mut self, key: &RowKey) {
        let old = self.rows.remove(&Self::place(key).0);
        if old.is_some() && key.table.is_counted() {
            self.counts.entry((key.table, key.tenant)).and_modify(|count| *count -= 1);
        }
    }

    /// Whether `found` is what should be at `key` now.
    #[must_use]
    pub fn agrees(&self, key: &RowKey, found: Option<&[u8; 32]>) -> bool {
        self.rows.get(&Self::place(key).0).copied() == found.map(Self::short)
    }

    /// How many rows the tenant has in this table, which is one that is counted.
    #[must_use]
    pub fn count(&self, table: Table, tenant: TenantId) -> usize {
        self.counts.get(&(table, tenant)).copied().unwrap_or(0)
    }

    /// Where the row at `key` is remembered.
    #[must_use]
    pub fn place(key: &RowKey) -> Place {
        let (head, length) = frame(key, 0);
        let hash = keyhearth_crypto::digest::sha256(&[&head, &length, &key.id]);
        Place(u128::from_le_bytes(hash[..16].try_into().expect("16 of 32 bytes")))
    }

    fn short(mac: &[u8; 32]) -> u64 {
        u64::from_le_bytes(mac[..8].try_into().expect("8 of 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> RowAuth {
        RowAuth::new(&[7; 32])
    }

    #[test]
    fn a_row_is_believed_only_in_its_place() {
        let auth = auth();
        let key = RowKey::new(Table::Key, TenantId([1; 16]), b"one");
        let row = auth.seal(&key, 3, b"body".to_vec());
        assert!(auth.verify(&key, &row));
        let elsewhere = [
            RowKey { id: b"two".to_vec(), ..key.clone() },
            RowKey { tenant: TenantId([2; 16]), ..key.clone() },
            RowKey { table: Table::Grant, ..key.clone() },
        ];
        for other in elsewhere {
            assert!(!auth.verify(&other, &row), "{other:?}");
        }
        assert!(!auth.verify(&key, &Row { revision: 2, ..row.clone() }));
        assert!(!auth.verify(&key, &Row { body: b"bodz".to_vec(), ..row.clone() }));
        assert!(!RowAuth::new(&[8; 32]).verify(&key, &row));
        // The border between id and body is covered.
        let shifted = RowKey { id: b"oneb".to_vec(), ..key };
        assert!(!auth.verify(&shifted, &Row { body: b"ody".to_vec(), ..row }));
    }

    #[test]
    fn the_digest_forgets_order_and_nothing_else() {
        let auth = auth();
        let macs: Vec<[u8; 32]> = (0..50_u8).map(|i| [i; 32]).collect();
        let mut forward = StateDigest::default();
        let mut backward = StateDigest::default();
        macs.iter().for_each(|mac| forward.add(&auth, mac));
        macs.iter().rev().for_each(|mac| backward.add(&auth, mac));
        assert_eq!(forward, backward);
        backward.remove(&auth, &macs[3]);
        assert_ne!(forward, backward);
        backward.add(&auth, &macs[3]);
        assert_eq!(forward, backward);
        macs.iter().for_each(|mac| forward.remove(&auth, mac));
        assert_eq!(forward, StateDigest::default());
        assert_ne!(auth.seal_digest(&backward, 1, 1), auth.seal_digest(&backward, 1, 2));
    }

    #[test]
    fn presence_knows_older_missing_and_revived_rows() {
        let mut presence = Presence::default();
        let key = RowKey::new(Table::Key, TenantId([1; 16]), b"one");
        assert!(presence.agrees(&key, None) && !presence.agrees(&key, Some(&[1; 32])));
        presence.set(&key, &[1; 32]);
        presence.set(&key, &[2; 32]);
        assert!(presence.agrees(&key, Some(&[2; 32])));
        assert!(!presence.agrees(&key, Some(&[1; 32])) && !presence.agrees(&key, None));
        presence.unset(&key);
        assert!(presence.agrees(&key, None) && !presence.agrees(&key, Some(&[2; 32])));
    }

    #[test]
    fn presence_counts_rows_of_each_tenant() {
        let mut presence = Presence::default();
        let [one, two] = [TenantId([1; 16]), TenantId([2; 16])];
        let [a, b] = [b"a", b"b"].map(|name| RowKey::new(Table::Policy, one, name));
        presence.set(&a, &[1; 32]);
        presence.set(&b, &[1; 32]);
        presence.set(&b, &[2; 32]);
        presence.set(&RowKey::new(Table::Alias, one, b"a"), &[1; 32]);
        assert_eq!([presence.count(Table::Policy, one), presence.count(Table::Policy, two)], [2, 0]);
        presence.unset(&a);
        presence.unset(&a);
        presence.unset(&RowKey::new(Table::Policy, two, b"a"));
        assert_eq!([presence.count(Table::Policy, one), presence.count(Table::Policy, two)], [1, 0]);
    }
}
