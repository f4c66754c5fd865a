//! Trace and span ids: a generator per recorder, seeded by the system.

/// xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators"), seeded from the system's
/// entropy. Ids must be unique and evenly spread (W3C Trace Context level 2, random-trace-id flag), not secret.
pub struct IdGenerator {
    state: [u64; 4],
}

impl IdGenerator {
    /// A generator with a seed of its own.
    pub fn new() -> Self {
        let mut generator = Self { state: [0; 4] };
        generator.reseed();
        generator
    }

    /// Starts a new sequence: a fork child must not repeat its parent's ids.
    pub fn reseed(&mut self) {
        let mut seed = [0u8; 32];
        if getrandom::fill(&mut seed).is_err() {
            // No entropy source at all (a broken sandbox): time and process tell processes apart well enough.
            seed[..8].copy_from_slice(&crate::clock::now_ns().to_le_bytes());
            seed[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        }
        for (word, bytes) in self.state.iter_mut().zip(seed.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        if self.state == [0; 4] {
            self.state[0] = 1; // the one state that xoshiro never leaves
        }
    }

    /// A random non-zero 64-bit integer.
    pub fn span_id(&mut self) -> u64 {
        loop {
            let id = self.next();
            if id != 0 {
                return id;
            }
        }
    }

    /// A random non-zero 128-bit integer.
    pub fn trace_id(&mut self) -> u128 {
        loop {
            let id = u128::from(self.next()) << 64 | u128::from(self.next());
            if id != 0 {
                return id;
            }
        }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }
}

impl Default for IdGenerator {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn follows_the_published_sequence() {
        let mut generator = IdGenerator { state: [1, 2, 3, 4] };
        let got: Vec<u64> = (0..3).map(|_| generator.next()).collect();
        assert_eq!(got, [41943041, 58720359, 3588806011781223]);
    }

    #[test]
    fn generators_differ_and_do_not_repeat() {
        let (mut one, mut other) = (IdGenerator::new(), IdGenerator::new());
        let ids: HashSet<u64> = (0..10_000).flat_map(|_| [one.span_id(), other.span_id()]).collect();
        assert_eq!(ids.len(), 20_000);
        let before = one.trace_id();
        one.reseed();
        assert_ne!(before, one.trace_id());
    }
}
