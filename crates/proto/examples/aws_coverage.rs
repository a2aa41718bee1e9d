//! Prints the table of the AWS KMS API: as JSON for comparison with AWS's own model, with `--markdown` as it stands
//! in `docs/protocols/aws-kms.md`.

use keyhearth_proto::aws::{coverage, markdown};

fn main() -> Result<(), serde_json::Error> {
    if std::env::args().any(|argument| argument == "--markdown") {
        print!("{}", markdown());
        return Ok(());
    }
    serde_json::to_writer_pretty(std::io::stdout().lock(), &coverage().collect::<Vec<_>>())
}
