//! How kernels walk rows: which rows of its result a unit computes, and which rows of its input these need.

use super::Span;
use crate::contraction::{
    ContractionSpec, DepthwiseSpec, Element, Strides, Window, divide_up, greatest_common_divisor,
};
use crate::cpu::contraction::depthwise_unit_rows;
use crate::cpu::contraction::operand;
use crate::cpu::isa::CpuTarget;
use crate::kernel::linear::{Linear, mentions};
use crate::kernel::{Access, Index, LoopKernel, Stmt, Value, Var};
use crate::pack::PackedLayout;
use crate::program::KernelSource;
use crate::schedule::{Schedule, Tile};

/// A kernel whose units are rows.
pub(super) struct Walk {
    /// The kernel, scheduled so that its units are whole rows.
    pub source: KernelSource,
    /// Images; `None` where any number of them are rows of one.
    pub images: Option<i64>,
    /// Rows of a unit.
    pub unit_rows: i64,
    /// The operand numbers of input and result.
    pub input_operand: usize,
    pub output_operand: usize,
    /// How they lie, where dense: rows of an image and bytes of a row.
    pub input: Option<Rows>,
    pub output: Option<Rows>,
    /// Input rows from one row of the result to the next, and the first and last that a row meets, relative to its position.
    pub step: i64,
    pub reach: [i64; 2],
    /// Bytes of scratch of the kernel itself.
    pub scratch: i64,
}

/// Rows of a dense image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rows {
    pub count: i64,
    pub bytes: i64,
}

/// Tiles of a unit that pay for loading a panel of weights.
const FEWEST_TILES: i64 = 3;

impl Walk {
    /// The walk of a kernel, where its units can be rows.
    pub fn of(source: &KernelSource, target: &CpuTarget) -> Option<Walk> {
        match source {
            KernelSource::Contraction(spec, schedule) => of_contraction(spec, schedule),
            KernelSource::Depthwise(spec, _) => {
                let unit_rows = depthwise_unit_rows(target, spec);
                Some(of_depthwise(spec, source, unit_rows))
            }
            KernelSource::Loops(kernel) => of_loops(kernel, source),
            KernelSource::BlockProduct(_)
            | KernelSource::WinogradInput(_)
            | KernelSource::WinogradOutput(_)
            | KernelSource::Pack(..)
            | KernelSource::Chain(_) => None,
        }
    }

    /// Units of an image of so many rows of the result.
    pub fn units(&self, rows: i64) -> i64 {
        divide_up(rows, self.unit_rows)
    }
}

fn of_contraction(spec: &ContractionSpec, schedule: &Schedule) -> Option<Walk> {
    let window = &spec.window;
    if window.pixels() == 0 {
        return None;
    }
    let is_matrix = is_matrix(window);
    let pixels = if is_matrix { 1 } else { window.width };
    let keeps_tile = is_matrix || rounds_by_tile(spec);
    let tile = if keeps_tile { schedule.tile.rows } else { tile_rows(schedule, pixels) };
    let whole_rows = rows_of_whole_tiles(tile, pixels);
    let unit_rows = whole_rows * divide_up(FEWEST_TILES * tile, whole_rows * pixels);
    let panels = PackedLayout::of(spec, schedule).panels();
    let schedule = Schedule {
        tile: Tile { rows: tile, ..schedule.tile },
        block_tiles: unit_rows * pixels / tile,
        block_panels: panels,
        ..*schedule
    };
    let types = spec.types();
    let dense = |operand: usize, strides: &Strides, height: i64, width: i64, channels: i64| {
        let bytes = channels * types[operand].size() as i64;
        let rows = match is_matrix {
            true => Rows { count: width, bytes },
            false => Rows { count: height, bytes: width * bytes },
        };
        is_dense(strides, &spec.batch, [height, width, channels]).then_some(rows)
    };
    Some(Walk {
        images: Some(spec.batch.iter().product()),
        unit_rows,
        input_operand: operand::INPUT,
        output_operand: operand::OUTPUT,
        input: dense(operand::INPUT, &spec.input, window.input_height, window.input_width, spec.depth),
        output: dense(operand::OUTPUT, &spec.output, window.height, window.width, spec.channels),
        step: if is_matrix { 1 } else { window.step[0] },
        reach: if is_matrix { [0, 0] } else { reach(window) },
        scratch: schedule.scratch(spec) as i64,
        source: KernelSource::Contraction(spec.clone(), schedule),
    })
}

/// Whether another tile may round results otherwise: where taps meet the border, halves are summed tap by tap.
fn rounds_by_tile(spec: &ContractionSpec) -> bool {
    spec.element == Element::F16 && spec.window.taps.len() > 1
}

/// The rows of a register tile, no less than half as many as scheduled, that fill the fewest rows of so many pixels.
fn tile_rows(schedule: &Schedule, pixels: i64) -> i64 {
    let most = schedule.tile.rows;
    let multiple = if schedule.packs_rows { schedule.lanes } else { 1 };
    let rows = (divide_up(most, 2)..=most).rev().filter(|rows| rows % multiple == 0);
    rows.min_by_key(|&rows| rows_of_whole_tiles(rows, pixels)).unwrap_or(most)
}

/// The fewest rows of so many pixels that are whole tiles.
fn rows_of_whole_tiles(tile: i64, pixels: i64) -> i64 {
    tile / greatest_common_divisor(tile, pixels)
}

/// Whether a window's rows are the pixels of a matrix product.
fn is_matrix(window: &Window) -> bool {
    *window == Window::matrix(window.width)
}

fn of_depthwise(spec: &DepthwiseSpec, source: &KernelSource, unit_rows: i64) -> Walk {
    let window = &spec.window;
    let types = spec.types();
    let dense = |operand: usize, strides: &Strides, height: i64, width: i64| {
        let rows = Rows { count: height, bytes: width * spec.channels * types[operand].size() as i64 };
        is_dense(strides, &spec.batch, [height, width, spec.channels]).then_some(rows)
    };
    Walk {
        source: source.clone(),
        images: Some(spec.batch.iter().product()),
        unit_rows,
        input_operand: operand::INPUT,
        output_operand: operand::OUTPUT,
        input: dense(operand::INPUT, &spec.input, window.input_height, window.input_width),
        output: dense(operand::OUTPUT, &spec.output, window.height, window.width),
        step: window.step[0],
        reach: reach(window),
        scratch: 0,
    }
}

/// A loop nest that makes of each row another one, and whose range is the rows of all images. Where every iteration runs the
/// same loops and positions are within their operands for the whole range, each iteration's lie within its row.
fn of_loops(kernel: &LoopKernel, source: &KernelSource) -> Option<Walk> {
    let [a, b] = kernel.buffers.as_slice() else { return None };
    let (input_operand, output_operand) = match (a.access, b.access) {
        (Access::Read, Access::Write | Access::ReadWrite) => (0, 1),
        (Access::Write | Access::ReadWrite, Access::Read) => (1, 0),
        _ => return None,
    };
    let rows = |place: usize| {
        let (elements, range) = (kernel.buffers[place].elements as i64, kernel.range as i64);
        let row = elements / range.max(1);
        let is_of_rows = row * range == elements && moves_by(&kernel.body, place, row);
        is_of_rows.then(|| Rows { count: range, bytes: row * kernel.buffers[place].dtype.size() as i64 })
    };
    Some(Walk {
        source: source.clone(),
        images: None,
        unit_rows: 1,
        input_operand,
        output_operand,
        input: rows(input_operand),
        output: rows(output_operand),
        step: 1,
        reach: [0, 0],
        scratch: 0,
    })
}

/// Whether every access of a buffer moves by `row` elements with the range, and nothing else does.
fn moves_by(body: &[Stmt], place: usize, row: i64) -> bool {
    let moves = |index: &Index| Linear::of(index).factor(Var(0)) == Some(row);
    body.iter().all(|statement| match statement {
        Stmt::For { begin, end, body, .. } => {
            !mentions(begin, Var(0)) && !mentions(end, Var(0)) && moves_by(body, place, row)
        }
        Stmt::Set { value: Value::Load { buffer, index }, .. } | Stmt::Store { buffer, index, .. } => {
            *buffer != place || moves(index)
        }
        Stmt::Set { value: Value::Index(_) | Value::Apply { .. }, .. } => true,
    })
}

/// Whether images `[batch.., height, width, channels]` lie row-major without gaps from the operand's first byte.
fn is_dense(strides: &Strides, batch: &[i64], [height, width, channels]: [i64; 3]) -> bool {
    let axes = [(channels, strides.channel), (width, strides.column), (height, strides.row)];
    let batch = batch.iter().copied().zip(strides.batch.iter().copied()).rev();
    let mut expected = 1;
    let follows = axes.into_iter().chain(batch).all(|(extent, stride)| {
        let follows = extent == 1 || stride == expected;
        expected *= extent;
        follows
    });
    follows && strides.base == 0
}

fn reach(window: &Window) -> [i64; 2] {
    let rows = || window.taps.iter().map(|tap| tap.row);
    [rows().min().unwrap_or(0), rows().max().unwrap_or(0)]
}

/// The units of each walk for each band of `band_rows` rows of the last result, where strips move after `turn` bands.
/// `rows` are those of an image of each result.
pub(super) fn spans(walks: &[Walk], rows: &[i64], band_rows: i64, turn: i64) -> Vec<Vec<Span>> {
    let last = rows[rows.len() - 1];
    let mut bands: Vec<Vec<Span>> = Vec::new();
    for band in 0..divide_up(last, band_rows) {
        let mut spans = vec![Span::default(); walks.len()];
        let (mut low, mut high) = (band * band_rows, ((band + 1) * band_rows).min(last));
        for (stage, walk) in walks.iter().enumerate().rev() {
            let (first, end) = (low / walk.unit_rows, divide_up(high, walk.unit_rows));
            let before = bands.last().map_or(0, |spans| spans[stage].end);
            let front = if band % turn == 0 { first } else { bands[bands.len() - 1][stage].front };
            spans[stage] = Span { front, first, begin: before.max(first), end };
            let Some(input) = stage.checked_sub(1).map(|stage| rows[stage]) else { continue };
            let last_row = (end * walk.unit_rows).min(rows[stage]) - 1;
            low = (first * walk.unit_rows * walk.step + walk.reach[0]).clamp(0, input);
            high = (last_row * walk.step + walk.reach[1] + 1).clamp(low, input);
        }
        bands.push(spans);
    }
    bands
}

/// Most units that a stage's strip holds.
pub(super) fn most_held(bands: &[Vec<Span>], stage: usize) -> i64 {
    bands.iter().map(|spans| spans[stage].end - spans[stage].front).max().unwrap_or(0)
}
