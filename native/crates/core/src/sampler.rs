//! The standard samplers of the trace SDK specification.

/// What a sampler that needs no Python looks at.
#[derive(Clone, Copy, Debug)]
pub enum Sampler {
    AlwaysOn,
    AlwaysOff,
    /// Samples trace ids whose lower 64 bits are below the bound (2⁶⁴ is every one).
    Ratio(u128),
}

impl Sampler {
    /// The ratio sampler; `ratio` from 0 to 1.
    pub fn ratio(ratio: f64) -> Self {
        // The nearest integer, ties to even, of a float that 2⁶⁴ times any ratio is exactly: as Python's round().
        Self::Ratio((ratio.clamp(0.0, 1.0) * 2f64.powi(64)).round_ties_even() as u128)
    }

    /// Whether a span of the trace is recorded and sampled.
    pub fn samples(&self, trace_id: u128) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            Self::Ratio(bound) => (trace_id & u128::from(u64::MAX)) < *bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_share_of_the_lower_half() {
        let half = Sampler::ratio(0.5);
        assert!(half.samples(1) && half.samples(u128::MAX << 64 | 1));
        assert!(!half.samples(1 << 63));
        assert!(Sampler::ratio(1.0).samples(u128::MAX));
        assert!(!Sampler::ratio(0.0).samples(0));
    }
}
