//! Lines of output pixels, the tiles of a line, and the rows of taps that a line meets.

use crate::contraction::{ContractionSpec, Strides, Window, divide_up, whole_parts};

/// Tiles that meet the border have code of their own: no more than this many.
pub(in crate::cpu) const MOST_BORDER_TILES: i64 = 6;

/// Taps in rows of the same columns, at equal distances.
pub(in crate::cpu) struct TapGrid {
    pub rows: i64,
    /// The offset of the first row in input rows, and from one to the next.
    pub first_row: i64,
    pub row_step: i64,
    /// Column offsets of the taps of each row, rising.
    pub columns: Vec<i64>,
}

impl TapGrid {
    /// The grid of a window's taps, in their order; `None` where they are irregular.
    pub fn of(window: &Window) -> Option<TapGrid> {
        let first = window.taps.first()?;
        let columns: Vec<i64> =
            window.taps.iter().take_while(|tap| tap.row == first.row).map(|tap| tap.column).collect();
        let rows: Vec<_> = window.taps.chunks(columns.len()).collect();
        let row_step = rows.get(1).map_or(1, |second| second[0].row - first.row);
        let is_regular = rows.iter().enumerate().all(|(number, taps)| {
            let row = first.row + number as i64 * row_step;
            taps.len() == columns.len()
                && taps.iter().zip(&columns).all(|(tap, &column)| (tap.row, tap.column) == (row, column))
        });
        let is_rising = columns.windows(2).all(|pair| pair[0] < pair[1]);
        let grid = TapGrid { rows: rows.len() as i64, first_row: first.row, row_step, columns };
        (is_regular && is_rising && row_step >= 1).then_some(grid)
    }
}

/// Where a contraction's pixels lie.
pub(in crate::cpu) struct Geometry {
    /// All pixels of all operands follow each other at one distance, but perhaps those of the input where rows are packed,
    /// and no tap misses the input: one line.
    pub is_flat: bool,
    /// Where the input's pixels do not: the pixels of its lines.
    pub grid_width: Option<i64>,
    pub lines: i64,
    /// Pixels of a line.
    pub width: i64,
    /// Input rows and columns from one output pixel to the next.
    pub step: [i64; 2],
    /// Rows of taps, the offset of the first in input rows, and from one to the next.
    pub tap_rows: i64,
    pub first_row: i64,
    pub row_step: i64,
    /// Column offsets of the taps of each row.
    pub columns: Vec<i64>,
    /// Taps of a row lie side by side in memory.
    pub merges_columns: bool,
    /// Every row of taps of every line lies within the input.
    pub rows_inside: bool,
    pub input_height: i64,
    pub input_width: i64,
    /// Tiles of a line whose taps all lie within the input's columns, as a half-open range.
    pub inside: [i64; 2],
}

impl Geometry {
    /// The geometry for tiles of `rows` pixels. `None` where rows of taps are irregular, or too many tiles meet the border.
    pub fn of(spec: &ContractionSpec, rows: i64, packs_rows: bool) -> Option<Geometry> {
        let window = &spec.window;
        let follow = |strides: &Strides| strides.is_flat(window.height, window.width);
        let input_follows = follow(&window.stepped(&spec.input));
        let is_flat = window.taps.len() == 1
            && window.is_interior()
            && (input_follows || packs_rows)
            && [&spec.output].into_iter().chain(&spec.operands).all(follow);
        let grid_width = (!input_follows).then_some(window.width);
        if packs_rows && grid_width.is_some() && window.pixels() % rows != 0 {
            return None;
        }
        let TapGrid { rows: tap_rows, first_row, row_step, columns } = TapGrid::of(window)?;
        let adjacent = columns.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let (lines, width) = if is_flat { (1, window.pixels()) } else { (window.height, window.width) };
        let geometry = Geometry {
            is_flat,
            grid_width,
            lines,
            width,
            step: window.step,
            tap_rows,
            first_row,
            row_step,
            merges_columns: adjacent && spec.input.column == spec.depth,
            columns,
            rows_inside: window.interior_rows() == [0, window.height],
            input_height: window.input_height,
            input_width: window.input_width,
            inside: if is_flat { [0, width / rows] } else { whole_parts(window.interior_columns(), rows) },
        };
        let border = divide_up(width, rows) - (geometry.inside[1] - geometry.inside[0]);
        (width > 0 && lines > 0 && border <= MOST_BORDER_TILES).then_some(geometry)
    }

    /// The pixels of a tile, from `first` on, that meet a column of taps within the input: a half-open range of the tile's
    /// `count` pixels.
    pub fn reached(&self, first: i64, count: i64, column: i64) -> [i64; 2] {
        let is_within = |pixel: &i64| (0..self.input_width).contains(&((first + pixel) * self.step[1] + column));
        let begin = (0..count).find(is_within).unwrap_or(0);
        let end = (0..count).rev().find(is_within).map_or(0, |last| last + 1);
        [begin.min(end), end]
    }
}
