//! Emission of depthwise convolutions and pools: an invocation computes a tile of pixels by four channels, and loads each
//! position of the input under it once.

use std::collections::{BTreeMap, BTreeSet};

use super::Body;
use super::binding::{Bound, Use};
use super::expression;
use super::grid::{GROUP, Grid, MOST_GROUPS, coordinates};
use super::reading::Reader;
use super::strides::{Channels, LANES, batch_axes, sum};
use super::together::{self, Parts};
use super::value::{Width, float};
use super::writer::Writer;
use crate::contraction::{Combination, DepthwiseSpec, Element, Strides, Tap, Window, divide_up};
use crate::cpu::contraction::operand::{FURTHER, INPUT, OUTPUT, WEIGHTS};
use crate::schedule::DepthwiseSchedule;

/// A depthwise convolution as a shader computes it.
pub(super) struct Depthwise<'a> {
    spec: &'a DepthwiseSpec,
    /// Rows and columns of pixels of an invocation.
    tile: [i64; 2],
    /// What is joined of the input.
    reader: Reader<'a>,
}

impl<'a> Depthwise<'a> {
    pub(super) fn new(spec: &'a DepthwiseSpec, schedule: &DepthwiseSchedule) -> Depthwise<'a> {
        let own = FURTHER + spec.operands.len();
        let reader = Reader::new(spec.reading.as_ref(), &spec.batch, spec.channels, own, Width::Four);
        Depthwise { spec, tile: [schedule.rows, schedule.columns], reader }
    }

    /// An operand but for the weights.
    fn channels(&self, strides: &Strides) -> Channels {
        Channels::of(strides, &self.spec.batch, self.spec.channels)
    }

    /// How it uses its operands.
    pub(super) fn uses(&self) -> Vec<Use> {
        let DepthwiseSpec { input, output, operands, combination, .. } = self.spec;
        let types = self.spec.types();
        let input = self.channels(input).read(types[INPUT]);
        let weights = match combination {
            Combination::Products => Use::read(types[WEIGHTS], true),
            // The input stands in the weights' place.
            Combination::Maximum | Combination::Sum => input,
        };
        let mut uses = vec![input, weights, self.channels(output).write(types[OUTPUT])];
        uses.extend(operands.iter().zip(&types[FURTHER..]).map(|(strides, &dtype)| self.channels(strides).read(dtype)));
        uses.extend(self.reader.uses(&types));
        let mean = self.spec.mean.iter().zip(types.last());
        uses.extend(mean.map(|(strides, &dtype)| self.channels(strides).write(dtype)));
        uses
    }

    /// What each invocation does; `None` for an epilogue that is refused.
    pub(super) fn emit(&self, operands: &[Bound]) -> Option<Body> {
        if let Some(mean) = &self.spec.mean {
            return self.emit_with_mean(operands, mean);
        }
        let mut out = Writer::default();
        let [rows, columns] = self.tiles();
        let mut axes = batch_axes(&self.spec.batch);
        axes.extend([("row".to_string(), rows), ("column".to_string(), columns), ("group".to_string(), self.groups())]);
        let grid = Grid::new(axes.iter().map(|(_, extent)| extent).product());
        grid.enter(&mut out);
        coordinates(&mut out, &axes);
        self.tile(&mut out, operands, &mut |_, _| ())?;
        Some(Body { writer: out, groups: grid.groups()?, parts: None })
    }

    /// The same where a group computes all pixels of some vectors of channels, a power of two that divides them, and their means.
    fn emit_with_mean(&self, operands: &[Bound], mean: &Strides) -> Option<Body> {
        let mut out = Writer::default();
        let [rows, columns] = self.tiles();
        let vectors = self.vectors_of_a_group();
        let mut axes = batch_axes(&self.spec.batch);
        axes.push(("slice".to_string(), self.groups() / vectors));
        together::enter(&mut out);
        coordinates(&mut out, &axes);
        out.line(format!("let group = {};", sum(0, &[("slice", vectors), (&format!("lane % {vectors}"), 1)])));
        out.line("var mean = vec4<f32>(0.0f);");
        let head = format!("for (var tile = lane / {vectors}; tile < {}; tile += {})", rows * columns, GROUP / vectors);
        out.block(head, |out| {
            out.line(format!("let row = tile / {columns};"));
            out.line(format!("let column = tile % {columns};"));
            self.tile(out, operands, &mut |out, value| out.line(format!("mean = mean + {value};")))
        })?;
        together::join(&mut out, &["mean".into()], vectors, |_, _, a, b| Some(format!("{a} + {b}")))?;
        let place = operands.len() - 1;
        out.block(format!("if lane < {vectors}"), |out| {
            let mean = self.channels(mean);
            let to = out.value(mean.at("0", "0"));
            let value = out.value(format!("mean / {:?}f", self.spec.window.pixels() as f32));
            mean.store(out, &operands[place], &to, "group", &value);
        });
        let groups = axes.iter().map(|(_, extent)| extent).product::<i64>();
        let parts = Parts { element: "vec4<f32>", count: 1 };
        (groups <= MOST_GROUPS).then_some(Body { writer: out, groups: [groups as u32, 1, 1], parts: Some(parts) })
    }

    /// Tiles down and along.
    fn tiles(&self) -> [i64; 2] {
        let Window { height, width, .. } = self.spec.window;
        [divide_up(height, self.tile[0]), divide_up(width, self.tile[1])]
    }

    /// Vectors of channels.
    fn groups(&self) -> i64 {
        divide_up(self.spec.channels, LANES)
    }

    /// Vectors of channels that a group computes the means of: so many that invocations find tiles, and that neighbours read what lies
    /// side by side.
    fn vectors_of_a_group(&self) -> i64 {
        let tiles: i64 = self.tiles().iter().product();
        let rounds = |vectors: &i64| (self.groups() / vectors) * divide_up(tiles * vectors, GROUP);
        let possible = [8, 4, 2, 1].into_iter().filter(|vectors| self.groups() % vectors == 0);
        possible.min_by_key(rounds).unwrap_or(1)
    }

    /// Computes a tile of pixels in row `row` and column `column` of tiles, of channels `group`; `then` sees each result.
    fn tile(&self, out: &mut Writer, operands: &[Bound], then: &mut dyn FnMut(&mut Writer, &str)) -> Option<()> {
        let DepthwiseSpec { window, input, .. } = self.spec;
        let [rows, columns] = self.tile;
        let tiles = self.tiles();
        out.line(format!("let y = {};", sum(0, &[("row", rows)])));
        out.line(format!("let x = {};", sum(0, &[("column", columns)])));
        out.line(format!("let input = {};", self.channels(input).start()));
        let neutral = self.neutral(out);
        for (row, column) in self.pixels() {
            out.line(format!("var s{row}_{column} = {neutral};"));
        }
        let [down, along] = [0, 1].map(|axis| self.positions(out, axis, tiles[axis]));
        let weights = self.weights(out, operands);
        let rows_of_taps = rows_of(&window.taps);
        let fixed = self.reader.fixed(out, operands, "group");
        for row in &down {
            let meeting: Vec<(i64, &[(usize, Tap)])> = (0..rows)
                .flat_map(|pixel| {
                    let meets = move |taps: &&Vec<(usize, Tap)>| pixel * window.step[0] + taps[0].1.row == row.offset;
                    rows_of_taps.iter().filter(meets).map(move |taps| (pixel, taps.as_slice()))
                })
                .collect();
            let values = self.values(out, operands, row, &along, &meeting, &fixed)?;
            self.join(out, &values, &meeting, &weights);
        }
        let further: Vec<Option<String>> = (self.spec.operands.iter().zip(&operands[FURTHER..]))
            .map(|(strides, operand)| self.channels(strides).load_fixed(out, operand, "group"))
            .collect();
        for (row, column) in self.pixels() {
            let checks: Vec<String> = [("y", row, 0, window.height), ("x", column, 1, window.width)]
                .into_iter()
                .filter(|&(_, place, axis, extent)| place > 0 && extent % self.tile[axis] != 0)
                .map(|(name, place, _, extent)| format!("({name} + {place} < {extent})"))
                .collect();
            match checks.is_empty() {
                true => self.result(out, operands, [row, column], &further, then)?,
                false => out.block(format!("if {}", checks.join(" & ")), |out| {
                    self.result(out, operands, [row, column], &further, then)
                })?,
            }
        }
        Some(())
    }

    /// What changes no sum, or is below all others.
    fn neutral(&self, out: &mut Writer) -> String {
        match (self.spec.combination, self.spec.element) {
            (Combination::Products | Combination::Sum, Element::F32 | Element::F16) => "vec4<f32>(0.0f)".into(),
            (Combination::Products | Combination::Sum, Element::I8) => "vec4<i32>(0)".into(),
            (Combination::Maximum, Element::F32 | Element::F16) => {
                format!("vec4<f32>({})", float(out, f32::NEG_INFINITY))
            }
            (Combination::Maximum, Element::I8) => "vec4<i32>(-128)".into(),
        }
    }

    fn pixels(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let [rows, columns] = self.tile;
        (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
    }

    /// The positions along an axis of the input that a tile meets, of so many tiles.
    fn positions(&self, out: &mut Writer, axis: usize, tiles: i64) -> Vec<Position> {
        let DepthwiseSpec { window, .. } = self.spec;
        let (step, input) = (window.step[axis], [window.input_height, window.input_width][axis]);
        let of_tap = |tap: &Tap| [tap.row, tap.column][axis];
        let all = window.taps.iter().flat_map(|tap| (0..self.tile[axis]).map(move |pixel| pixel * step + of_tap(tap)));
        let offsets: BTreeSet<i64> = all.collect();
        let position = |offset: i64| {
            let place = out.value(sum(offset, &[(["y", "x"][axis], step)]));
            let last = (tiles - 1) * self.tile[axis] * step + offset;
            let is_inside = offset >= 0 && last < input;
            let inside = (!is_inside).then(|| out.value(format!("u32({place}) < {input}u")));
            Position { offset, place, inside }
        };
        offsets.into_iter().map(position).collect()
    }

    /// The weights by tap, where there are any.
    fn weights(&self, out: &mut Writer, operands: &[Bound]) -> Vec<String> {
        let taps = self.spec.window.taps.len() as i64;
        match self.spec.combination {
            Combination::Products => {
                (0..taps).map(|tap| operands[WEIGHTS].load_quad(out, &sum(tap, &[("group", taps)]))).collect()
            }
            Combination::Maximum | Combination::Sum => Vec::new(),
        }
    }

    /// What rows of taps meet of a row of the input, by the position's offset.
    fn values(
        &self,
        out: &mut Writer,
        operands: &[Bound],
        row: &Position,
        along: &[Position],
        meeting: &[(i64, &[(usize, Tap)])],
        fixed: &[Option<String>],
    ) -> Option<BTreeMap<i64, String>> {
        let DepthwiseSpec { window, element, combination, .. } = self.spec;
        let input = self.channels(&self.spec.input);
        let outside = match combination {
            Combination::Products => self.reader.outside(out, *element)?,
            Combination::Maximum | Combination::Sum => self.neutral(out),
        };
        let is_met = |position: &&Position| {
            let taps = meeting.iter().flat_map(|(_, taps)| taps.iter());
            taps.flat_map(|(_, tap)| (0..self.tile[1]).map(|column| column * window.step[1] + tap.column))
                .any(|offset| offset == position.offset)
        };
        let mut values: BTreeMap<i64, String> = BTreeMap::new();
        for position in along.iter().filter(is_met) {
            let at = sum(0, &[("input", 1), (&input.pixel(&row.place, &position.place), 1)]);
            let checks: Vec<&str> = [&row.inside, &position.inside].into_iter().flatten().map(String::as_str).collect();
            let is_inside = (!checks.is_empty()).then(|| out.value(checks.join(" & ")));
            let at = match &is_inside {
                None => out.value(at),
                Some(is_inside) => out.value(format!("select(0, {at}, {is_inside})")),
            };
            let loaded = input.load(out, &operands[INPUT], &at, "group");
            let pixel = [&row.place, &position.place, "group"];
            let value = self.reader.value(out, operands, loaded, fixed, pixel, is_inside.as_deref())?;
            let value = match is_inside {
                None => value,
                Some(is_inside) => out.value(format!("select({outside}, {value}, {is_inside})")),
            };
            values.insert(position.offset, value);
        }
        Some(values)
    }

    /// Joins a row of the input to the sums of the rows of pixels that meet it, each by a row of taps with their places.
    fn join(
        &self,
        out: &mut Writer,
        values: &BTreeMap<i64, String>,
        meeting: &[(i64, &[(usize, Tap)])],
        weights: &[String],
    ) {
        let DepthwiseSpec { window, element, combination, .. } = self.spec;
        for (pixel, taps) in meeting {
            for (place, tap) in *taps {
                for column in 0..self.tile[1] {
                    let (value, sum) = (&values[&(column * window.step[1] + tap.column)], format!("s{pixel}_{column}"));
                    out.line(match (combination, element) {
                        (Combination::Products, Element::F32 | Element::F16) => {
                            format!("{sum} = fma({value}, {}, {sum});", weights[*place])
                        }
                        (Combination::Products, Element::I8) => {
                            format!("{sum} = {sum} + {value} * {};", weights[*place])
                        }
                        // NaN wins over every number.
                        (Combination::Maximum, Element::F32 | Element::F16) => {
                            format!("{sum} = select({value}, {sum}, ({value} <= {sum}) | ({sum} != {sum}));")
                        }
                        (Combination::Maximum, Element::I8) => format!("{sum} = max({value}, {sum});"),
                        (Combination::Sum, _) => format!("{sum} = {sum} + {value};"),
                    });
                }
            }
        }
    }

    fn result(
        &self,
        out: &mut Writer,
        operands: &[Bound],
        [row, column]: [i64; 2],
        fixed: &[Option<String>],
        then: &mut dyn FnMut(&mut Writer, &str),
    ) -> Option<()> {
        let DepthwiseSpec { output, operands: further, epilogue, .. } = self.spec;
        let y = out.value(sum(row, &[("y", 1)]));
        let x = out.value(sum(column, &[("x", 1)]));
        let mut arguments = vec![format!("s{row}_{column}")];
        for (place, strides) in further.iter().enumerate() {
            if let Some(fixed) = &fixed[place] {
                arguments.push(fixed.clone());
                continue;
            }
            let channels = self.channels(strides);
            let from = out.value(channels.at(&y, &x));
            arguments.push(channels.load(out, &operands[FURTHER + place], &from, "group"));
        }
        let value = expression::emit_stored(out, epilogue, &arguments, Width::Four)?;
        let output = self.channels(output);
        let to = out.value(output.at(&y, &x));
        output.store(out, &operands[OUTPUT], &to, "group", &value);
        then(out, &value);
        Some(())
    }
}

/// A row or a column of the input that a tile meets.
struct Position {
    /// From the position of the tile's first pixel.
    offset: i64,
    /// Its text.
    place: String,
    /// Whether it lies within the input, where some tile meets what does not.
    inside: Option<String>,
}

/// The taps with their places, row by row, each row by ascending column.
fn rows_of(taps: &[Tap]) -> Vec<Vec<(usize, Tap)>> {
    let mut rows: Vec<Vec<(usize, Tap)>> = Vec::new();
    for (place, &tap) in taps.iter().enumerate() {
        match rows.iter_mut().find(|row| row[0].1.row == tap.row) {
            Some(row) => row.push((place, tap)),
            None => rows.push(vec![(place, tap)]),
        }
    }
    rows.iter_mut().for_each(|row| row.sort_by_key(|(_, tap)| tap.column));
    rows
}
