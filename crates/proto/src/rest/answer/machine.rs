//! What answers say of machines that boot by permission.

use keyhearth_core::id::{KeyId, Name, PrincipalId, RequestId, TenantId};
use keyhearth_core::machine::Decision;
use keyhearth_core::principal::Fingerprint;
use keyhearth_core::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::body::ReferenceValue;
use super::super::spelling::{Bytes, Cursor, Is};

answers! {
    /// The secret of a volume's keyslot.
    VolumeSecret {
        /// The key that it is derived from.
        key: Is<KeyId>,
        /// The version of that key.
        version: u32,
        /// Which secret of the volume it is, counted from 1; 0 for the recovery secret.
        generation: u32,
        /// The secret, 32 bytes: the passphrase of the keyslot.
        secret: Bytes,
    }

    /// A machine that gets the secrets of its volumes at boot.
    Machine {
        /// Its id, which is that of its identity.
        id: Is<PrincipalId>,
        /// Its tenant.
        tenant: Is<TenantId>,
        /// Its name.
        name: Is<Name>,
        /// The key that the secrets of its volumes are derived from.
        key: Is<KeyId>,
        /// The version of that key.
        version: u32,
        /// Its volumes.
        volumes: Vec<Volume>,
        /// What its evidence must claim.
        reference: Vec<ReferenceValue>,
        /// Releases so far.
        boots: u64,
        /// Whether its volume keeps a token that shows copies and older states.
        keeps_token: bool,
        /// Until when no other copy of it is given anything.
        leased_until: Option<Is<Time>>,
        /// Whether it has shown the token since its last release.
        confirmed: bool,
        /// Its last release.
        released: Option<Boot>,
        /// Its last refusal.
        refused: Option<Boot>,
        /// When it was enrolled.
        created: Is<Time>,
        /// What it says of its next boot, and nobody has accepted or rejected.
        candidates: Vec<Candidate>,
        /// How many clones it makes, if it is a golden image.
        clones: Option<Clones>,
        /// The golden image that it is a clone of.
        image: Option<Is<PrincipalId>>,
        /// Whether it is a clone that has not said which header its volume will have: its disk is its image's still.
        unsettled: bool,
    }

    /// Clones of a golden image.
    Clones {
        /// How many identities it has given.
        made: u32,
        /// How many it may give in all.
        max: u32,
        /// Whether they make keyslots for their recovery secrets too.
        recovery: bool,
    }

    /// What a machine says that its next boot will be.
    Candidate {
        /// Its id: the request that brought it.
        id: Is<RequestId>,
        /// When it came.
        asked: Is<Time>,
        /// What its evidence will claim then.
        claims: Vec<ExpectedClaim>,
    }

    /// A claim that evidence will have.
    ExpectedClaim {
        /// The claim.
        claim: String,
        /// Its value then.
        value: String,
        /// Whether it has reference values, and this is none of them.
        differs: bool,
    }

    /// A volume of a machine.
    Volume {
        /// Its name.
        name: Is<Name>,
        /// Which secret opens it; 0 before there is one.
        generation: u32,
        /// The hash that its LUKS2 header must have.
        header: Option<Is<Fingerprint>>,
    }

    /// What became of a boot.
    Boot {
        /// When.
        time: Is<Time>,
        /// The request, as in the log.
        request_id: Is<RequestId>,
        /// A stable word: `released`, or the reason to refuse.
        code: String,
        /// One sentence.
        text: String,
    }

    /// A page of machines.
    Machines {
        /// The machines.
        machines: Vec<Machine>,
        /// Where the next page begins; `null` at the end.
        next: Option<Is<Cursor>>,
    }

    /// A boot that waits for an approval, or was decided.
    Approval {
        /// Its id: the request that asked for it.
        id: Is<RequestId>,
        /// The machine.
        machine: Is<PrincipalId>,
        /// Its name.
        name: Is<Name>,
        /// What the machine showed, one claim a line.
        summary: String,
        /// When it was asked for.
        asked: Is<Time>,
        /// When it ends.
        until: Is<Time>,
        /// What was decided.
        decision: Is<Decision>,
        /// By whom.
        by: Option<Is<PrincipalId>>,
    }

    /// A page of approvals.
    Approvals {
        /// The approvals.
        approvals: Vec<Approval>,
        /// Where the next page begins; `null` at the end.
        next: Option<Is<Cursor>>,
    }
}
