//! Weights laid out in the order in which kernels read them.

use crate::contraction::{ContractionSpec, Element, divide_up};
use crate::schedule::Schedule;

/// Packed weights of a contraction: `[matrix][panel][tap][k][channel of the panel]`. Every panel has `panel` channels
/// but the last, which has as many as are left, padded with zeros to whole vectors. Of i8 the depth is in blocks of eight:
/// `[matrix][panel][run of taps][block of the run][channel of the panel][8]`, where each run is padded with zeros to whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedLayout {
    /// The type of a weight.
    pub element: Element,
    /// Matrices of all taps: 1 where the batch shares them.
    pub matrices: i64,
    /// Taps of a matrix.
    pub taps: i64,
    /// Taps of a run of i8, whose inputs lie side by side.
    pub run: i64,
    /// Input channels of a tap.
    pub depth: i64,
    /// Output channels.
    pub channels: i64,
    /// Output channels of a panel: whole vectors.
    pub panel: i64,
}

impl PackedLayout {
    /// The layout that a schedule asks for.
    pub fn of(spec: &ContractionSpec, schedule: &Schedule) -> Self {
        let reach = spec.weight_batch.iter().zip(&spec.batch).map(|(&stride, &extent)| stride * (extent - 1).max(0));
        PackedLayout {
            element: spec.element,
            matrices: 1 + reach.sum::<i64>(),
            taps: spec.window.taps.len() as i64,
            run: if spec.element == Element::I8 { Self::run_of(spec) } else { 1 },
            depth: spec.depth,
            channels: spec.channels,
            panel: schedule.panel(),
        }
    }

    /// Taps of a contraction whose inputs lie side by side.
    pub fn run_of(spec: &ContractionSpec) -> i64 {
        run_length(spec) as i64
    }

    /// Panels of the full width.
    pub fn full_panels(&self) -> i64 {
        self.channels / self.panel
    }

    /// Channels of the last, narrower panel; 0 where there is none.
    pub fn last_channels(&self) -> i64 {
        self.channels % self.panel
    }

    /// Panels of a matrix.
    pub fn panels(&self) -> i64 {
        self.full_panels() + i64::from(self.last_channels() > 0)
    }

    /// Elements from one panel to the next.
    pub fn panel_elements(&self) -> i64 {
        self.rows() * self.panel
    }

    /// Elements that a channel has of a run, with the padding behind them.
    pub fn run_rows(&self) -> i64 {
        let block = self.element.depth_block();
        divide_up(self.run * self.depth, block) * block
    }

    /// Elements that a channel has of a matrix.
    fn rows(&self) -> i64 {
        self.taps / self.run * self.run_rows()
    }

    /// Tap and k of an element of a channel; `None` of padding.
    fn place(&self, row: i64) -> Option<(i64, i64)> {
        let (run, place) = (row / self.run_rows(), row % self.run_rows());
        (place < self.run * self.depth).then(|| (run * self.run + place / self.depth, place % self.depth))
    }

    /// Elements of one matrix.
    pub fn matrix_elements(&self) -> i64 {
        let last = self.panel.min(self.padded(self.last_channels()));
        self.full_panels() * self.panel_elements() + self.rows() * last
    }

    /// Bytes of all matrices.
    pub fn bytes(&self) -> i64 {
        self.matrices * self.matrix_elements() * self.element.bytes()
    }

    /// Channels with the padding behind them: whole vectors.
    fn padded(&self, channels: i64) -> i64 {
        divide_up(channels, self.element.lanes()) * self.element.lanes()
    }

    /// Padded width of a panel.
    pub fn width(&self, panel: i64) -> i64 {
        let left = self.channels - panel * self.panel;
        self.panel.min(self.padded(left))
    }
}

/// Packs weights: `weight(matrix, tap, k, channel)` is the value, `tap` the place in the spec's list.
pub fn pack_weights(layout: &PackedLayout, weight: impl Fn(i64, i64, i64, i64) -> f32) -> Vec<f32> {
    let block = layout.element.depth_block();
    let mut packed = Vec::with_capacity((layout.matrices * layout.matrix_elements()) as usize);
    for matrix in 0..layout.matrices {
        for panel in 0..layout.panels() {
            for first_row in (0..layout.rows()).step_by(block as usize) {
                let first = panel * layout.panel;
                for n in first..first + layout.width(panel) {
                    let places =
                        (first_row..first_row + block).map(|row| layout.place(row).filter(|_| n < layout.channels));
                    packed.extend(places.map(|place| place.map_or(0.0, |(tap, k)| weight(matrix, tap, k, n))));
                }
            }
        }
    }
    packed
}

/// Constants that a contraction with several taps reads beside its weights: a row of zeros that stands for pixels outside
/// of the input, the taps, and the runs of taps that lie side by side in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapTable {
    /// The bytes: `zeros`, then per tap `{offset: i64, row: i32, column: i32}`, then per run `{offset: i64}`; offsets are
    /// input bytes from the pixel of offset (0, 0).
    pub bytes: Vec<u8>,
    /// Where the taps begin.
    pub taps_at: i64,
    /// Where the runs begin.
    pub runs_at: i64,
    /// The number of runs.
    pub runs: i64,
    /// Elements of one run: a multiple of `depth`.
    pub run_depth: i64,
}

impl TapTable {
    /// The table of a contraction.
    pub fn of(spec: &ContractionSpec) -> Self {
        let offset = |row: i64, column: i64| (row * spec.input.row + column * spec.input.column) * spec.element.bytes();
        let taps = &spec.window.taps;
        let side_by_side = run_length(spec);
        let mut bytes = vec![0u8; (divide_up(spec.depth * spec.element.bytes(), 16) * 16) as usize];
        let taps_at = bytes.len() as i64;
        for tap in taps {
            bytes.extend(offset(tap.row, tap.column).to_le_bytes());
            bytes.extend((tap.row as i32).to_le_bytes());
            bytes.extend((tap.column as i32).to_le_bytes());
        }
        let runs_at = bytes.len() as i64;
        for tap in taps.iter().step_by(side_by_side) {
            bytes.extend(offset(tap.row, tap.column).to_le_bytes());
        }
        let runs = taps.len().div_ceil(side_by_side) as i64;
        TapTable { bytes, taps_at, runs_at, runs, run_depth: spec.depth * side_by_side as i64 }
    }

    /// Whether the kernel of `spec` reads the table: it takes it as its last operand.
    pub fn is_read(spec: &ContractionSpec) -> bool {
        !spec.window.is_interior() || spec.window.taps.len() > run_length(spec)
    }
}

/// The number of taps in each run of pixels that are neighbours in memory: all runs are equally long. Packed weights of i8 have no
/// padding within a run, so that none is longer than a tap where some taps of a pixel may miss the input; shaders, which read in their
/// own way, look at each element.
fn run_length(spec: &ContractionSpec) -> usize {
    let taps = &spec.window.taps;
    let follows = |at: usize| taps[at].row == taps[at - 1].row && taps[at].column == taps[at - 1].column + 1;
    let by_tap = spec.element == Element::I8 && !spec.window.is_interior() && spec.reading.is_none();
    if spec.input.column != spec.depth || taps.is_empty() || by_tap {
        return 1;
    }
    let length = (1..taps.len()).find(|&at| !follows(at)).unwrap_or(taps.len());
    let regular = taps.len().is_multiple_of(length) && (1..taps.len()).all(|at| follows(at) == (at % length != 0));
    if regular { length } else { 1 }
}
