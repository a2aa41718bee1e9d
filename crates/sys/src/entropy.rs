//! Bytes from the kernel's random number generator.

use std::io;

/// Fills `out` from the kernel. Blocks until the kernel's pool has been initialised, once per boot.
///
/// # Errors
/// The error of the system call; then `out` must not be used.
///
/// Source: getrandom(2).
pub fn fill(out: &mut [u8]) -> io::Result<()> {
    let mut rest = out;
    while !rest.is_empty() {
        // SAFETY: `rest` is valid for writes of `rest.len()` bytes.
        let written = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(written) {
            Ok(written) => rest = &mut rest[written..],
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn fills_every_byte() {
        // A byte that stays 0 in each of 32 draws has a chance of 2^-256.
        let mut seen = vec![0u8; 300];
        for _ in 0..32 {
            let mut draw = vec![0u8; 300];
            super::fill(&mut draw).unwrap();
            seen.iter_mut().zip(&draw).for_each(|(seen, byte)| *seen |= byte);
        }
        assert!(seen.iter().all(|&byte| byte != 0));
        super::fill(&mut []).unwrap();
    }
}
