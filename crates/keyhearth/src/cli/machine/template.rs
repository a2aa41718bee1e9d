//! Policies for machines, from templates: ordinary Cedar text, to be read and edited.

use clap::ValueEnum;
use keyhearth_proto::rest::answer::Machine;

/// How much is asked of a machine before it gets the secrets of its volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Nothing but that it says who it is: for tests, and where the network is trusted.
    AnyVm,
    /// A measured boot of a known image; the host is trusted.
    MeasuredBoot,
    /// Memory that hardware encrypts, and a known image.
    ConfidentialOnly,
    /// The same, and somebody's approval of every boot; not of what continues it.
    #[value(name = "confidential+approval")]
    ConfidentialApproval,
}

impl Template {
    /// The policy for a machine.
    pub fn policy(self, machine: &Machine) -> String {
        let (description, condition) = match self {
            Self::AnyVm => ("whoever says that it is this machine: nothing is proved", None),
            Self::MeasuredBoot => (
                "evidence of a TPM or of hardware, of an image whose reference values are known",
                Some("context.boot.kind != \"none\" && context.boot.image_known"),
            ),
            Self::ConfidentialOnly => (
                "proof that hardware encrypts its memory and is not known to be weakened, and a known image",
                Some(CONFIDENTIAL),
            ),
            Self::ConfidentialApproval => (
                "proof that hardware encrypts its memory and is not known to be weakened, a known image, and an approval",
                Some(CONFIDENTIAL_APPROVED),
            ),
        };
        if machine.clones.is_some() {
            return of_image(machine, description, condition);
        }
        let when = condition.map_or_else(String::new, |condition| format!(" when {{\n  {condition}\n}}"));
        format!(
            "@description(\"{description}\")\npermit (\n  principal == Keyhearth::Principal::\"{}\",\n  action == \
             Keyhearth::Action::\"release-volumes\",\n  resource == Keyhearth::Key::\"{}\"\n){when};\n",
            machine.id, machine.key
        )
    }
}

/// The policy for a golden image and its clones: the same is asked of who becomes one, and of each of them at every boot.
fn of_image(machine: &Machine, description: &str, condition: Option<&str>) -> String {
    let (image, key) = (&machine.id, &machine.key);
    let when = condition.map_or_else(String::new, |condition| format!(" when {{\n  {condition}\n}}"));
    let and = condition.map_or_else(String::new, |condition| format!(" &&\n  ({condition})"));
    format!(
        "@description(\"to become a clone: {description}\")\npermit (\n  principal == Keyhearth::Principal::\"{image}\",\n  \
         action == Keyhearth::Action::\"clone-image\",\n  resource == Keyhearth::Key::\"{key}\"\n){when};\n\
         @description(\"of each clone: {description}\")\npermit (\n  principal,\n  action == \
         Keyhearth::Action::\"release-volumes\",\n  resource == Keyhearth::Key::\"{key}\"\n) when {{\n  \
         context.boot.image == \"{image}\"{and}\n}};\n"
    )
}

const CONFIDENTIAL: &str =
    "context.boot.memory_encrypted &&\n  !context.boot.reduced_assurance &&\n  context.boot.image_known";
const CONFIDENTIAL_APPROVED: &str = "context.boot.memory_encrypted &&\n  !context.boot.reduced_assurance &&\n  \
     context.boot.image_known &&\n  (context.boot.approved || context.boot.continues)";

/// What the `@description` annotations of a policy say.
pub fn descriptions(text: &str) -> Vec<String> {
    let after = text.split("@description(\"").skip(1);
    after.filter_map(|rest| Some(rest.split_once("\")")?.0.to_owned())).collect()
}
