//! How the steps of a run are submitted: together, unless that would keep the GPU from all else for long. Systems reset a GPU that
//! does not answer for some seconds, and screens stand still meanwhile.

use std::ops::Range;

use edgecc_format::Call;

/// Multiply-adds that a slow phone's GPU does in a nanosecond.
const MULTIPLY_ADDS: u64 = 20;
/// Bytes that it moves.
const BYTES: u64 = 5;
/// Nanoseconds of a submission, by that estimate.
const LONGEST: u64 = 100_000_000;

/// The steps of each submission, in order: as many as fit its time, and one at least. There is always a submission.
pub(super) fn submissions<'a>(calls: impl Iterator<Item = &'a Call>) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    let mut taken = 0u64;
    for (step, call) in calls.enumerate() {
        let time = (call.macs / MULTIPLY_ADDS).max(call.bytes / BYTES);
        match all.last_mut() {
            Some(last) if taken.saturating_add(time) <= LONGEST => {
                last.end = step + 1;
                taken = taken.saturating_add(time);
            }
            _ => {
                all.push(step..step + 1);
                taken = time;
            }
        }
    }
    if all.is_empty() {
        all.push(0..0);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_submitted_together_up_to_a_time() {
        let of = |macs: u64, bytes: u64| Call { macs, bytes, ..Call::default() };
        let ends = |calls: &[Call]| submissions(calls.iter()).iter().map(|steps| steps.end).collect::<Vec<_>>();
        assert_eq!(ends(&[]), [0]);
        assert_eq!(ends(&[of(1 << 30, 0), of(1 << 29, 0)]), [2]);
        assert_eq!(ends(&[of(1 << 40, 0), of(1, 1), of(1 << 30, 0), of(0, 1 << 29)]), [1, 3, 4]);
        assert_eq!(ends(&[of(u64::MAX, 0), of(0, u64::MAX)]), [1, 2]);
    }
}
