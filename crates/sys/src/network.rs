//! The network cards of this machine.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use crate::process::check;

#[expect(clippy::cast_possible_truncation, reason = "it is 1")]
const UP: libc::c_short = libc::IFF_UP as libc::c_short;

/// Takes every network interface down.
///
/// # Errors
/// Of the last system call that failed; all other interfaces are down.
///
/// Source: if_nameindex(3), netdevice(7).
pub(crate) fn down() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let mut outcome = Ok(());
    // SAFETY: the list is ours until it is given back below.
    let list = unsafe { libc::if_nameindex() };
    if list.is_null() {
        return Err(io::Error::last_os_error());
    }
    let mut at = list;
    // SAFETY: the list ends with an entry of index 0 that has no name; every other has one, ended by a zero.
    while let entry = unsafe { &*at }
        && entry.if_index != 0
    {
        // SAFETY: as above; the name lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.if_name) };
        outcome = set_flags(&socket, name, |flags| flags & !UP).and(outcome);
        // SAFETY: there is an entry after each that is not the last.
        at = unsafe { at.add(1) };
    }
    // SAFETY: it came from `if_nameindex`, and nothing points into it any more.
    unsafe { libc::if_freenameindex(list) };
    outcome
}

fn set_flags(
    socket: &UdpSocket,
    name: &CStr,
    change: impl Fn(libc::c_short) -> libc::c_short,
) -> io::Result<()> {
    // SAFETY: all zeros are a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays zero: no interface has a longer name.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.to_bytes()) {
        *to = *from as libc::c_char;
    }
    // SAFETY: `request` is a valid, writable ifreq whose name ends with a zero, for the length of the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) })?;
    // SAFETY: the call before has set this member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = change(flags);
    // SAFETY: as for the first call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::env;
    use std::process::Command;

    use super::*;

    #[test]
    fn every_interface_goes_down() {
        let mut alone = Command::new("unshare");
        alone.args(["--map-root-user", "--net"]).arg(env::current_exe().unwrap());
        alone.args(["--ignored", "--exact", "network::tests::in_a_network_of_its_own"]);
        let output = alone.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    }

    #[test]
    #[ignore = "takes the network down: the test above runs it where there is another one"]
    fn in_a_network_of_its_own() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let flags = || {
            let seen = Cell::new(0);
            set_flags(&socket, c"lo", |flags| seen.replace(flags) | flags).unwrap();
            seen.get()
        };
        // A new network has a loopback interface that is down, and no other.
        assert_eq!(flags() & UP, 0);
        set_flags(&socket, c"lo", |flags| flags | UP).unwrap();
        assert_eq!(flags() & UP, UP);
        down().unwrap();
        assert_eq!(flags() & UP, 0);
    }
}
