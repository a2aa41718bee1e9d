//! The AWS KMS front: one signed request from its bytes to the engine and back. It adds no authority of its own.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::id::RequestId;
use keyhearth_core::principal::Caller;
use keyhearth_core::request::{Ask, Request as Asked, Response as Answer};

use crate::engine::Engine;

/// Where this deployment is in AWS's terms: all tenants share one account number and one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Twelve digits.
    pub account: String,
    /// Such as `us-east-1`.
    pub region: String,
}

/// One call of a caller who has proved who it is. Every operation is a method of it.
pub struct Exchange<'a> {
    /// What carries the call out.
    pub engine: &'a Arc<Engine>,
    /// Who calls.
    pub caller: &'a Arc<Caller>,
    /// What ARNs in the answer say.
    pub place: &'a Place,
    /// The call's id, in the log and in the answer.
    pub id: RequestId,
}

impl Exchange<'_> {
    /// Asks the engine. A call that asks twice does so under one id.
    ///
    /// # Errors
    /// As [`Engine::execute`].
    pub async fn ask(&self, ask: Ask) -> Result<Answer, Error> {
        self.run(ask, false).await
    }

    /// Asks the engine, or, in a dry run, only whether it would do it: then the answer is
    /// [`Answer::WouldSucceed`], and a refusal is the refusal that the call itself would get.
    ///
    /// # Errors
    /// As [`Engine::execute`].
    pub async fn run(&self, ask: Ask, dry_run: bool) -> Result<Answer, Error> {
        let asked = Asked { id: self.id, ask, reason: None, idempotency: None, dry_run };
        self.engine.execute(self.caller, Arc::new(asked)).await
    }
}
