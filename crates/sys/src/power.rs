//! How a machine ends.

use std::io;

/// What happens to a machine that must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The processors stop; the console keeps what it shows.
    Halt,
    /// The power goes off.
    PowerOff,
    /// It starts anew.
    Reboot,
}

/// Ends the machine now: nothing is asked, stopped or written first. Comes back only if the kernel refuses.
///
/// Source: reboot(2).
#[must_use]
pub fn end(how: End) -> io::Error {
    let command = match how {
        End::Halt => libc::RB_HALT_SYSTEM,
        End::PowerOff => libc::RB_POWER_OFF,
        End::Reboot => libc::RB_AUTOBOOT,
    };
    // SAFETY: the call takes one integer and touches no memory of ours.
    unsafe { libc::reboot(command) };
    io::Error::last_os_error()
}
