//! Firmware and images: whatever comes is measured or refused.
#![no_main]

use keyhearth_attest::measure::snp::{Guest, Kernel, VcpuType, Vmm, launch_digest};
use keyhearth_attest::measure::uki;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Firmware ends with what is read of it, and is whole pages.
    let mut firmware = vec![0; data.len().next_multiple_of(4096)];
    let start = firmware.len() - data.len();
    firmware[start..].copy_from_slice(data);
    let kernel = Kernel { kernel: b"", initrd: b"", command_line: "" };
    let guest = Guest {
        firmware: &firmware,
        kernel: Some(kernel),
        vcpus: 2,
        vcpu_type: VcpuType::Milan,
        guest_features: 1,
        vmm: Vmm::Qemu,
    };
    let _ = launch_digest(&guest);
    let _ = launch_digest(&Guest { kernel: None, vmm: Vmm::Ec2, ..guest });
    if let Ok(measured) = uki::measure(data, true) {
        serde_json::to_string(&measured).expect("it is JSON");
        assert!(measured.boot_applications.len() == 1 && measured.image_sections.contains_key("linux"));
    }
    let _ = uki::measure(data, false);
});
