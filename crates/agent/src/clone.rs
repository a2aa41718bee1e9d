//! The first start of a clone of a golden image, and who it is at every other.
//!
//! ```text
//! marked as a clone's? ── yes ─▶ it is that clone
//!        │ no
//! identity asked for, under the image's id ─▶ header made in memory ─▶ its hash settled ─▶ written ─▶ it is that clone
//! ```
//!
//! The header that is made has one keyslot for the clone's own secret, another for its recovery secret if the image's clones have one, and nothing else opens the volume by it. Before it
//! is settled nothing has changed on the disk, and before the commit point of [`exchange`] the disk is that of the image:
//! whoever is interrupted starts again as a new clone, and the identity that it had been given stays unused.
//!
//! What follows is an ordinary boot of the clone: it attests once more, as itself.
//!
//! Known limit: the volume key is that of the image, and so that of every other clone, until it is replaced
//! (`keyhearth volume rekey`).
//!
//! Called by [`crate::run`].

use std::fs::File;
use std::slice;

use keyhearth_core::id::PrincipalId;
use keyhearth_crypto::secret::SecretBytes;
use keyhearth_proto::boot::{Fixed, Identified, Key, Settle, Settled, Step, settle_mac, write};
use keyhearth_proto::rest::Is;

use crate::config::Config;
use crate::cryptsetup::{self, Purpose};
use crate::evidence::Machine;
use crate::luks::{self, exchange};
use crate::run::{Agent, Extent, Failure, Prepared, Rounds, in_initramfs, post, prepare};
use crate::screen;
use crate::session::Session;
use crate::stop::Stop;
use crate::transport::Transport;

/// The machine that this is, if the configured one is a golden image.
///
/// # Errors
/// [`Stop::NoIdentity`] if it is none yet, and nothing is to be changed or this is no initramfs; others as of a boot.
pub(crate) fn identity(
    config: &Config,
    machine: &Machine,
    transport: &Transport,
    extent: Extent,
) -> Result<PrincipalId, Stop> {
    let volume = config.volumes.first().ok_or(Stop::Defect)?;
    let prepared = prepare(config, volume)?;
    if let Some(id) = prepared.header.clone_of(&volume.name, config.machine) {
        return Ok(id);
    }
    // Where the image was made, somebody tries things: there it has to stay an image.
    if extent != Extent::Open || !in_initramfs() {
        return Err(Stop::NoIdentity);
    }
    screen::note("this is a new clone of a golden image, and asks for an identity of its own");
    let agent = Agent::new(config, machine, transport, slice::from_ref(&prepared));
    let agent = agent.of_image(Some(config.machine)).cloning()?;
    let (session, opened) = agent.release(|server| agent.ask(server, None))?;
    let (Some(identity), [(_, _, images)]) = (&opened.identity, &opened.volumes[..]) else {
        return Err(Stop::Forged);
    };
    let id = identity.machine;
    let (hash, pieces) = exchanged(&prepared, identity, images)?;
    settle(config, transport, &session, id, hash)?;
    let written = File::options().read(true).write(true).open(volume.device.path());
    let written = written.and_then(|mut disk| exchange::write(&mut disk, &pieces));
    written.map_err(|error| Stop::Exchange(volume.name.clone(), error))?;
    screen::note(&format!("this is machine {id} from now on"));
    Ok(id)
}

/// The header that the clone's own secrets alone open, as it is written, and its hash. The first was tried.
fn exchanged(
    prepared: &Prepared<'_>,
    identity: &Identified,
    images: &Key,
) -> Result<([u8; 32], Vec<exchange::Piece>), Stop> {
    let (volume, name) = (prepared.volume, || prepared.volume.name.clone());
    let locked = |key: &Key| SecretBytes::copy_from(&key[..]).map_err(|error| Stop::Machine(error.into()));
    let own = [Some(&identity.secret), identity.recovery.as_ref()].into_iter().flatten();
    let (images, own) = (locked(images)?, own.map(locked).collect::<Result<Vec<_>, _>>()?);
    let failed = |error| Stop::Cryptsetup(name(), error);
    let made = cryptsetup::exchange(&prepared.image, &prepared.header.keyslots(), &images, &own);
    let (mut file, keyslots) = made.map_err(failed)?;
    let refused = |refusal| Stop::Header(name(), refusal);
    let (header, image) = luks::read(&mut file).map_err(refused)?;
    cryptsetup::open(volume.device.path(), &image, &own[0], Purpose::Try).map_err(failed)?;
    let whose = (identity.machine, &volume.name);
    let pieces = exchange::pieces(&prepared.header, &header, &image, &keyslots, whose).map_err(refused)?;
    Ok((header.hash(), pieces))
}

/// Says which header the volume will have, until a server has heard it.
fn settle(
    config: &Config,
    transport: &Transport,
    session: &Session,
    id: PrincipalId,
    header: [u8; 32],
) -> Result<(), Stop> {
    let mac = settle_mac(&session.key, id, &session.session, &header);
    let settle =
        Settle { machine: Is(id), session: Fixed(session.session), header: Fixed(header), mac: Fixed(mac) };
    let mut rounds = Rounds::new(config);
    loop {
        match post::<Settled>(transport, rounds.server(), Step::Settle, &write(&settle)) {
            Ok(Settled {}) => return Ok(()),
            Err(Failure::Stop(stop)) => return Err(stop),
            Err(Failure::Again(why, after_s)) => rounds.wait(&why, after_s)?,
            Err(Failure::Pending(_)) => return Err(Stop::Answer(rounds.server().to_string(), 202)),
        }
    }
}
