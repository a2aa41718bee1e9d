//! Clones of golden images: an identity for each, once, and the header that its volume then has.

use keyhearth_core::Error;
use keyhearth_core::id::{Name, PrincipalId, TenantId};
use keyhearth_core::machine::{Claim, Machine, Release, Volume};
use keyhearth_core::principal::{Principal, Roles};
use keyhearth_core::request::Response;
use keyhearth_core::row::{RowKey, Table};
use keyhearth_crypto::digest::sha256;

use super::machines::{RECOVERY_LABEL, VOLUME_LABEL};
use super::records::Stored;
use super::{Effect, Turn};

const CLONE_LABEL: &[u8] = b"keyhearth/clone";

impl Turn<'_> {
    /// Gives the clone that asks an identity, or the one that it was given when the answer was lost.
    ///
    /// It is the same clone if the answer is sealed to the same key, and nobody else can open that.
    pub(super) fn clone_image(&self, release: &Release, sealed_to: &[u8; 32]) -> Result<Effect, Error> {
        let image = self.machine_of_key(self.caller.principal)?;
        image.value.check(release, self.now).map_err(|reason| Error::Conflict(reason.text()))?;
        let id = clone_id(image.value.id, sealed_to);
        let row = RowKey::new(Table::Machine, self.tenant(), &id.0);
        let asked_before: Option<Stored<Machine>> = self.open.records.read(&row)?;
        let (clone, mut writes) = match asked_before {
            Some(stored) => {
                if !stored.value.is_unsettled() || stored.value.image_id() != Some(image.value.id) {
                    let rule = "must be made anew: the clone that it names has settled";
                    return Err(Error::Invalid { field: "ephemeral", rule });
                }
                self.check_unrevoked(id)?;
                let origin = Some(image.value.origin_of(release, self.now));
                let clone = Machine { origin, ..stored.value.clone() };
                let write = self.open.records.replace(&stored, &clone);
                (clone, vec![write])
            }
            None => self.new_clone(&image, id, release)?,
        };
        let opens = |name: &Name| {
            let generation = image.value.volume(name)?.generation;
            Ok((name.clone(), generation, self.secret(&image.value, name, VOLUME_LABEL, generation)?))
        };
        let volumes = release.facts.volumes.iter().map(opens).collect::<Result<Vec<_>, Error>>()?;
        let [(name, ..)] = &volumes[..] else { return Err(Error::Internal("an image has one volume")) };
        let secret = self.secret(&clone, name, VOLUME_LABEL, 1)?;
        let recovery = image.value.image.is_some_and(|image| image.recovery);
        let recovery = recovery.then(|| self.secret(&clone, name, RECOVERY_LABEL, 0)).transpose()?;
        let mut detail =
            format!("{} {} on {} evidence", clone.id, clone.name, super::machines::kind(release));
        if recovery.is_some() {
            detail.push_str(", with its recovery secret");
        }
        if let Some(Claim::Record(cloud)) = release.facts.claims.get("cloud")
            && let Some(Claim::Text(instance)) = cloud.get("instance")
        {
            detail = format!("{detail}, instance {instance}");
        }
        if let Some(id) = release.facts.approval {
            writes.push(self.use_approval(id)?);
            detail = format!("{detail}, approval {id}");
        }
        let response = Response::Cloned { clone: Box::new(clone), secret, recovery, volumes };
        Ok(Effect::writing(response, writes).detail(detail))
    }

    /// A clone that is new, and the rows that make it. The image counts it in the same commit.
    fn new_clone(
        &self,
        stored: &Stored<Machine>,
        id: PrincipalId,
        release: &Release,
    ) -> Result<(Machine, Vec<keyhearth_core::store::Write>), Error> {
        let mut image = stored.value.clone();
        let number = image.count_clone()?;
        let principal = Principal { id, ..self.clone_principal(&image, number, id)? };
        let volume =
            |volume: &Volume| Volume { name: volume.name.clone(), generation: 0, given: 1, header: None };
        let volumes = image.volumes.iter().map(volume).collect();
        let clone = Machine {
            reference: image.reference.clone(),
            origin: Some(image.origin_of(release, self.now)),
            ..Machine::new(&principal, image.key, image.version, volumes)
        };
        let records = &self.open.records;
        let mut writes = Vec::from(self.principal_rows(&principal));
        writes.push(records.create(RowKey::new(Table::Machine, clone.tenant, &id.0), &clone));
        let owner = RowKey::new(Table::MachineOwner, TenantId::PLATFORM, &id.0);
        writes.push(records.create(owner, &clone.tenant));
        writes.push(records.replace(stored, &image));
        Ok((clone, writes))
    }

    /// The identity `IMAGE-NUMBER`; if somebody has that name, or had it, a part of the id follows.
    fn clone_principal(&self, image: &Machine, number: u32, id: PrincipalId) -> Result<Principal, Error> {
        let named = |text: String| -> Result<Principal, Error> {
            self.principal(self.tenant(), &text.parse()?, Roles::default())
        };
        let name = format!("{}-{number}", image.name);
        match named(name.clone()) {
            Err(Error::Conflict(_)) => named(format!("{name}-{}", &id.to_string()[..8])),
            other => other,
        }
    }

    fn check_unrevoked(&self, id: PrincipalId) -> Result<(), Error> {
        let principal = self.open.principal(self.tenant(), id)?;
        if principal.value.revoked.is_some() { Err(Error::NotFound("machine")) } else { Ok(()) }
    }

    /// The commit point of a clone: from here on its disk may have this header, and no other opens it.
    pub(super) fn settle_clone(&self, session: &[u8; 16], header: [u8; 32]) -> Result<Effect, Error> {
        let stored = self.machine(self.caller.principal)?;
        let mut clone = stored.value.clone();
        clone.settling(session, self.now).map_err(|_| Error::NotFound("session"))?;
        clone.settle(header)?;
        let write = self.open.records.replace(&stored, &clone);
        let detail = format!(
            "{} {}, header {}",
            clone.id,
            clone.name,
            header.map(|byte| format!("{byte:02x}")).concat()
        );
        Ok(Effect::writing(Response::Settled, vec![write]).detail(detail))
    }
}

/// The id of the clone of `image` that answers are sealed to under the key of this hash.
///
/// Source: RFC 9562 §5.8 (version 8).
fn clone_id(image: PrincipalId, sealed_to: &[u8; 32]) -> PrincipalId {
    let digest = sha256(&[CLONE_LABEL, &image.0, sealed_to]);
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    PrincipalId(id)
}
