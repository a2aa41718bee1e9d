//! Commands to a real software TPM.

use super::testing::Swtpm;
use super::*;

#[test]
fn the_attestation_key_is_the_same_at_every_boot_and_another_in_another_tpm() {
    let mut swtpm = Swtpm::start();
    let mut tpm = swtpm.connect();
    let first = tpm.create_ak().unwrap();
    tpm.flush(&first).unwrap();
    assert!(matches!(tpm.flush(&first), Err(Error::Refused(code::FLUSH_CONTEXT, _))));
    let resets = tpm.reset_count().unwrap();
    drop(tpm);
    swtpm.restart();
    let mut tpm = swtpm.connect();
    let second = tpm.create_ak().unwrap();
    assert_eq!(second.public, first.public);
    assert_eq!(second.spki().unwrap().len(), 91);
    assert!(tpm.reset_count().unwrap() > resets);
    let read = tpm.read_ak(second.handle).unwrap();
    assert_eq!(read.public, second.public);
    let other = Swtpm::start().connect().create_ak().unwrap();
    assert_ne!(other.public, first.public);
}

#[test]
fn extending_changes_what_is_quoted() {
    let swtpm = Swtpm::start();
    let mut tpm = swtpm.connect();
    let ak = tpm.create_ak().unwrap();
    let before = tpm.quote(&ak, &[7; 32]).unwrap();
    assert_eq!(before.pcrs.keys().copied().collect::<Vec<_>>(), PCRS_QUOTED.collect::<Vec<_>>());
    assert_eq!(before.pcrs[&PCR_RELEASED], [0; 32]);
    tpm.extend(PCR_RELEASED, &sha256(&[RELEASED])).unwrap();
    let after = tpm.quote(&ak, &[7; 32]).unwrap();
    assert_eq!(after.pcrs[&PCR_RELEASED], sha256(&[&[0; 32], &sha256(&[RELEASED])]));
    assert_ne!(after.quoted, before.quoted);
}

#[test]
fn an_absent_index_is_nothing_and_a_long_one_is_read_in_pieces() {
    let swtpm = Swtpm::start();
    let mut tpm = swtpm.connect();
    let index = 0x0140_0001;
    assert_eq!(tpm.nv_read(index).unwrap(), None);
    let content: Vec<u8> = (0..=u8::MAX).cycle().take(1300).collect();
    // NV_DefineSpace and NV_Write: an ordinary index that its owner writes and reads.
    let attributes: u32 = 1 << 1 | 1 << 17;
    let public =
        [&index.to_be_bytes()[..], &[0, 0x0b], &attributes.to_be_bytes(), &[0, 0], &1300_u16.to_be_bytes()];
    tpm.run(&wire::Command::new(0x12a).handle(RH_OWNER).password().sized(&[]).sized(&public.concat()))
        .unwrap();
    for (number, chunk) in (0..).zip(content.chunks(500)) {
        let write = wire::Command::new(0x137)
            .handle(RH_OWNER)
            .handle(index)
            .password()
            .sized(chunk)
            .u16(number * 500);
        tpm.run(&write).unwrap();
    }
    assert_eq!(tpm.nv_read(index).unwrap().unwrap(), content);
}

#[test]
fn what_is_no_tpm_is_an_error() {
    assert!(matches!(Tpm::open(&["/nonexistent/tpm".into()]), Err(Error::Absent)));
    let mut tpm = Tpm::open(&["/dev/null".into()]).unwrap();
    assert!(matches!(tpm.create_ak(), Err(Error::Io(_))));
    let mut tpm = Tpm::open(&["/dev/zero".into()]).unwrap();
    assert!(matches!(tpm.create_ak(), Err(Error::Malformed(code::CREATE_PRIMARY))));
}
