//! What the process allows others to see of it, and how much it may hold.

use std::io;

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// Closes the usual ways to read this process's memory: core files, debuggers of the same user,
/// set-user-id programs started by it.
///
/// Call it first in `main`, before any secret exists. Not undone for the life of the process.
///
/// # Errors
/// The error of the system call that failed; the process must not go on to hold secrets.
///
/// Source: prctl(2), getrlimit(2).
pub fn harden() -> io::Result<()> {
    conceal()?;
    // SAFETY: the call takes integers only and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// As [`harden`], for a process that has to start a set-user-id program.
///
/// # Errors
/// As [`harden`].
pub fn conceal() -> io::Result<()> {
    // SAFETY: the call takes integers only and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid rlimit for the length of the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) })
}

/// Keeps everything this process has and will have in memory out of swap.
///
/// # Errors
/// The error of the system call: without privileges there is a limit, RLIMIT_MEMLOCK.
///
/// Source: mlockall(2).
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: the call takes one integer and touches no memory of ours.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) })
}

/// Raises the number of files this process may open to its hard limit, and returns that number.
///
/// # Errors
/// The error of the system call.
pub fn open_files_limit_raise() -> io::Result<u64> {
    limit_raise(libc::RLIMIT_NOFILE)
}

/// Raises the soft limit of `resource` to its hard limit, and returns it.
pub(crate) fn limit_raise(resource: Resource) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit for the length of the call.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit for the length of the call.
        check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
    }
    Ok(limit.rlim_cur)
}

pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(resource: Resource) -> libc::rlimit {
        let mut limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        // SAFETY: `limit` is a valid, writable rlimit for the length of the call.
        check(unsafe { libc::getrlimit(resource, &raw mut limit) }).unwrap();
        limit
    }

    #[test]
    fn hardened_process_is_not_dumpable() {
        harden().unwrap();
        // SAFETY: integers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
        // SAFETY: integers only.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) }, 1);
        assert_eq!((limits(libc::RLIMIT_CORE).rlim_cur, limits(libc::RLIMIT_CORE).rlim_max), (0, 0));
    }

    #[test]
    fn open_files_limit_reaches_the_hard_limit() {
        let raised = open_files_limit_raise().unwrap();
        let limit = limits(libc::RLIMIT_NOFILE);
        assert_eq!((limit.rlim_cur, limit.rlim_max), (raised, raised));
    }
}
