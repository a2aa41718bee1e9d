//! Manifests of folders: whatever lies there, it is a manifest in its one form or refused; joined with any other it knows what
//! both know, in either order.
#![no_main]

use keyhearth_files::manifest::{Manifest, Signed};
use keyhearth_files::names::NameKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(signed) = Signed::read(data) {
        assert_eq!(signed.to_text().as_bytes(), data);
        assert!(signed.by.of(&signed.manifest).ends_with('\n'));
    }
    // What lies in a folder whose names are encrypted.
    let text = String::from_utf8_lossy(data);
    let names = NameKey::new(&[7; 32]).expect("it is long enough");
    if let Ok(path) = names.decrypt(&text) {
        assert_eq!(names.encrypt(&path).ok().as_deref(), Some(&*text));
    }
    if let Ok(encrypted) = names.encrypt(&text) {
        assert_eq!(names.decrypt(&encrypted).ok().as_deref(), Some(&*text));
    }
    // Two manifests, one after the other.
    let Some((at, _)) = text.match_indices("keyhearth/manifest1").nth(1) else { return };
    let (first, second) = (Manifest::read(text[..at].as_bytes()), Manifest::read(text[at..].as_bytes()));
    let (Ok(first), Ok(second)) = (first, second) else { return };
    let joined = first.clone().join(second.clone());
    assert_eq!(joined.behind(&first).count(), 0);
    assert_eq!(Manifest::read(joined.to_text().as_bytes()).as_ref(), Ok(&joined));
    if first.folder == second.folder {
        assert_eq!(joined, second.clone().join(first));
        assert_eq!(joined.behind(&second).count(), 0);
    }
});
