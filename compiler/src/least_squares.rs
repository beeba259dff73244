//! Least squares by normal equations: the `D` of least `|X D - R|^2 + ridge |D|^2`, by Cholesky's factors in binary64.

/// Rows whose products are added up in binary32, before binary64 takes them over.
const ROWS: usize = 64;
/// Products that are added up side by side.
const LANES: usize = 4;
/// Columns of the left factor, and of the right one, whose products are made together.
const TILE: [usize; 2] = [4, 2];
/// Sums from which on other threads help.
const WORTH_THREADS: usize = 1 << 14;

/// `X^T [X R]` of rows that come one after the other.
pub(crate) struct Normal {
    features: usize,
    columns: usize,
    /// `features x (features + results)`; columns before the row's number are not kept up.
    sums: Vec<f64>,
    /// Rows that are not added up yet, by column.
    pending: Vec<[f32; ROWS]>,
    held: usize,
}

impl Normal {
    /// Sums over no rows.
    pub(crate) fn new(features: usize, results: usize) -> Normal {
        let columns = features + results;
        Normal {
            features,
            columns,
            sums: vec![0.0; features * columns],
            pending: vec![[0.0; ROWS]; columns.next_multiple_of(TILE[0])],
            held: 0,
        }
    }

    /// Adds a row of features and results.
    pub(crate) fn add(&mut self, row: impl Iterator<Item = f32>, threads: usize) {
        self.pending.iter_mut().zip(row).for_each(|(column, value)| column[self.held] = value);
        self.held += 1;
        if self.held == ROWS {
            self.add_pending(threads);
        }
    }

    /// Adds the rows that are held. Every thread has rows of the sums to itself, so that their number changes no sum.
    fn add_pending(&mut self, threads: usize) {
        let (columns, pending) = (self.columns, &self.pending);
        let bands = self.sums.chunks_mut(TILE[0] * columns).enumerate();
        let threads = if self.features * columns < WORTH_THREADS { 1 } else { threads.max(1) };
        // Rows of the triangle shorten: threads take turns.
        let mut turns: Vec<Vec<(usize, &mut [f64])>> = (0..threads).map(|_| Vec::new()).collect();
        bands.for_each(|(place, band)| turns[place % threads].push((place * TILE[0], band)));
        let work = |turn: Vec<(usize, &mut [f64])>| {
            turn.into_iter().for_each(|(first, band)| add_band(pending, first, band, columns));
        };
        std::thread::scope(|scope| {
            let own = turns.pop();
            for turn in turns {
                scope.spawn(move || work(turn));
            }
            own.into_iter().for_each(work);
        });
        self.pending.iter_mut().for_each(|column| column.fill(0.0));
        self.held = 0;
    }

    /// The products of the features with themselves, row by row; columns before the row's number are not kept up.
    pub(crate) fn products(mut self, threads: usize) -> Vec<f64> {
        self.add_pending(threads);
        let rows = self.sums.chunks_exact(self.columns);
        rows.flat_map(|row| row[..self.features].iter().copied()).collect()
    }

    /// Solves for `D`, `features x results`. `ridge` is a share of the features' mean square. `None` where sums are not finite.
    pub(crate) fn solve(mut self, ridge: f64, threads: usize) -> Option<Vec<f64>> {
        self.add_pending(threads);
        let (features, columns) = (self.features, self.columns);
        let trace: f64 = (0..features).map(|i| self.sums[i * columns + i]).sum();
        let ridge = (ridge * trace / features.max(1) as f64).max(f64::MIN_POSITIVE);
        for i in 0..features {
            self.sums[i * columns + i] += ridge;
        }
        factorise(&mut self.sums, features, columns)?;
        Some(substitute(&self.sums, features, columns))
    }
}

/// The products of a band of columns, from `first` on, with themselves and all behind.
fn add_band(pending: &[[f32; ROWS]], first: usize, band: &mut [f64], columns: usize) {
    let left: [&[f32; ROWS]; TILE[0]] = std::array::from_fn(|i| &pending[first + i]);
    for right in (first..columns).step_by(TILE[1]) {
        let lanes = products(left, std::array::from_fn(|j| &pending[(right + j).min(columns - 1)]));
        for (sums, lanes) in band.chunks_exact_mut(columns).zip(&lanes) {
            for (sum, lanes) in sums[right..].iter_mut().zip(lanes) {
                *sum += lanes.iter().map(|&lane| lane as f64).sum::<f64>();
            }
        }
    }
}

/// The sums of products of each left column with each right one, in [`LANES`] parts.
fn products(left: [&[f32; ROWS]; TILE[0]], right: [&[f32; ROWS]; TILE[1]]) -> [[[f32; LANES]; TILE[1]]; TILE[0]] {
    let mut sums = [[[0f32; LANES]; TILE[1]]; TILE[0]];
    for row in 0..ROWS / LANES {
        let lanes = |column: &[f32; ROWS]| -> [f32; LANES] { std::array::from_fn(|lane| column[row * LANES + lane]) };
        let (left, right) = (left.map(lanes), right.map(lanes));
        for i in 0..TILE[0] {
            for j in 0..TILE[1] {
                for lane in 0..LANES {
                    sums[i][j][lane] += left[i][lane] * right[j][lane];
                }
            }
        }
    }
    sums
}

/// `U` of `A = U^T U` in place of a symmetric `A`'s upper triangle, and `U^-T B` in place of the columns `B` behind it. `None`
/// where a pivot is not positive.
pub(crate) fn factorise(sums: &mut [f64], features: usize, columns: usize) -> Option<()> {
    for i in 0..features {
        let (done, rest) = sums.split_at_mut(i * columns);
        let row = &mut rest[i..columns];
        let mut fours = done.chunks_exact(4 * columns);
        for above in &mut fours {
            let above: [&[f64]; 4] = std::array::from_fn(|place| &above[place * columns + i..][..columns - i]);
            let [a, b, c, d] = above.map(|row| row[0]);
            for (place, value) in row.iter_mut().enumerate() {
                *value -= a * above[0][place] + b * above[1][place] + c * above[2][place] + d * above[3][place];
            }
        }
        for above in fours.remainder().chunks_exact(columns) {
            let factor = above[i];
            row.iter_mut().zip(&above[i..]).for_each(|(value, other)| *value -= factor * other);
        }
        let pivot = row[0];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        let scale = pivot.sqrt().recip();
        row.iter_mut().for_each(|value| *value *= scale);
    }
    Some(())
}

/// `D` of `U D = B`, the columns behind `U`.
fn substitute(sums: &[f64], features: usize, columns: usize) -> Vec<f64> {
    let results = columns - features;
    let mut solution = vec![0.0; features * results];
    for i in (0..features).rev() {
        let row = &sums[i * columns..][..columns];
        let (before, behind) = solution.split_at_mut((i + 1) * results);
        let mine = &mut before[i * results..];
        mine.copy_from_slice(&row[features..]);
        for (factor, other) in row[i + 1..features].iter().zip(behind.chunks_exact(results.max(1))) {
            mine.iter_mut().zip(other).for_each(|(value, other)| *value -= factor * other);
        }
        mine.iter_mut().for_each(|value| *value /= row[i]);
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn exact_weights_are_found_again() {
        let (rows, features, results) = (300, 13, 5);
        let (x, weights) = (numbers(rows * features), numbers(features * results));
        let solve = |threads| {
            let mut normal = Normal::new(features, results);
            for x in x.chunks(features) {
                let result = |r: usize| (0..features).map(|f| x[f] * weights[f * results + r]).sum::<f32>();
                normal.add(x.iter().copied().chain((0..results).map(result)), threads);
            }
            normal.solve(1e-9, threads).expect("a solution")
        };
        let found = solve(1);
        assert!(found.iter().zip(&weights).all(|(a, &b)| (a - b as f64).abs() < 1e-4));
        assert_eq!(found, solve(3));
    }

    #[test]
    fn features_that_never_differ_share_their_weight() {
        let mut normal = Normal::new(2, 1);
        (0..10).for_each(|_| normal.add([1.0, 1.0, 3.0].into_iter(), 1));
        let found = normal.solve(1e-6, 1).expect("a solution");
        assert!(found.iter().all(|value| (value - 1.5).abs() < 1e-4), "{found:?}");
    }
}
