//! How a machine ends.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::network;

/// How long the end waits for the network to be down: a driver, or whoever runs the machine, may let it hang.
const NETWORK_WAIT: Duration = Duration::from_secs(2);

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

/// Ends the machine now: no program is asked or stopped, nothing is written first. Comes back only if the kernel
/// refuses.
///
/// Only the network is taken down, within two seconds. A kernel that shuts down a virtio network card while packets
/// come in may otherwise spin for ever, neither on nor off, as Linux 6.1 was seen to.
///
/// Source: reboot(2).
#[must_use]
pub fn end(how: End) -> io::Error {
    let command = match how {
        End::Halt => libc::RB_HALT_SYSTEM,
        End::PowerOff => libc::RB_POWER_OFF,
        End::Reboot => libc::RB_AUTOBOOT,
    };
    let (down, wait) = mpsc::channel();
    thread::spawn(move || down.send(network::down()));
    // The machine ends whether the network is down or not.
    let _ = wait.recv_timeout(NETWORK_WAIT);
    // SAFETY: the call takes one integer and touches no memory of ours.
    unsafe { libc::reboot(command) };
    io::Error::last_os_error()
}
