//! Attestation reports from the driver of SEV-SNP guests, for kernels without configfs-tsm.
//!
//! What the bytes mean is not known here.
//!
//! Source: linux/sev-guest.h; AMD 56860 (SNP firmware ABI) §7.3, table of MSG_REPORT_RSP.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes of a report.
const REPORT_BYTES: usize = 1184;
/// Room for the host's table of certificates; those of clouds have less than 10 kB.
const CERTIFICATES_BYTES: usize = 64 << 10;
const MESSAGE_VERSION: u8 = 1;
/// `_IOWR('S', 2, struct snp_guest_request_ioctl)`: SNP_GET_EXT_REPORT.
const GET_EXTENDED_REPORT: libc::Ioctl =
    ((3 << 30) | (size_of::<Request>() << 16) | ((b'S' as usize) << 8) | 2) as libc::Ioctl;

/// `struct snp_guest_request_ioctl`
#[repr(C)]
struct Request {
    message_version: u8,
    question: u64,
    answer: u64,
    firmware_error: u64,
}

/// `struct snp_ext_report_req`
#[repr(C)]
struct Question {
    report_data: [u8; 64],
    vmpl: u32,
    reserved: [u8; 28],
    certificates: u64,
    certificates_len: u32,
}

/// `struct snp_report_resp`, whose data is MSG_REPORT_RSP.
#[repr(C)]
struct Answer {
    status: u32,
    report_bytes: u32,
    reserved: [u8; 24],
    report: [u8; REPORT_BYTES],
    rest: [u8; 4000 - 32 - REPORT_BYTES],
}

/// A report, and the host's table of certificates: empty if the host has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// 1,184 bytes, as the firmware signed them.
    pub report: Vec<u8>,
    /// The table with its certificates, as the host gave it.
    pub certificates: Vec<u8>,
}

/// Asks the firmware, through `/dev/sev-guest`, for a report that carries `report_data`, at privilege level 0.
///
/// # Errors
/// The error of the system call, or [`io::ErrorKind::InvalidData`] if the firmware refused.
pub fn report(device: &File, report_data: &[u8; 64]) -> io::Result<Report> {
    let mut certificates = vec![0_u8; CERTIFICATES_BYTES];
    let mut answer =
        Answer { status: 0, report_bytes: 0, reserved: [0; 24], report: [0; REPORT_BYTES], rest: [0; _] };
    let question = Question {
        report_data: *report_data,
        vmpl: 0,
        reserved: [0; 28],
        certificates: certificates.as_mut_ptr() as u64,
        certificates_len: u32::try_from(CERTIFICATES_BYTES).expect("64 KiB fit in 32 bits"),
    };
    let mut request = Request {
        message_version: MESSAGE_VERSION,
        question: (&raw const question) as u64,
        answer: (&raw mut answer) as u64,
        firmware_error: 0,
    };
    // SAFETY: the request names a question, and room for an answer and for certificates with its length; all of
    // them live until the call has returned, and the kernel writes to no more than that.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), GET_EXTENDED_REPORT, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if answer.status != 0 || usize::try_from(answer.report_bytes) != Ok(REPORT_BYTES) {
        let refused = format!("status {}, {} bytes", answer.status, answer.report_bytes);
        return Err(io::Error::new(io::ErrorKind::InvalidData, refused));
    }
    let used = certificates.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    certificates.truncate(used);
    Ok(Report { report: answer.report.to_vec(), certificates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_those_of_the_kernel() {
        assert_eq!((size_of::<Request>(), size_of::<Question>(), size_of::<Answer>()), (32, 112, 4000));
        assert_eq!(GET_EXTENDED_REPORT, 0xc020_5302);
    }

    #[test]
    fn a_file_that_is_no_device_is_an_error() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(report(&file, &[0; 64]).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
