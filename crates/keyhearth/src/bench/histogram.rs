//! Counts of durations, precise to three percent, in fixed memory.

/// Each power of two is cut into this many equal buckets (as a power of two itself).
const PART_BITS: u32 = 5;
const PARTS: usize = 1 << PART_BITS;

/// How often each duration occurred. Any unit.
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; bucket(usize::MAX) + 1], count: 0 }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: usize) {
        self.buckets[bucket(value)] += 1;
        self.count += 1;
    }

    /// Counts all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The least bucket bound that `share` (0 to 1) of all values are below; 0 without values.
    pub fn quantile(&self, share: f64) -> usize {
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count;
            if below > 0 && below as f64 >= share * self.count as f64 {
                return lower_bound(bucket + 1);
            }
        }
        0
    }
}

/// Values below [`PARTS`] have a bucket each; above, the leading bits of a value are its bucket.
fn bucket(value: usize) -> usize {
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(PART_BITS) as usize;
    shift * PARTS + (value >> shift)
}

/// The least value of `bucket`.
fn lower_bound(bucket: usize) -> usize {
    let shift = (bucket / PARTS).saturating_sub(1);
    (bucket - shift * PARTS).saturating_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        for value in (0..62).flat_map(|power| [1usize << power, (1 << power) + 1, (1 << power) * 3 / 2]) {
            let (low, high) = (lower_bound(bucket(value)), lower_bound(bucket(value) + 1));
            assert!(low <= value, "{value}: {low}");
            assert!(value < high && high - low <= 1 + value / 32, "{value}: {low}..{high}");
        }
        assert_eq!(bucket(usize::MAX) + 1, Histogram::default().buckets.len());
    }

    #[test]
    fn quantiles_split_the_values() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        assert!((500_000..=516_000).contains(&histogram.quantile(0.5)), "{}", histogram.quantile(0.5));
        assert!((990_000..=1_021_000).contains(&histogram.quantile(0.99)));
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
