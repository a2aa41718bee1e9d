//! What is predicted of machines: launch digests as another implementation has them, PCRs as they are computed here once
//! more, and every kind of file that is refused.

mod packages;

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use keyhearth_attest::Bytes;
use keyhearth_attest::measure::MeasureError;
use keyhearth_attest::measure::snp::{Guest, Kernel, VCPUS_MAX, VcpuType, Vmm, launch_digest};
use keyhearth_attest::measure::uki::{self, Measured};
use keyhearth_crypto::digest::sha256;
use keyhearth_machines::images::{kernel, magic, ovmf, pe, signed};
use proptest::prelude::*;

/// The folder of the crate `sev`, as cargo unpacked it. Its tests hold the last page of two firmwares.
static SEV: LazyLock<PathBuf> = LazyLock::new(|| packages::folder("sev").join("tests/measurement"));

fn guest<'a>(firmware: &'a [u8], kernel: Option<Kernel<'a>>) -> Guest<'a> {
    let (vcpus, vcpu_type) = (1, VcpuType::named("EPYC-v4").expect("it is known"));
    Guest { firmware, kernel, vcpus, vcpu_type, guest_features: 1, vmm: Vmm::Qemu }
}

const NOTHING: Kernel<'static> = Kernel { kernel: b"", initrd: b"", command_line: "" };

/// The digests that the tests of the crate `sev` expect.
#[test]
fn launch_digests_are_those_of_another_implementation() {
    let amd_sev = fs::read(SEV.join("ovmf_AmdSev_suffix.bin")).expect("the package holds it");
    let x64 = fs::read(SEV.join("ovmf_OvmfX64_suffix.bin")).expect("the package holds it");
    let line = Kernel { command_line: "console=ttyS0 loglevel=7", ..NOTHING };
    let direct = guest(&amd_sev, Some(NOTHING));
    for (guest, expected) in [
        (
            direct,
            "ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5",
        ),
        (
            Guest { guest_features: 0x21, ..direct },
            "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198",
        ),
        (
            guest(&amd_sev, Some(line)),
            "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa",
        ),
        (
            Guest { guest_features: 0x21, ..guest(&amd_sev, Some(line)) },
            "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977",
        ),
        (
            Guest { vmm: Vmm::Ec2, ..direct },
            "7d3756157c805bf6adf617064c8552e8c1688fa1c8756f11cbf56ba5d25c9270fb69c0505c1cbe1c5c66c0e34c6ed3be",
        ),
        (
            Guest { vmm: Vmm::Ec2, guest_features: 0x21, ..direct },
            "6ae80856486b1396af8c82a40351d6ed76a20c785e9c7fa4ffa27c22d5d6313b4b3b458cd3c9968e6f89fb5d8450d7a6",
        ),
        (
            guest(&amd_sev, None),
            "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d",
        ),
        (
            Guest { vcpus: 4, ..direct },
            "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5",
        ),
        (
            guest(&x64, None),
            "da0296de8193586a5512078dcd719eccecbd87e2b825ad4148c44f665dc87df21e5b49e21523a9ad993afdb6a30b4005",
        ),
    ] {
        let digest = launch_digest(&guest).expect("it is sound");
        assert_eq!(Bytes(digest.to_vec()).to_string(), expected);
    }
    assert_eq!(launch_digest(&guest(&x64, Some(NOTHING))), Err(MeasureError::NoKernelHashes));
}

/// Each thing that a host may change changes the digest.
#[test]
fn every_part_of_a_guest_is_measured() {
    let firmware =
        ovmf(&[(0x1000, 4096, 1), (0x2000, 4096, 2), (0x3000, 4096, 3), (0x4000, 4096, 0x10)], Some(0x4c00));
    let mut other = firmware.clone();
    other[0] = 1;
    let sound = guest(&firmware, Some(NOTHING));
    let kernel = |kernel| guest(&firmware, Some(kernel));
    let guests = [
        sound,
        guest(&firmware, None),
        guest(&other, Some(NOTHING)),
        kernel(Kernel { kernel: b"k", ..NOTHING }),
        kernel(Kernel { initrd: b"i", ..NOTHING }),
        kernel(Kernel { command_line: "c", ..NOTHING }),
        Guest { vcpus: 2, ..sound },
        Guest { guest_features: 0x21, ..sound },
        Guest { vmm: Vmm::Ec2, ..sound },
        Guest { vcpu_type: VcpuType::Rome, ..sound },
        Guest { vcpu_type: VcpuType::Milan, ..sound },
        Guest { vcpu_type: VcpuType::Genoa, ..sound },
        Guest { vcpu_type: VcpuType::Turin, ..sound },
    ];
    let digests: Vec<_> = guests.iter().map(|guest| launch_digest(guest).expect("it is sound")).collect();
    for (index, digest) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(digest), "guest {index} is measured as one before");
    }
    assert_eq!(VcpuType::named("EPYC-Milan-v2"), Some(VcpuType::Milan));
    assert_eq!(VcpuType::named("EPYC-IBPB"), Some(VcpuType::Naples));
    for unknown in ["", "epyc", "EPYC-", "EPYC-v", "EPYC-v123", "EPYC-Milan-x", "qemu64"] {
        assert_eq!(VcpuType::named(unknown), None, "{unknown}");
    }
}

#[test]
fn firmware_of_another_form_is_refused() {
    let sound = ovmf(&[(0x1000, 4096, 1)], None);
    assert!(launch_digest(&guest(&sound, None)).is_ok());
    let hashes = |sections: &[(u32, u32, u32)], address| ovmf(sections, Some(address));
    // Its list says that it has more sections than fit behind it.
    let mut endless = sound.clone();
    endless[2048 + 13] = 0xff;
    let one = (0x4000, 4096, 0x10);
    for (firmware, kernel) in [
        (Vec::new(), None),
        (sound[1..].to_vec(), None),
        (vec![0; 4096], None),
        // Neither length nor address is a whole number of pages; a kind that is not known; more than there may be.
        (ovmf(&[(0x1000, 4095, 1)], None), None),
        (ovmf(&[(0x1001, 4096, 1)], None), None),
        (ovmf(&[(0x1000, 4096, 5)], None), None),
        (ovmf(&[(0, 0xffff_f000, 1)], None), None),
        (endless, None),
        // The table of hashes lies outside of its page, or there are two pages.
        (hashes(&[one], 0x3fff), Some(NOTHING)),
        (hashes(&[one], 0x4fa0), Some(NOTHING)),
        (hashes(&[(0x4000, 8192, 0x10)], 0x4000), Some(NOTHING)),
        (hashes(&[one, one], 0x4000), Some(NOTHING)),
    ] {
        let refused = launch_digest(&guest(&firmware, kernel));
        assert!(matches!(refused, Err(MeasureError::Firmware(_))), "{refused:?}");
    }
    for (firmware, kernel) in
        [(sound.clone(), NOTHING), (hashes(&[one], 0), NOTHING), (ovmf(&[one], None), NOTHING)]
    {
        assert_eq!(launch_digest(&guest(&firmware, Some(kernel))), Err(MeasureError::NoKernelHashes));
    }
    for vcpus in [0, VCPUS_MAX + 1] {
        let refused = launch_digest(&Guest { vcpus, ..guest(&sound, None) });
        assert_eq!(refused, Err(MeasureError::Vcpus));
    }
}

/// A unified kernel image of this stub, with more sections behind the usual ones.
fn image(stub: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let (magic, kernel) = (magic(stub), kernel("6.1.0-56-amd64"));
    let usual: [(&str, &[u8]); 6] = [
        (".text", b"a stub"),
        (".sdmagic", magic.as_bytes()),
        (".sbat", b"sbat,1"),
        // Their order in the file does not matter.
        (".initrd", b"ramdisk"),
        (".cmdline", b"ro quiet"),
        (".linux", &kernel),
    ];
    pe(true, &[&usual[..], more].concat())
}

fn measured(image: &[u8]) -> Measured {
    uki::measure(image, false).expect("it is sound")
}

fn folded(measured: &[&[u8]]) -> Bytes {
    let digests = measured.iter().map(|bytes| sha256(&[bytes]));
    Bytes(digests.fold([0; 32], |pcr, digest| sha256(&[&pcr, &digest])).to_vec())
}

/// An image but for the checksum and the directory of signatures.
fn hashed(image: &[u8]) -> Vec<u8> {
    let (checksum, directory) = (0x98 + 64, 0x98 + 112 + 32);
    [&image[..checksum], &image[checksum + 4..directory], &image[directory + 8..]].concat()
}

#[test]
fn registers_of_an_image_are_what_stub_and_kernel_measure() {
    let image = image("252.39-1", &[(".osrel", b"ID=any"), (".splash", b"")]);
    let told = measured(&image);
    let kernel = kernel("6.1.0-56-amd64");
    let parts: [&[u8]; 10] = [
        b".linux\0",
        &kernel,
        b".osrel\0",
        b"ID=any",
        b".cmdline\0",
        b"ro quiet",
        b".initrd\0",
        b"ramdisk",
        b".splash\0",
        b"",
    ];
    assert_eq!((told.stub, &told.pcr11), (252, &folded(&parts)));
    assert_eq!(told.pcr11_enter_initrd, folded(&[&parts[..], &[b"enter-initrd"]].concat()));
    let line = b"r\0o\0 \0q\0u\0i\0e\0t\0\0\0";
    assert_eq!(told.pcr9, Some(folded(&[line, b"ramdisk"])));
    let calling: [&[u8]; 2] = [b"Calling EFI Application from Boot Option", &[0; 4]];
    let applications = [hashed(&image), hashed(&kernel)];
    assert_eq!(told.pcr4, folded(&[calling[0], calling[1], &applications[0], &applications[1]]));
    assert_eq!(told.boot_applications, applications.each_ref().map(|bytes| Bytes(sha256(&[bytes]).to_vec())));
    let sections: Vec<_> = told.image_sections.keys().copied().collect();
    assert_eq!(sections, ["cmdline", "initrd", "linux", "osrel", "splash"]);
    assert_eq!(told.image_sections["osrel"], Bytes(sha256(&[b"ID=any"]).to_vec()));

    let secure = uki::measure(&image, true).expect("it is sound");
    assert_eq!(secure.pcr4, folded(&[calling[0], calling[1], &applications[0]]));
    assert_eq!((secure.pcr9, secure.pcr11), (told.pcr9, told.pcr11));
}

#[test]
fn a_signature_is_not_measured() {
    for plus in [true, false] {
        let magic = magic("257.1");
        let kernel = kernel("6.12.1");
        let image = pe(plus, &[(".sdmagic", magic.as_bytes()), (".linux", &kernel)]);
        let mut checked = signed(image.clone(), plus);
        checked[0x98 + 64] ^= 1;
        assert_eq!(measured(&image), measured(&checked));
        let mut other = image;
        *other.last_mut().expect("it is not empty") ^= 1;
        assert_ne!(measured(&other).pcr4, measured(&checked).pcr4);
    }
}

#[test]
fn stubs_differ_in_what_they_measure() {
    let more: [(&str, &[u8]); 2] = [(".uname", b"6.1"), (".ucode", b"u")];
    let sections = |stub| measured(&image(stub, &more)).image_sections.into_keys().collect::<Vec<_>>();
    assert_eq!(sections("253.1"), ["cmdline", "initrd", "linux"]);
    assert_eq!(sections("254.1"), ["cmdline", "initrd", "linux", "sbat", "uname"]);
    assert_eq!(sections("256~rc1"), ["cmdline", "initrd", "linux", "sbat", "ucode", "uname"]);
    let loaded = |stub| measured(&image(stub, &[])).boot_applications.len();
    assert_eq!(["252", "257.13", "258", "300"].map(loaded), [2, 2, 1, 1]);
    assert!(measured(&image("254", &[])).pcr9.is_some() && measured(&image("255", &[])).pcr9.is_none());
}

#[test]
fn what_is_not_known_of_pcr_9_is_left_out() {
    assert_eq!(
        measured(&image("252", &[(".pcrsig", b"{}")])).pcr9,
        None,
        "the stub gives the kernel a file more"
    );
    let with = |version, line: &'static [u8], initrd: &'static [u8]| {
        let (magic, kernel) = (magic("252"), kernel(version));
        let sections: [(&str, &[u8]); 4] =
            [(".sdmagic", magic.as_bytes()), (".linux", &kernel), (".cmdline", line), (".initrd", initrd)];
        measured(&pe(true, &sections)).pcr9
    };
    assert!(with("6.1.0", b"ro", b"ramdisk").is_some());
    assert!(with("10.0", b"ro", b"ramdisk").is_some());
    assert_eq!(with("5.19.0", b"ro", b"ramdisk"), None);
    assert_eq!(with("next", b"ro", b"ramdisk"), None);
    assert_eq!(with("6.1.0", b"ro\n", b"ramdisk"), None);
    assert_eq!(with("6.1.0", b" ro", b"ramdisk"), None);
    assert_eq!(with("6.1.0", "ro=\u{e9}".as_bytes(), b"ramdisk"), None);
    assert_eq!(with("6.1.0", b"ro", b""), None);
}

#[test]
fn images_of_another_form_are_refused() {
    let uki = |stub, more: &[(&str, &[u8])]| uki::measure(&image(stub, more), false);
    for refused in [
        uki("251.9", &[]),
        uki("next", &[]),
        uki("252", &[(".linux", b"another")]),
        uki("257", &[(".profile", b"ID=a")]),
        uki("257", &[(".dtbauto", b"")]),
        uki::measure(&kernel("6.1.0"), false),
        uki::measure(&pe(true, &[(".sdmagic", magic("252").as_bytes())]), false),
    ] {
        assert!(matches!(refused, Err(MeasureError::Uki(_))), "{refused:?}");
    }
    let sound = image("252", &[]);
    let altered = |at: usize, bytes: &[u8]| {
        let mut image = sound.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    };
    let section = 0x98 + 112 + 16 * 8;
    for image in [
        Vec::new(),
        sound[..0x90].to_vec(),
        sound[..sound.len() - 1].to_vec(),
        altered(0, b"ZM"),
        altered(0x3c, &[0xff; 4]),
        altered(0x80, b"NE"),
        altered(0x98, &[0x0c]),
        // Headers that end before they do, or beyond the file; sections that do not lie in it, or are too many.
        altered(0x98 + 60, &[0; 4]),
        altered(0x98 + 60, &[0xff; 4]),
        altered(section + 16, &[0xff; 4]),
        altered(section + 20, &[0xff; 4]),
        altered(0x86, &[97, 0]),
        altered(0x86, &[0xff; 2]),
        // Signatures that are longer than what follows the sections.
        altered(0x98 + 112 + 36, &[0xff, 0xff, 0, 0]),
        // The stub has the firmware load what is no program.
        pe(true, &[(".sdmagic", magic("252").as_bytes()), (".linux", b"no kernel")]),
    ] {
        let refused = uki::measure(&image, false);
        assert!(matches!(refused, Err(MeasureError::Image(_))), "{refused:?}");
    }
    // Sections are longer in memory than in the file only if zeroes follow.
    let kernel_header = section + 40 * 5;
    let refused = uki::measure(&altered(kernel_header + 8, &[0xff; 4]), false);
    assert!(matches!(refused, Err(MeasureError::Uki(_))), "{refused:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_measured_or_refused(
        at in any::<proptest::sample::Index>(), bytes in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let alter = |mut image: Vec<u8>| {
            let at = at.index(image.len());
            image.iter_mut().skip(at).zip(&bytes).for_each(|(old, new)| *old = *new);
            image
        };
        let _ = uki::measure(&bytes, false);
        let _ = uki::measure(&alter(image("257", &[]))[..], false);
        let _ = uki::measure(&alter(image("257", &[]))[..1024], true);
        let firmware = alter(ovmf(&[(0x1000, 4096, 2), (0x4000, 4096, 0x10)], Some(0x4c00)));
        let _ = launch_digest(&guest(&firmware, Some(NOTHING)));
        let _ = launch_digest(&guest(&firmware[2048..], None));
    }
}
