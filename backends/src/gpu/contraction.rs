//! Emission of contractions: an invocation computes some pixels by one panel of channels, sums in registers. Weights come as
//! the CPU's kernels read them, `[matrix][panel][tap][k][channel]`, whose panels are as wide as the tile and of one width.

use edgecc_ir::DType;

use super::Body;
use super::binding::{Bound, Use};
use super::expression;
use super::grid::{Grid, coordinates};
use super::strides::{Channels, LANES, batch_axes, batch_start, sum};
use super::value::Width;
use super::writer::Writer;
use crate::contraction::{ContractionSpec, Tap, Window, divide_up};
use crate::cpu::contraction::operand::{FURTHER, INPUT, OUTPUT, WEIGHTS};
use crate::pack::PackedLayout;
use crate::schedule::Schedule;

/// A contraction as a shader computes it.
pub(super) struct Contraction<'a> {
    spec: &'a ContractionSpec,
    layout: PackedLayout,
    /// Pixels of an invocation.
    rows: i64,
    /// Vectors of channels of an invocation.
    vectors: i64,
    /// Whether four input channels are one load.
    input_quads: bool,
}

impl<'a> Contraction<'a> {
    pub(super) fn new(spec: &'a ContractionSpec, schedule: &Schedule) -> Contraction<'a> {
        let layout = PackedLayout::of(spec, schedule);
        let input_quads = Channels::of(&spec.input, spec.depth).quads;
        Contraction { spec, layout, rows: schedule.tile.rows, vectors: schedule.tile.vectors, input_quads }
    }

    /// How it uses its operands.
    pub(super) fn uses(&self) -> Vec<Use> {
        let ContractionSpec { output, operands, channels, .. } = self.spec;
        let mut uses = vec![
            Use::read(DType::F32, self.input_quads),
            Use::read(DType::F32, true),
            Channels::of(output, *channels).write(),
        ];
        uses.extend(operands.iter().map(|strides| Channels::of(strides, *channels).read()));
        uses
    }

    /// What each invocation does; `None` for an epilogue that is refused.
    pub(super) fn emit(&self, operands: &[Bound]) -> Option<Body> {
        let mut out = Writer::default();
        let spec = self.spec;
        let tiles = divide_up(spec.window.pixels(), self.rows);
        let mut axes = batch_axes(&spec.batch);
        axes.extend([("tile".to_string(), tiles), ("panel".to_string(), self.layout.panels())]);
        let grid = Grid::new(axes.iter().map(|(_, extent)| extent).product());
        grid.enter(&mut out);
        coordinates(&mut out, &axes);
        self.pixels(&mut out);
        out.line(format!("let input = {};", batch_start(&spec.input)));
        out.line(format!("let weights = {};", self.weights_start()));
        for (row, vector) in self.sums() {
            out.line(format!("var s{row}_{vector} = vec4<f32>(0.0f);"));
        }
        self.taps(&mut out, operands);
        self.results(&mut out, operands)?;
        Some(Body { writer: out, groups: grid.groups()? })
    }

    fn sums(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let (rows, vectors) = (self.rows, self.vectors);
        (0..rows).flat_map(move |row| (0..vectors).map(move |vector| (row, vector)))
    }

    /// Coordinates `y`, `x` of each pixel; behind the last pixel that one again.
    fn pixels(&self, out: &mut Writer) {
        let Window { width, .. } = self.spec.window;
        let pixels = self.spec.window.pixels();
        for row in 0..self.rows {
            let pixel = sum(row, &[("tile", self.rows)]);
            let pixel = if pixels % self.rows == 0 { pixel } else { format!("min({pixel}, {})", pixels - 1) };
            out.line(format!("let p{row} = {pixel};"));
            if self.spec.window.height == 1 {
                out.line(format!("let y{row} = 0;"));
                out.line(format!("let x{row} = p{row};"));
            } else {
                out.line(format!("let y{row} = p{row} / {width};"));
                out.line(format!("let x{row} = p{row} % {width};"));
            }
        }
    }

    /// The position of the panel's first weight.
    fn weights_start(&self) -> String {
        let names: Vec<String> = (0..self.spec.batch.len()).map(|place| format!("n{place}")).collect();
        let by = self.spec.weight_batch.iter().map(|matrices| matrices * self.layout.matrix_elements());
        let mut terms: Vec<(&str, i64)> = names.iter().map(String::as_str).zip(by).collect();
        terms.push(("panel", self.layout.panel_elements()));
        sum(0, &terms)
    }

    /// Adds the products of all taps to the sums.
    fn taps(&self, out: &mut Writer, operands: &[Bound]) {
        let taps = &self.spec.window.taps;
        match TapGrid::of(taps) {
            Some(grid) if taps.len() > 1 => {
                let [rows, columns] = grid.axes;
                out.block(format!("for (var a = 0; a < {}; a++)", rows.count), |out| {
                    out.block(format!("for (var b = 0; b < {}; b++)", columns.count), |out| {
                        let row = sum(rows.first, &[("a", rows.step)]);
                        let column = sum(columns.first, &[("b", columns.step)]);
                        let tap = sum(0, &[("a", columns.count), ("b", 1)]);
                        self.tap(out, operands, [&row, &column, &tap]);
                    });
                });
            }
            _ => {
                for (place, tap) in taps.iter().enumerate() {
                    let texts = [tap.row.to_string(), tap.column.to_string(), place.to_string()];
                    out.block("", |out| self.tap(out, operands, [&texts[0], &texts[1], &texts[2]]));
                }
            }
        }
    }

    /// Adds the products of one tap: texts of its row, its column and its place.
    fn tap(&self, out: &mut Writer, operands: &[Bound], [tap_row, tap_column, place]: [&str; 3]) {
        let ContractionSpec { window, input, depth, .. } = self.spec;
        let [checks_rows, checks_columns] =
            [window.interior_rows() != [0, window.height], window.interior_columns() != [0, window.width]];
        for row in 0..self.rows {
            out.line(format!("let i{row} = {} + {tap_row};", sum(0, &[(&format!("y{row}"), window.step[0])])));
            out.line(format!("let j{row} = {} + {tap_column};", sum(0, &[(&format!("x{row}"), window.step[1])])));
            let at =
                format!("input + {}", sum(0, &[(&format!("i{row}"), input.row), (&format!("j{row}"), input.column)]));
            let inside: Vec<String> =
                [(checks_rows, "i", window.input_height), (checks_columns, "j", window.input_width)]
                    .into_iter()
                    .filter(|(checks, ..)| *checks)
                    .map(|(_, name, extent)| format!("(u32({name}{row}) < {extent}u)"))
                    .collect();
            if inside.is_empty() {
                out.line(format!("let at{row} = {at};"));
            } else {
                out.line(format!("let in{row} = {};", inside.join(" & ")));
                out.line(format!("let at{row} = select(0, {at}, in{row});"));
            }
        }
        let is_checked = checks_rows || checks_columns;
        let width = self.layout.panel;
        out.line(format!("let w = weights + ({place}) * {};", depth * width));
        let (step, zero) = if self.input_quads { (LANES, "vec4<f32>(0.0f)") } else { (1, "0.0f") };
        out.block(format!("for (var k = 0; k < {depth}; k += {step})"), |out| {
            for row in 0..self.rows {
                let at = format!("at{row} + k");
                let loaded = match self.input_quads {
                    true => operands[INPUT].load_quad(out, &at),
                    false => operands[INPUT].load(out, &at),
                };
                let value = if is_checked { format!("select({zero}, {loaded}, in{row})") } else { loaded };
                out.line(format!("let f{row} = {value};"));
            }
            for k in 0..step {
                for vector in 0..self.vectors {
                    let at = format!("w + (k + {k}) * {width} + {}", vector * LANES);
                    let weight = operands[WEIGHTS].load_quad(out, &at);
                    for row in 0..self.rows {
                        let factor = if self.input_quads { format!("f{row}[{k}]") } else { format!("f{row}") };
                        let name = format!("s{row}_{vector}");
                        out.line(format!("{name} = fma(vec4<f32>({factor}), {weight}, {name});"));
                    }
                }
            }
        });
    }

    /// Finishes the sums and writes them.
    fn results(&self, out: &mut Writer, operands: &[Bound]) -> Option<()> {
        let pixels = self.spec.window.pixels();
        for row in 0..self.rows {
            // Tiles are whole but for the last, whose first pixel there always is.
            if pixels % self.rows == 0 || row == 0 {
                self.result(out, operands, row)?;
            } else {
                let head = format!("if {} < {pixels}", sum(row, &[("tile", self.rows)]));
                out.block(head, |out| self.result(out, operands, row))?;
            }
        }
        Some(())
    }

    fn result(&self, out: &mut Writer, operands: &[Bound], row: i64) -> Option<()> {
        let ContractionSpec { output, channels, epilogue, operands: further, .. } = self.spec;
        let (y, x) = (format!("y{row}"), format!("x{row}"));
        let at = |out: &mut Writer, strides: &crate::contraction::Strides| {
            let pixel = sum(0, &[(&y, strides.row), (&x, strides.column)]);
            out.value(format!("{} + {pixel}", batch_start(strides)))
        };
        let to = at(out, output);
        let from: Vec<String> = further.iter().map(|strides| at(out, strides)).collect();
        for vector in 0..self.vectors {
            let channel = out.value(sum(vector * LANES, &[("panel", self.layout.panel)]));
            let mut arguments = vec![format!("s{row}_{vector}")];
            for (place, strides) in further.iter().enumerate() {
                let operand = &operands[FURTHER + place];
                arguments.push(Channels::of(strides, *channels).load(out, operand, &from[place], &channel));
            }
            let value = expression::emit(out, epilogue, &arguments, Width::Four)?;
            Channels::of(output, *channels).store(out, &operands[OUTPUT], &to, &channel, &value);
        }
        Some(())
    }
}

/// One axis of evenly spaced taps.
#[derive(Clone, Copy)]
struct TapAxis {
    count: i64,
    first: i64,
    step: i64,
}

impl TapAxis {
    fn of(offsets: &[i64]) -> Option<TapAxis> {
        let step = offsets.windows(2).map(|pair| pair[1] - pair[0]).next().unwrap_or(0);
        let even = offsets.windows(2).all(|pair| pair[1] - pair[0] == step);
        even.then_some(TapAxis { count: offsets.len() as i64, first: *offsets.first()?, step })
    }
}

/// Taps that are every row of some with every column of others, in row-major order.
struct TapGrid {
    axes: [TapAxis; 2],
}

impl TapGrid {
    fn of(taps: &[Tap]) -> Option<TapGrid> {
        let columns = taps.iter().take_while(|tap| tap.row == taps[0].row).count().max(1);
        let row_offsets: Vec<i64> = taps.iter().step_by(columns).map(|tap| tap.row).collect();
        let column_offsets: Vec<i64> = taps.iter().take(columns).map(|tap| tap.column).collect();
        let agrees = |(place, tap): (usize, &Tap)| {
            tap.row == row_offsets[place / columns] && tap.column == column_offsets[place % columns]
        };
        let is_grid = taps.len().is_multiple_of(columns) && taps.iter().enumerate().all(agrees);
        let axes = [TapAxis::of(&row_offsets)?, TapAxis::of(&column_offsets)?];
        is_grid.then_some(TapGrid { axes })
    }
}
