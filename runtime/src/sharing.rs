//! How a step is shared out among the workers of a pool: decided when a session is made, by ranges and speeds alone.
//!
//! Every worker has a share of the range, as large as its core is fast, in a few pieces that halve. It takes its own
//! pieces first and then those that others have not begun; so a worker that the system holds up delays a step by the
//! piece that it is at, and not by its share. No sum is divided, so nobody's choice changes a result.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use edgecc_format::Call;

/// Work that keeps a worker busy for about 4 µs, longer than it takes to hand it over: in multiply-adds and bytes, of
/// which a core does about 16 in a nanosecond.
const LEAST_WORK: u64 = 64 << 10;
/// Pieces of a share: a half, a quarter and two eighths.
const PIECES_OF_SHARE: u32 = 4;

/// Whether a worker may take pieces of others' shares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// It may, once its own are done.
    #[default]
    Stealing,
    /// Everyone computes its own share, whole: who computes what does not depend on time. For measurements.
    Fixed,
}

/// What is to be shared out: a step's range and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Number of indices.
    pub range: u32,
    /// Pieces begin at multiples of this, at least 1.
    pub grain: u32,
    /// Multiply-adds and bytes of the whole range.
    pub work: u64,
}

impl Load {
    /// That of a call of a kernel.
    pub fn of(call: &Call) -> Load {
        Load { range: call.range, grain: call.grain, work: call.macs.saturating_add(call.bytes) }
    }
}

/// A range in pieces, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Piece `i` is `bounds[i]..bounds[i + 1]` of the range.
    bounds: Box<[u32]>,
    /// The own pieces of worker `w` are `shares[w]..shares[w + 1]`.
    shares: Box<[u32]>,
}

impl Partition {
    /// Shares out a range among workers of these speeds, or the first of them where it is too small for all.
    pub fn new(load: Load, speeds: &[f32], sharing: Sharing) -> Partition {
        let grains = load.range.div_ceil(load.grain.max(1));
        let most = grains.min(u32::try_from(load.work / LEAST_WORK).unwrap_or(u32::MAX)).max(1);
        let speeds = &speeds[..speeds.len().min(most as usize)];
        // Nobody steals from a worker that is alone.
        let sharing = if speeds.len() == 1 { Sharing::Fixed } else { sharing };
        let mut partition = Building { load, grains, bounds: vec![0], shares: vec![0] };
        for share in shares(grains, speeds) {
            partition.push_share(share, sharing);
        }
        Partition { bounds: partition.bounds.into(), shares: partition.shares.into() }
    }

    /// Number of pieces.
    pub fn pieces(&self) -> u32 {
        self.bounds.len() as u32 - 1
    }

    /// Number of workers that have a share.
    pub fn workers(&self) -> usize {
        self.shares.len() - 1
    }

    /// The indices of a piece.
    pub fn piece(&self, piece: u32) -> Range<u32> {
        self.bounds[piece as usize]..self.bounds[piece as usize + 1]
    }

    /// The own pieces of a worker that has a share.
    pub fn share(&self, worker: usize) -> Range<u32> {
        self.shares[worker]..self.shares[worker + 1]
    }
}

/// A partition that grows by whole grains.
struct Building {
    load: Load,
    grains: u32,
    bounds: Vec<u32>,
    shares: Vec<u32>,
}

impl Building {
    fn push_share(&mut self, mut share: u32, sharing: Sharing) {
        let work = u128::from(self.load.work) * u128::from(share) / u128::from(self.grains.max(1));
        let worthwhile = (work / u128::from(LEAST_WORK)).clamp(1, PIECES_OF_SHARE.into()) as u32;
        let pieces = match sharing {
            Sharing::Fixed => 1,
            Sharing::Stealing => worthwhile,
        };
        for _ in 1..pieces {
            let half = share.div_ceil(2);
            self.push_piece(half);
            share -= half;
        }
        self.push_piece(share);
        self.shares.push(self.bounds.len() as u32 - 1);
    }

    fn push_piece(&mut self, grains: u32) {
        let begin = self.bounds.last().copied().unwrap_or(0);
        let end = begin.saturating_add(grains.saturating_mul(self.load.grain)).min(self.load.range);
        if end > begin {
            self.bounds.push(end);
        }
    }
}

/// Whole shares of a number of grains such that the last worker is done as early as can be: what is left of shares in
/// proportion to the speeds goes, grain by grain, to whoever is done with one more first.
fn shares(grains: u32, speeds: &[f32]) -> Vec<u32> {
    let total: f64 = speeds.iter().copied().map(f64::from).sum();
    let share = |&speed: &f32| (f64::from(grains) * (f64::from(speed) / total)) as u32;
    let mut shares: Vec<u32> = speeds.iter().map(share).collect();
    let mut left = grains.saturating_sub(shares.iter().copied().fold(0, u32::saturating_add));
    while left > 0 {
        let end = |worker: &usize| (f64::from(shares[*worker]) + 1.0) / f64::from(speeds[*worker]);
        let Some(first) = (0..shares.len()).min_by(|a, b| end(a).total_cmp(&end(b))) else { break };
        shares[first] += 1;
        left -= 1;
    }
    shares
}

/// A worker's pieces that nobody has begun: the end in the upper half, the next in the lower. Whoever takes the first or
/// the last of them by an exchange owns it. Cursors of two workers never share a cache line, nor a pair of lines fetched
/// together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cursor(AtomicU64);

fn word(pieces: Range<u32>) -> u64 {
    u64::from(pieces.end) << 32 | u64::from(pieces.start)
}

fn pieces(word: u64) -> Range<u32> {
    word as u32..(word >> 32) as u32
}

impl Cursor {
    fn offer(&self, pieces: Range<u32>) {
        self.0.store(word(pieces), Ordering::Release);
    }

    /// Takes a piece by `split`, which divides what is left into the piece and the rest, or declines.
    fn take(&self, split: impl Fn(Range<u32>) -> Option<(u32, Range<u32>)>) -> Option<u32> {
        let mut left = self.0.load(Ordering::Relaxed);
        loop {
            let (piece, rest) = split(pieces(left)).filter(|_| !pieces(left).is_empty())?;
            match self.0.compare_exchange_weak(left, word(rest), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(piece),
                Err(changed) => left = changed,
            }
        }
    }

    fn take_first(&self) -> Option<u32> {
        self.take(|left| Some((left.start, left.start + 1..left.end)))
    }

    /// Takes the last of at least so many pieces.
    fn take_last(&self, least: u32) -> Option<u32> {
        self.take(|left| (left.len() as u32 >= least).then(|| (left.end - 1, left.start..left.end - 1)))
    }
}

/// Which pieces of the current step nobody has begun. Taking one is safe at any time: it is a piece of the step that was
/// offered last, and that step is not over before the piece is.
#[derive(Debug)]
pub struct Claims {
    cursors: Box<[Cursor]>,
    speeds: Box<[f32]>,
    sharing: Sharing,
}

impl Claims {
    /// For workers of these speeds; nothing is on offer.
    pub fn new(speeds: &[f32], sharing: Sharing) -> Claims {
        Claims { cursors: speeds.iter().map(|_| Cursor::default()).collect(), speeds: speeds.into(), sharing }
    }

    /// Offers the pieces of a step, of which no more workers than these have a share. All of the last must be taken.
    pub fn offer(&self, partition: &Partition) {
        for (worker, cursor) in self.cursors.iter().enumerate().take(partition.workers()) {
            cursor.offer(partition.share(worker));
        }
    }

    /// Takes a piece: the first of the worker's own, or where it may, the last of the next worker that has enough.
    pub fn take(&self, worker: usize) -> Option<u32> {
        let own = self.cursors[worker].take_first();
        match self.sharing {
            Sharing::Fixed => own,
            Sharing::Stealing => own.or_else(|| self.steal(worker)),
        }
    }

    fn steal(&self, thief: usize) -> Option<u32> {
        let workers = self.cursors.len();
        (thief + 1..thief + workers).find_map(|other| {
            let owner = other % workers;
            self.cursors[owner].take_last(fewest_left(self.speeds[owner] / self.speeds[thief]))
        })
    }
}

/// Pieces that a worker so many times as fast as the thief must have left: the thief is to be done with the last before
/// the owner could be done with all of them, of which each is half as large as those before it together.
fn fewest_left(ratio: f32) -> u32 {
    (1..PIECES_OF_SHARE).find(|&left| ratio <= (1 << (left - 1)) as f32).unwrap_or(PIECES_OF_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: [f32; 8] = [1.0, 0.75, 0.75, 0.75, 0.35, 0.35, 0.35, 0.35];

    fn partition(range: u32, grain: u32, speeds: &[f32]) -> Partition {
        Partition::new(Load { range, grain, work: 1 << 30 }, speeds, Sharing::Stealing)
    }

    fn share_ends(partition: &Partition) -> Vec<u32> {
        (0..partition.workers()).map(|worker| partition.bounds[partition.share(worker).end as usize]).collect()
    }

    #[test]
    fn pieces_cover_the_range_from_multiples_of_the_grain() {
        for (range, grain) in [(0, 1), (1, 1), (1, 8), (7, 1), (100, 4), (4099, 7), (u32::MAX, 1), (u32::MAX, 3)] {
            for speeds in [&PHONE[..1], &PHONE[..2], &PHONE] {
                let partition = partition(range, grain, speeds);
                let pieces: Vec<_> = (0..partition.pieces()).map(|piece| partition.piece(piece)).collect();
                assert!(pieces.iter().all(|piece| piece.start % grain == 0 && !piece.is_empty()));
                assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert_eq!(pieces.last().map_or(0, |piece| piece.end), range);
                assert!(partition.pieces() <= PIECES_OF_SHARE * speeds.len() as u32);
                assert!(partition.workers() > 1 || partition.pieces() <= 1);
            }
        }
    }

    #[test]
    fn shares_follow_the_speeds() {
        assert_eq!(share_ends(&partition(100, 1, &[1.0; 4])), [25, 50, 75, 100]);
        assert_eq!(share_ends(&partition(7, 1, &[1.0; 4])), [2, 4, 6, 7]);
        assert_eq!(share_ends(&partition(300, 1, &[1.0, 0.5])), [200, 300]);
        // 465 units: 100, 75 each, 35 each.
        assert_eq!(share_ends(&partition(465, 1, &PHONE)), [100, 175, 250, 325, 360, 395, 430, 465]);
    }

    #[test]
    fn what_is_too_small_goes_to_fewer_workers() {
        let small = |work| Partition::new(Load { range: 100, grain: 1, work }, &[1.0; 4], Sharing::Stealing);
        assert_eq!((small(0).workers(), small(0).pieces()), (1, 1));
        assert_eq!(small(2 * LEAST_WORK).workers(), 2);
        assert_eq!(partition(4, 4, &[1.0; 2]).workers(), 1);
    }

    #[test]
    fn a_share_is_cut_into_halves() {
        let partition = partition(160, 1, &[1.0; 2]);
        let pieces: Vec<_> = partition.share(1).map(|piece| partition.piece(piece)).collect();
        assert_eq!(pieces, [80..120, 120..140, 140..150, 150..160]);
        let fixed = Partition::new(Load { range: 160, grain: 1, work: 1 << 30 }, &[1.0; 2], Sharing::Fixed);
        assert_eq!((fixed.pieces(), fixed.piece(1)), (2, 80..160));
    }

    #[test]
    fn every_piece_is_taken_once_and_own_pieces_first() {
        let partition = partition(160, 1, &[1.0; 2]);
        let claims = Claims::new(&[1.0; 2], Sharing::Stealing);
        claims.offer(&partition);
        assert_eq!((claims.take(1), claims.take(0)), (Some(4), Some(0)));
        let rest: Vec<u32> = std::iter::from_fn(|| claims.take(1)).collect();
        assert_eq!(rest, [5, 6, 7, 3, 2, 1]);
        assert_eq!(claims.take(0), None);
        let fixed = Claims::new(&[1.0; 2], Sharing::Fixed);
        fixed.offer(&Partition::new(Load { range: 160, grain: 1, work: 1 << 30 }, &[1.0; 2], Sharing::Fixed));
        assert_eq!((fixed.take(1), fixed.take(1), fixed.take(0)), (Some(1), None, Some(0)));
    }

    #[test]
    fn a_slow_worker_leaves_the_last_pieces_to_a_fast_one() {
        let partition = partition(300, 1, &[1.0, 0.5]);
        let claims = Claims::new(&[1.0, 0.5], Sharing::Stealing);
        claims.offer(&partition);
        let by_slow: Vec<u32> = std::iter::from_fn(|| claims.take(1)).collect();
        assert_eq!(by_slow, [4, 5, 6, 7, 3, 2, 1], "two of the fast worker's are left when it takes the last");
        let by_fast: Vec<u32> = std::iter::from_fn(|| claims.take(0)).collect();
        assert_eq!(by_fast, [0]);
        claims.offer(&partition);
        let by_fast: Vec<u32> = std::iter::from_fn(|| claims.take(0)).collect();
        assert_eq!(by_fast, [0, 1, 2, 3, 7, 6, 5, 4]);
    }
}
