//! Endorsements that are to be kept, and evidence that lacks them: whatever comes, each is told for what it is or refused,
//! reads the same from the file that it would be kept in, and belongs to what it was asked for.
//!
//! The input is a list of files, each after its length in two bytes: evidence, a root to believe, endorsements.
#![no_main]

use keyhearth_attest::{Endorsements, Library, Need, Reason, Roots, needs};
use keyhearth_fuzz::files;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut files = files(data);
    let Some(evidence) = files.next() else { return };
    let roots = match files.next().map(|root| Roots::built_in().with("fuzz", root)) {
        Some(Ok(roots)) => roots,
        Some(Err(_)) | None => Roots::built_in(),
    };
    let mut endorsements = Endorsements::default();
    files.for_each(|file| drop(endorsements.add(file)));
    let issuers = endorsements.issuers();
    let mut library = Library::default();
    for one in endorsements.each() {
        let Ok(inspected) = one.inspect(&issuers, &roots) else { continue };
        let name = inspected.file_name();
        assert!(
            name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c)),
            "{name}"
        );
        assert!(!name.starts_with('.') && name.len() < 200, "{name}");
        let mut kept = Endorsements::default();
        kept.add(&one.bytes()).expect("what is kept can be read");
        let again = kept.each().next().expect("there is one").inspect(&issuers, &roots);
        assert_eq!(again.map(|again| again.subject), Ok(inspected.subject.clone()));
        let successor = Need::of_successor(&inspected.subject);
        assert!(successor.is_none_or(|need| need.is_met_by(&inspected.subject)));
        library.add(one, Some(&inspected.subject)).expect("there are few");
    }
    let _ = library.fitting(evidence);
    for reason in
        [Reason::SnpCertificateMissing, Reason::IssuerMissing, Reason::ListMissing, Reason::TdxTcbInfoStale]
    {
        assert!(needs(evidence, reason, &roots).len() <= 4);
    }
});
