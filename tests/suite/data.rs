//! Numbers to test with: the same on every machine and in every run.

/// SplitMix64 (Steele, Lea and Flood 2014), apart from the library's own generator.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub fn normals(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.normal()).collect()
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

pub fn norm(v: &[f64]) -> f64 {
    v.iter().map(|v| v * v).sum::<f64>().sqrt()
}

pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// Collects what is wrong, so that one run shows all of it.
#[derive(Default)]
pub struct Complaints(Vec<String>);

impl Complaints {
    pub fn unless(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(message());
        }
    }

    /// |found - expected| must be at most `tolerance`.
    pub fn near(&mut self, found: f64, expected: f64, tolerance: f64, what: impl FnOnce() -> String) {
        let error = (found - expected).abs();
        self.unless(error <= tolerance, || {
            format!("{}: {found:e} should be {expected:e}; off by {error:e}, at most {tolerance:e}", what())
        });
    }

    /// The same for vectors, in Euclidean length.
    pub fn near_vector(&mut self, found: &[f64], expected: &[f64], tolerance: f64, what: impl FnOnce() -> String) {
        let error = distance(found, expected);
        self.unless(error <= tolerance, || {
            format!("{}: off by {error:e}, at most {tolerance:e}, of length {:e}", what(), norm(expected))
        });
    }

    /// Panics with the first few complaints.
    pub fn end(self) {
        const SHOWN: usize = 12;
        let n = self.0.len();
        assert!(n == 0, "{n} complaints:\n{}", self.0[..n.min(SHOWN)].join("\n"));
    }
}
