//! Emission of contractions: an invocation computes some pixels by one tile of channels, sums in registers. Weights come as
//! the CPU's kernels read them, `[matrix][panel][tap][k][channel]`; a panel is one tile, or several side by side. Of i8 the depth
//! goes by blocks of eight: `[matrix][panel][run of taps][block][channel][8]`, summed by `dot4I8Packed`.

mod integers;

use super::Body;
use super::binding::{Bound, Use};
use super::expression;
use super::grid::{Grid, coordinates};
use super::reading::Reader;
use super::strides::{Channels, LANES, batch_axes, batch_sum, sum};
use super::together::{self, Parts};
use super::value::Width;
use super::within::{Place, Within};
use super::writer::Writer;
use crate::contraction::{ContractionSpec, Element, Reading, Strides, Tap, Window, divide_up};
use crate::cpu::contraction::operand::{FURTHER, INPUT, OUTPUT, WEIGHTS};
use crate::pack::PackedLayout;
use crate::schedule::Schedule;
use edgecc_ir::DType;

/// A contraction as a shader computes it.
pub(super) struct Contraction<'a> {
    spec: &'a ContractionSpec,
    layout: PackedLayout,
    /// Pixels of an invocation.
    rows: i64,
    /// Vectors of channels of an invocation.
    vectors: i64,
    /// Tiles of channels of a panel.
    panel_tiles: i64,
    /// Whether a group computes a tile together, each invocation a part of the depth.
    is_together: bool,
    /// The input, whose channels are the depth.
    input: Channels,
    /// What is summed of it.
    reader: Reader<'a>,
    /// The depthwise convolution whose results are summed instead.
    within: Option<Within<'a>>,
}

impl<'a> Contraction<'a> {
    pub(super) fn new(spec: &'a ContractionSpec, schedule: &Schedule) -> Contraction<'a> {
        let layout = PackedLayout::of(spec, schedule);
        let own = FURTHER + spec.operands.len();
        let within = spec.reading.as_ref().and_then(Reading::depthwise).map(|within| Within::new(within, own));
        let input = match &within {
            Some(within) => within.input.clone(),
            None => Channels::of(&spec.input, &spec.batch, spec.depth),
        };
        let Schedule { tile, panel_tiles, together, .. } = *schedule;
        let is_together = input.quads && together && spec.element != Element::I8;
        let width = if input.quads || spec.element == Element::I8 { Width::Four } else { Width::One };
        let elements = spec.reading.as_ref().and_then(Reading::elements);
        let reader = Reader::new(elements, &spec.batch, spec.depth, own, width);
        let (rows, vectors) = (tile.rows, tile.vectors);
        Contraction { spec, layout, rows, vectors, panel_tiles, is_together, input, reader, within }
    }

    /// The output or a further operand.
    fn result(&self, strides: &Strides) -> Channels {
        Channels::of(strides, &self.spec.batch, self.spec.channels)
    }

    /// How it uses its operands.
    pub(super) fn uses(&self) -> Vec<Use> {
        let ContractionSpec { output, operands, .. } = self.spec;
        let types = self.spec.types();
        let mut uses = vec![
            self.input.read(types[INPUT]),
            match self.spec.element {
                Element::F32 | Element::F16 => Use::read(types[WEIGHTS], true),
                // Words of four along the depth.
                Element::I8 => Use::read(DType::U32, true),
            },
            self.result(output).write(types[OUTPUT]),
        ];
        uses.extend(operands.iter().zip(&types[FURTHER..]).map(|(strides, &dtype)| self.result(strides).read(dtype)));
        uses.extend(match &self.within {
            Some(within) => within.uses(&types),
            None => self.reader.uses(&types),
        });
        uses
    }

    /// What each invocation does; `None` for an epilogue that is refused.
    pub(super) fn emit(&self, operands: &[Bound]) -> Option<Body> {
        let mut out = Writer::default();
        let spec = self.spec;
        let tiles = divide_up(spec.window.pixels(), self.rows);
        let mut axes = batch_axes(&spec.batch);
        let columns = divide_up(spec.channels, LANES) / self.vectors;
        axes.extend([("tile".to_string(), tiles), ("column".to_string(), columns)]);
        let units = axes.iter().map(|(_, extent)| extent).product();
        let grid = Grid::new(units);
        match self.is_together {
            true => together::enter(&mut out),
            false => grid.enter(&mut out),
        }
        coordinates(&mut out, &axes);
        self.pixels(&mut out);
        if self.within.is_none() {
            out.line(format!("let input = {};", self.input.start()));
        }
        out.line(format!("let weights = {};", self.weights_start()));
        if self.has_narrow_panel() {
            let [full, last] =
                [self.layout.panel, self.layout.width(self.layout.full_panels())].map(|width| self.row_vectors(width));
            let first = self.layout.full_panels() * self.panel_tiles;
            out.line(format!("let row = select({full}, {last}, column >= {first});"));
        }
        let sums = self.sums_as(operands);
        for (row, vector) in self.sums() {
            out.line(format!("var {}{row}_{vector} = {};", sums.prefix(), sums.zero()));
        }
        self.taps(&mut out, operands)?;
        if sums == Sums::Halves {
            for (row, vector) in self.sums() {
                out.line(format!("var s{row}_{vector} = vec4<f32>(h{row}_{vector});"));
            }
        }
        if !self.is_together {
            self.results(&mut out, operands)?;
            return Some(Body { writer: out, groups: grid.groups()?, parts: None });
        }
        let names: Vec<String> = self.sums().map(|(row, vector)| format!("s{row}_{vector}")).collect();
        together::join(&mut out, &names, 1, |_, _, a, b| Some(format!("{a} + {b}")))?;
        out.block("if lane == 0", |out| self.results(out, operands))?;
        let parts = Parts { element: "vec4<f32>", count: names.len() };
        Some(Body { writer: out, groups: [u32::try_from(units).ok()?, 1, 1], parts: Some(parts) })
    }

    /// What sums are of: halves where both factors are bound as such, and none is computed in singles on the way.
    fn sums_as(&self, operands: &[Bound]) -> Sums {
        let is_loaded = self.input.quads && self.within.is_none();
        let are_halves = is_loaded && [INPUT, WEIGHTS].iter().all(|&place| operands[place].holds_halves());
        match self.spec.element {
            Element::I8 => Sums::Integers,
            Element::F16 if are_halves => Sums::Halves,
            Element::F16 | Element::F32 => Sums::Singles,
        }
    }

    /// Elements of a vector of weights.
    fn vector_elements(&self) -> i64 {
        if self.spec.element == Element::I8 { 16 } else { LANES }
    }

    /// Vectors of weights of four channels in a row of the depth, of i8 in a block.
    fn column_vectors(&self) -> i64 {
        LANES * self.spec.element.depth_block() / self.vector_elements()
    }

    /// Vectors of weights of so many channels.
    fn row_vectors(&self, channels: i64) -> i64 {
        channels / LANES * self.column_vectors()
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

    /// The tile's first weights, counted in vectors.
    fn weights_start(&self) -> String {
        let matrix = self.layout.matrix_elements() / self.vector_elements();
        let steps: Vec<i64> = self.spec.weight_batch.iter().map(|matrices| matrices * matrix).collect();
        let panel = self.layout.panel_elements() / self.vector_elements();
        if self.panel_tiles == 1 {
            return batch_sum(0, &self.spec.batch, &steps, &[("column", panel)]);
        }
        let (before, within) = (format!("column / {}", self.panel_tiles), format!("column % {}", self.panel_tiles));
        batch_sum(
            0,
            &self.spec.batch,
            &steps,
            &[(&format!("({before})"), panel), (&format!("({within})"), self.vectors * self.column_vectors())],
        )
    }

    /// Whether the last panel has fewer vectors to a row of the depth than those before it.
    fn has_narrow_panel(&self) -> bool {
        self.layout.full_panels() > 0 && self.layout.last_channels() > 0 && self.panel_tiles > 1
    }

    /// Vectors of weights that `place` times `rows` rows of the depth, of i8 blocks, have, and `further` rows.
    fn weight_rows(&self, (place, rows): (&str, i64), further: i64) -> String {
        if self.has_narrow_panel() {
            return format!("({}) * row", sum(further, &[(place, rows)]));
        }
        let row = self.row_vectors(self.layout.width(0));
        sum(further * row, &[(place, rows * row)])
    }

    /// Adds the products of all results of a depthwise convolution to the sums.
    fn results_within(&self, out: &mut Writer, operands: &[Bound], within: &Within<'_>) -> Option<()> {
        let places: Vec<Place> =
            (0..self.rows).map(|pixel| within.place(out, &format!("y{pixel}"), &format!("x{pixel}"))).collect();
        out.line("let w = weights;");
        out.block(format!("for (var k = 0; k < {}; k++)", self.spec.depth / LANES), |out| {
            let weights = within.weights(out, operands, "k");
            for (pixel, place) in places.iter().enumerate() {
                let value = within.value(out, operands, place, &weights, "k")?;
                out.line(format!("let f{pixel} = {value};"));
            }
            self.products(out, operands, LANES);
            Some(())
        })
    }

    /// Adds the products of factors `f` of the pixels, of so many channels each.
    fn products(&self, out: &mut Writer, operands: &[Bound], lanes: i64) {
        let sums = self.sums_as(operands);
        for (lane, vector) in (0..lanes).flat_map(|lane| (0..self.vectors).map(move |vector| (lane, vector))) {
            let at = sum(vector, &[("w", 1), (&self.weight_rows(("k", lanes), lane), 1)]);
            let weight = match sums {
                Sums::Halves => operands[WEIGHTS].load_halves(out, &at),
                Sums::Singles | Sums::Integers => operands[WEIGHTS].load_quad(out, &at),
            };
            for pixel in 0..self.rows {
                let factor = if lanes == 1 { format!("f{pixel}") } else { format!("f{pixel}[{lane}]") };
                let name = format!("{}{pixel}_{vector}", sums.prefix());
                out.line(format!("{name} = fma({}({factor}), {weight}, {name});", sums.vector()));
            }
        }
    }

    /// Adds the products of all taps to the sums.
    fn taps(&self, out: &mut Writer, operands: &[Bound]) -> Option<()> {
        if let Some(within) = &self.within {
            return self.results_within(out, operands, within);
        }
        // The first taps of runs, which are of one each but for i8.
        let taps: Vec<Tap> = self.spec.window.taps.iter().step_by(self.layout.run as usize).copied().collect();
        if let [tap] = taps[..] {
            return self.tap(out, operands, [&tap.row.to_string(), &tap.column.to_string(), "0"]);
        }
        match TapGrid::of(&taps) {
            Some(TapGrid { axes: [rows, columns] }) => {
                out.block(format!("for (var a = 0; a < {}; a++)", rows.count), |out| {
                    out.block(format!("for (var b = 0; b < {}; b++)", columns.count), |out| {
                        let row = sum(rows.first, &[("a", rows.step)]);
                        let column = sum(columns.first, &[("b", columns.step)]);
                        let tap = format!("({})", sum(0, &[("a", columns.count), ("b", 1)]));
                        self.tap(out, operands, [&row, &column, &tap])
                    })
                })
            }
            None => taps.iter().enumerate().try_for_each(|(place, tap)| {
                let texts = [tap.row.to_string(), tap.column.to_string(), place.to_string()];
                out.block("if true", |out| self.tap(out, operands, [&texts[0], &texts[1], &texts[2]]))
            }),
        }
    }

    /// Adds the products of one tap: texts of its row, its column and its place.
    fn tap(&self, out: &mut Writer, operands: &[Bound], [row, column, place]: [&str; 3]) -> Option<()> {
        for pixel in 0..self.rows {
            self.input_place(out, pixel, row, column);
        }
        let rows = self.layout.run_rows() / self.spec.element.depth_block();
        let before = self.weight_rows((place, rows), 0);
        out.line(format!("let w = {};", if place == "0" { "weights".into() } else { format!("weights + {before}") }));
        if self.spec.element == Element::I8 {
            return self.products_of_integers(out, operands);
        }
        // Channels of one load.
        let lanes = if self.input.quads { LANES } else { 1 };
        let head = match self.is_together {
            true => together::shared_loop("k", self.spec.depth / lanes),
            false => format!("for (var k = 0; k < {}; k++)", self.spec.depth / lanes),
        };
        out.block(head, |out| {
            let fixed = self.reader.fixed(out, operands, "k");
            for pixel in 0..self.rows {
                let value = self.factor(out, operands, pixel, &fixed)?;
                out.line(format!("let f{pixel} = {value};"));
            }
            self.products(out, operands, lanes);
            Some(())
        })
    }

    /// What pixel `pixel` meets at place `k` of the depth, or at four of them.
    fn factor(&self, out: &mut Writer, operands: &[Bound], pixel: i64, fixed: &[Option<String>]) -> Option<String> {
        let at = format!("at{pixel}");
        let (is_half, is_map) = (self.sums_as(operands) == Sums::Halves, self.reader.is_map());
        let loaded = match self.input.quads {
            true if is_half && !is_map => operands[INPUT].load_halves(out, &format!("{at} + k")),
            true => operands[INPUT].load_quad(out, &format!("{at} + k")),
            false => operands[INPUT].load(out, &self.input.element(&at, "k")),
        };
        let [inside, i, j] = ["in", "i", "j"].map(|name| format!("{name}{pixel}"));
        let inside = (!self.spec.window.is_interior()).then_some(inside.as_str());
        let value = self.reader.value(out, operands, loaded, fixed, [&i, &j, "k"], inside)?;
        let halved = |value: String| if is_half { format!("vec4<f16>({value})") } else { value };
        let value = if is_map { halved(value) } else { value };
        let Some(inside) = inside else { return Some(value) };
        let outside = halved(self.reader.outside(out, self.spec.element)?);
        Some(format!("select({outside}, {value}, {inside})"))
    }

    /// `at`: where a pixel's tap lies in the input, and `in`: whether it does. Of a run of taps some may lie within and some not: `at` is where
    /// its row begins, and `in` whether that lies within.
    fn input_place(&self, out: &mut Writer, pixel: i64, row: &str, column: &str) {
        let window = &self.spec.window;
        let (y, x) = (format!("y{pixel}"), format!("x{pixel}"));
        out.line(format!("let i{pixel} = {};", sum(0, &[(&y, window.step[0]), (row, 1)])));
        out.line(format!("let j{pixel} = {};", sum(0, &[(&x, window.step[1]), (column, 1)])));
        let at = sum(0, &[("input", 1), (&self.input.pixel(&format!("i{pixel}"), &format!("j{pixel}")), 1)]);
        if window.is_interior() {
            return out.line(format!("let at{pixel} = {at};"));
        }
        let (height, width) = (window.input_height, window.input_width);
        if self.layout.run > 1 {
            let row = sum(0, &[("input", 1), (&self.input.pixel(&format!("i{pixel}"), "0"), 1)]);
            out.line(format!("let in{pixel} = u32(i{pixel}) < {height}u;"));
            return out.line(format!("let at{pixel} = {row};"));
        }
        out.line(format!("let in{pixel} = (u32(i{pixel}) < {height}u) & (u32(j{pixel}) < {width}u);"));
        out.line(format!("let at{pixel} = select(0, {at}, in{pixel});"));
    }

    /// Finishes the sums and writes them.
    fn results(&self, out: &mut Writer, operands: &[Bound]) -> Option<()> {
        let pixels = self.spec.window.pixels();
        let columns: Vec<Column> = (0..self.vectors).map(|vector| self.column(out, operands, vector)).collect();
        for pixel in 0..self.rows {
            // Tiles are whole but for the last, whose first pixel there always is.
            if pixels % self.rows == 0 || pixel == 0 {
                self.write_pixel(out, operands, pixel, &columns)?;
            } else {
                let head = format!("if {} < {pixels}", sum(pixel, &[("tile", self.rows)]));
                out.block(head, |out| self.write_pixel(out, operands, pixel, &columns))?;
            }
        }
        Some(())
    }

    /// What all pixels of a vector of channels have in common.
    fn column(&self, out: &mut Writer, operands: &[Bound], vector: i64) -> Column {
        let place = out.value(sum(vector, &[("column", self.vectors)]));
        let further = self.spec.operands.iter().zip(&operands[FURTHER..]);
        let further = further.map(|(strides, operand)| self.result(strides).load_fixed(out, operand, &place)).collect();
        Column { place, further }
    }

    fn write_pixel(&self, out: &mut Writer, operands: &[Bound], pixel: i64, columns: &[Column]) -> Option<()> {
        let ContractionSpec { output, epilogue, operands: further, .. } = self.spec;
        let (y, x) = (format!("y{pixel}"), format!("x{pixel}"));
        let output = self.result(output);
        let to = out.value(output.at(&y, &x));
        let further: Vec<Channels> = further.iter().map(|strides| self.result(strides)).collect();
        let from: Vec<String> = further.iter().map(|channels| out.value(channels.at(&y, &x))).collect();
        for (vector, column) in columns.iter().enumerate() {
            let mut arguments = vec![format!("s{pixel}_{vector}")];
            for (number, channels) in further.iter().enumerate() {
                arguments.push(match &column.further[number] {
                    Some(fixed) => fixed.clone(),
                    None => channels.load(out, &operands[FURTHER + number], &from[number], &column.place),
                });
            }
            let value = expression::emit_stored(out, epilogue, &arguments, Width::Four)?;
            output.store(out, &operands[OUTPUT], &to, &column.place, &value);
        }
        Some(())
    }
}

/// A vector of channels of a tile: its place among all, and those further operands that are the same for every pixel.
struct Column {
    place: String,
    further: Vec<Option<String>>,
}

/// What a contraction's sums are in WGSL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sums {
    Singles,
    /// Halves, which become singles behind the last product.
    Halves,
    Integers,
}

impl Sums {
    fn vector(self) -> &'static str {
        match self {
            Sums::Singles => "vec4<f32>",
            Sums::Halves => "vec4<f16>",
            Sums::Integers => "vec4<i32>",
        }
    }

    fn zero(self) -> &'static str {
        match self {
            Sums::Singles => "vec4<f32>(0.0f)",
            Sums::Halves => "vec4<f16>(0.0h)",
            Sums::Integers => "vec4<i32>(0)",
        }
    }

    /// What the names of its variables begin with.
    fn prefix(self) -> &'static str {
        if self == Sums::Halves { "h" } else { "s" }
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
