//! Emission of depthwise convolutions and max pools: an invocation computes neighbouring pixels of a row by four channels and
//! loads each input position of a row of taps once.

use std::collections::BTreeSet;

use super::Body;
use super::binding::{Bound, Use};
use super::expression;
use super::grid::{Grid, coordinates};
use super::strides::{Channels, LANES, batch_axes, sum};
use super::value::{Width, float};
use super::writer::Writer;
use crate::contraction::{Combination, DepthwiseSpec, Strides, Tap, divide_up};
use crate::cpu::contraction::operand::{FURTHER, INPUT, OUTPUT, WEIGHTS};
use crate::schedule::DepthwiseSchedule;

/// A depthwise convolution as a shader computes it.
pub(super) struct Depthwise<'a> {
    spec: &'a DepthwiseSpec,
    /// Pixels of an invocation.
    columns: i64,
}

impl<'a> Depthwise<'a> {
    pub(super) fn new(spec: &'a DepthwiseSpec, schedule: &DepthwiseSchedule) -> Depthwise<'a> {
        Depthwise { spec, columns: schedule.columns }
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
            Combination::Maximum => input,
        };
        let mut uses = vec![input, weights, self.channels(output).write(types[OUTPUT])];
        uses.extend(operands.iter().zip(&types[FURTHER..]).map(|(strides, &dtype)| self.channels(strides).read(dtype)));
        uses
    }

    /// What each invocation does; `None` for an epilogue that is refused.
    pub(super) fn emit(&self, operands: &[Bound]) -> Option<Body> {
        let mut out = Writer::default();
        let window = &self.spec.window;
        let mut axes = batch_axes(&self.spec.batch);
        axes.extend([
            ("y".to_string(), window.height),
            ("tile".to_string(), divide_up(window.width, self.columns)),
            ("group".to_string(), divide_up(self.spec.channels, LANES)),
        ]);
        let grid = Grid::new(axes.iter().map(|(_, extent)| extent).product());
        grid.enter(&mut out);
        coordinates(&mut out, &axes);
        out.line(format!("let x = tile * {};", self.columns));
        out.line(format!("let input = {};", self.channels(&self.spec.input).start()));
        let first = match self.spec.combination {
            Combination::Products => "0.0f".to_string(),
            Combination::Maximum => float(&mut out, f32::NEG_INFINITY),
        };
        for column in 0..self.columns {
            out.line(format!("var s{column} = vec4<f32>({first});"));
        }
        for taps in rows_of(&window.taps) {
            self.row(&mut out, operands, &taps);
        }
        for column in 0..self.columns {
            if window.width % self.columns == 0 || column == 0 {
                self.result(&mut out, operands, column)?;
            } else {
                let head = format!("if x + {column} < {}", window.width);
                out.block(head, |out| self.result(out, operands, column))?;
            }
        }
        Some(Body { writer: out, groups: grid.groups()?, parts: None })
    }

    /// Joins one row of taps, each with its place, to the sums.
    fn row(&self, out: &mut Writer, operands: &[Bound], taps: &[(usize, Tap)]) {
        let DepthwiseSpec { window, input, combination, .. } = self.spec;
        let input = self.channels(input);
        let row = out.value(sum(taps[0].1.row, &[("y", window.step[0])]));
        let checks_rows = window.interior_rows() != [0, window.height];
        let checks_columns = window.interior_columns() != [0, window.width] || window.width % self.columns != 0;
        let positions: BTreeSet<i64> = taps
            .iter()
            .flat_map(|(_, tap)| (0..self.columns).map(|column| column * window.step[1] + tap.column))
            .collect();
        let name = |position: i64| positions.range(..position).count();
        for &position in &positions {
            let column = out.value(sum(position, &[("x", window.step[1])]));
            let at = sum(0, &[("input", 1), (&input.pixel(&row, &column), 1)]);
            let inside: Vec<String> =
                [(checks_rows, &row, window.input_height), (checks_columns, &column, window.input_width)]
                    .into_iter()
                    .filter(|(checks, ..)| *checks)
                    .map(|(_, name, extent)| format!("(u32({name}) < {extent}u)"))
                    .collect();
            let place = name(position);
            let is_inside = (!inside.is_empty()).then(|| out.value(inside.join(" & ")));
            let at = match &is_inside {
                None => out.value(at),
                Some(is_inside) => out.value(format!("select(0, {at}, {is_inside})")),
            };
            let loaded = input.load(out, &operands[INPUT], &at, "group");
            let outside = match combination {
                Combination::Products => "0.0f".to_string(),
                Combination::Maximum => float(out, f32::NEG_INFINITY),
            };
            let value = match is_inside {
                None => loaded,
                Some(is_inside) => format!("select(vec4<f32>({outside}), {loaded}, {is_inside})"),
            };
            out.line(format!("let r{}_{place} = {value};", taps[0].0));
        }
        for (place, tap) in taps {
            let weight = (*combination == Combination::Products)
                .then(|| operands[WEIGHTS].load_quad(out, &sum(*place as i64, &[("group", window.taps.len() as i64)])));
            for column in 0..self.columns {
                let value = format!("r{}_{}", taps[0].0, name(column * window.step[1] + tap.column));
                out.line(match &weight {
                    Some(weight) => format!("s{column} = fma({value}, {weight}, s{column});"),
                    // NaN wins over every number.
                    None => format!(
                        "s{column} = select({value}, s{column}, ({value} <= s{column}) | (s{column} != s{column}));"
                    ),
                });
            }
        }
    }

    fn result(&self, out: &mut Writer, operands: &[Bound], column: i64) -> Option<()> {
        let DepthwiseSpec { output, operands: further, epilogue, .. } = self.spec;
        let x = out.value(sum(column, &[("x", 1)]));
        let mut arguments = vec![format!("s{column}")];
        for (place, strides) in further.iter().enumerate() {
            let channels = self.channels(strides);
            let from = out.value(channels.at("y", &x));
            arguments.push(channels.load(out, &operands[FURTHER + place], &from, "group"));
        }
        let value = expression::emit_stored(out, epilogue, &arguments, Width::Four)?;
        let output = self.channels(output);
        let to = out.value(output.at("y", &x));
        output.store(out, &operands[OUTPUT], &to, "group", &value);
        Some(())
    }
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
