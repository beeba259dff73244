//! Figures over repeated runs.

/// Latencies of repeated runs, in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// Number of runs.
    pub runs: usize,
    /// Fastest.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// Nine of ten runs are not slower.
    pub p90: u64,
    /// 99 of 100 runs are not slower.
    pub p99: u64,
    /// Slowest.
    pub max: u64,
    /// Mean.
    pub mean: u64,
}

/// Summary of the samples; `None` without any.
pub fn latency(samples: &[u64]) -> Option<Latency> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| sorted.get(((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
    let total: u128 = sorted.iter().map(|&sample| sample as u128).sum();
    Some(Latency {
        runs: sorted.len(),
        min: *sorted.first()?,
        p50: at(0.5)?,
        p90: at(0.9)?,
        p99: at(0.99)?,
        max: *sorted.last()?,
        mean: (total / sorted.len() as u128) as u64,
    })
}
