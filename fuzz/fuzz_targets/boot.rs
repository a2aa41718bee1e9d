//! Messages of boot release: the number of one, then its body.
#![no_main]

use keyhearth_core::id::{DeploymentId, PrincipalId};
use keyhearth_proto::boot::{
    Attest, Candidate, Challenge, Challenged, Confirm, Confirmed, Covered, Pending, Refused, Release, Settle,
    Settled, Tee, Transcript, read, write,
};
use libfuzzer_sys::fuzz_target;

/// What is read is written, and read as the same again.
macro_rules! survives {
    ($message:ty, $body:expr) => {
        read::<$message>($body).ok().inspect(|message| {
            let first = write(message);
            let again: $message = read(&first).expect("what was written is read");
            assert_eq!(write(&again), first);
        })
    };
}

fn transcript(attest: &Attest, candidate: Option<&Candidate>) -> Transcript {
    let headers: Vec<_> = attest.headers.iter().map(|hash| hash.0).collect();
    Transcript::of(&Covered {
        session: &attest.session.0,
        nonce: &[1; 32],
        server: DeploymentId([2; 16]),
        machine: PrincipalId([3; 16]),
        ephemeral: &attest.ephemeral,
        volumes: &[],
        headers: &headers,
        boot_counter: attest.boot_counter,
        tee: Tee::None,
        candidate,
        clone: attest.clone,
    })
}

fuzz_target!(|data: &[u8]| {
    let [kind, body @ ..] = data else { return };
    match kind % 10 {
        0 => drop(survives!(Challenge, body)),
        1 => {
            let Some(attest) = survives!(Attest, body) else { return };
            let Some(candidate) = &attest.candidate else { return };
            let proposal = candidate.proposal().expect("it was checked when it was read");
            assert_eq!(proposal.claims.len(), candidate.claims.len());
            assert!(transcript(&attest, Some(candidate)) != transcript(&attest, None));
        }
        2 => drop(survives!(Confirm, body)),
        3 => drop(survives!(Challenged, body)),
        4 => drop(survives!(Release, body)),
        5 => drop(survives!(Pending, body)),
        6 => drop(survives!(Refused, body)),
        7 => drop(survives!(Confirmed, body)),
        8 => drop(survives!(Settle, body)),
        _ => drop(survives!(Settled, body)),
    }
});
