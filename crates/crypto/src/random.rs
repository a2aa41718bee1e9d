//! Random bytes for keys, salts and nonces: the only place where this crate draws them.
//!
//! Two independent sources are mixed, so that one of them may fail, be weak or repeat after a virtual
//! machine was cloned. No state is kept between calls that a snapshot could repeat; only a short hash of each
//! source's last draw, to notice one that gives the same again.

use std::cell::Cell;

use aws_lc_rs::hmac;
use keyhearth_sys::entropy;
use zeroize::Zeroizing;

use crate::Error;
use crate::digest::sha256;

/// One draw from a source: 384 bits, the seed length of CTR_DRBG with AES-256.
const DRAW_BYTES: usize = 48;
const BLOCK_BYTES: usize = 32;

type Draw = Zeroizing<[u8; DRAW_BYTES]>;

/// Short hashes of the last draws: of the kernel, and of the library.
type Last = [Cell<[u8; 8]>; 2];

thread_local! {
    static LAST: Last = const { [Cell::new([0; 8]), Cell::new([0; 8])] };
}

/// Fills `out` with random bytes; `label` separates the purposes.
///
/// Block i is `HMAC-SHA256(kernel(48), library(48) ‖ label ‖ i)`, i counting from 0 in 32 bits.
/// Blocks until the kernel's pool is ready, once per boot.
///
/// # Errors
/// [`Error::Internal`] if a source fails or repeats itself. There is no fallback, and `out` was not written.
///
/// Source: SP 800-133r2 §6.3 (keys from several sources); HMAC: FIPS 198-1.
pub fn fill(label: &'static str, out: &mut [u8]) -> Result<(), Error> {
    Drawn::new()?.fill(label, out);
    Ok(())
}

/// One draw of each source, for an act that needs random bytes for several purposes: drawing is most of what
/// [`fill`] costs. Whoever sees the bytes of one purpose learns nothing about those of another.
pub struct Drawn {
    key: hmac::Key,
    data: Draw,
}

impl Drawn {
    /// Draws.
    ///
    /// # Errors
    /// As [`fill`].
    pub fn new() -> Result<Self, Error> {
        LAST.with(|last| Self::from(&kernel, &library, last))
    }

    /// As [`fill`]. The same `label` would give the same bytes: it is used once.
    pub fn fill(&self, label: &'static str, out: &mut [u8]) {
        for (counter, block) in (0u32..).zip(out.chunks_mut(BLOCK_BYTES)) {
            let mut context = hmac::Context::with_key(&self.key);
            context.update(&*self.data);
            context.update(label.as_bytes());
            context.update(&counter.to_be_bytes());
            block.copy_from_slice(&context.sign().as_ref()[..block.len()]);
        }
    }

    fn from(kernel: Source, library: Source, last: &Last) -> Result<Self, Error> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*draw(kernel, &last[0])?);
        Ok(Self { key, data: draw(library, &last[1])? })
    }
}

fn kernel(draw: &mut [u8]) -> Result<(), Error> {
    entropy::fill(draw).map_err(|_| Error::Internal("the kernel gives no randomness"))
}

fn library(draw: &mut [u8]) -> Result<(), Error> {
    aws_lc_rs::rand::fill(draw).map_err(|_| Error::Internal("the library gives no randomness"))
}

type Source<'a> = &'a dyn Fn(&mut [u8]) -> Result<(), Error>;

/// Draws, and sees that the source still moves.
///
/// A sound source fails this with a chance below 2^-63. It is no test of quality: it stops a source that
/// answers with a constant, or with the same bytes each time.
fn draw(source: Source, last: &Cell<[u8; 8]>) -> Result<Draw, Error> {
    let mut draw = Draw::new([0; DRAW_BYTES]);
    source(&mut *draw)?;
    let hash = sha256(&[&*draw]);
    let hash = *hash.first_chunk::<8>().expect("8 of 32 bytes");
    let (a, rest) = draw.split_at(16);
    let (b, c) = rest.split_at(16);
    if last.replace(hash) == hash || a == b || b == c {
        return Err(Error::Internal("a source of randomness is stuck"));
    }
    Ok(draw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuck_or_failing_source_makes_no_bytes() {
        let stuck: [Source; 4] = [
            &|_| Ok(()),
            &|draw| {
                draw.fill(0x5a);
                Ok(())
            },
            &|draw| {
                (0u8..).zip(draw).for_each(|(i, byte)| *byte = i);
                Ok(())
            },
            &|_| Err(Error::Internal("a source of randomness is stuck")),
        ];
        for source in stuck {
            for (first, second) in [(source, &library as Source), (&kernel as Source, source)] {
                let last = Last::default();
                // One that counts up looks well the first time.
                let _ = Drawn::from(first, second, &last);
                let error = Drawn::from(first, second, &last).err();
                assert_eq!(error, Some(Error::Internal("a source of randomness is stuck")));
            }
        }
    }

    #[test]
    fn each_source_the_label_and_the_counter_matter() {
        let counting = |start: u8| {
            let next = Cell::new(start);
            move |draw: &mut [u8]| {
                draw.fill_with(|| next.replace(next.get().wrapping_add(1)));
                Ok(())
            }
        };
        let output = |kernel: u8, library: u8, label| {
            let mut out = [0; 70];
            let drawn = Drawn::from(&counting(kernel), &counting(library), &Last::default());
            drawn.unwrap().fill(label, &mut out);
            out
        };
        let base = output(0, 0, "a");
        assert_eq!(base, output(0, 0, "a"));
        assert!(base != output(1, 0, "a") && base != output(0, 1, "a") && base != output(0, 0, "b"));
        assert!(base[..32] != base[32..64] && base[64..] != [0; 6]);
    }

    #[test]
    fn successive_fills_differ() {
        let (mut first, mut second) = ([0; 32], [0; 32]);
        fill("test", &mut first).unwrap();
        fill("test", &mut second).unwrap();
        assert_ne!(first, second);
    }
}
