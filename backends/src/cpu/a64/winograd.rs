//! The transforms of Winograd's convolution: a unit of the range is one row of tiles of one image. Each group of vectors of
//! channels goes through a tile in two passes, along one axis and then along the other; between them the tile's numbers lie
//! in cells on the stack. The last tile of an axis has code of its own where it has fewer outputs.

mod input;
mod output;

use half::f16;

use crate::contraction::Element;
use crate::winograd::{Region, Shape, Step, Tiling, Transform, factors};

use super::address::split;
use super::assembler::Assembler;
use super::instruction::{Access, After, Arrangement, ByLane, Cond, Instruction, Lanes, SP, V, X};
use super::units;

pub use input::emit_winograd_input;
pub use output::emit_winograd_output;

const REGISTERS: usize = 32;
/// Vectors of channels that an access of several registers moves.
const MOST_VECTORS: usize = 4;

/// Registers of integers, by what they hold.
mod register {
    use super::X;

    pub const BASES: X = X(0);
    pub const SCRATCH: [X; 4] = [X(1), X(2), X(16), X(17)];
    /// The tile's numbers in each region, at channel 0.
    pub const REGIONS: [X; 4] = [X(3), X(4), X(5), X(6)];
    /// Bytes of the channels in front of the group.
    pub const CHANNEL: X = X(7);
    pub const GROUPS_LEFT: X = X(8);
    pub const LEFT: X = X(9);
    pub const TILES_LEFT: X = X(10);
    /// The cell at work, and bytes from one to the next of a row and of a column.
    pub const CELL: X = X(11);
    pub const CELL_STEP: X = X(12);
    pub const CELL_ROW: X = X(13);
    /// Numbers of the column of points at work: of points that all tiles have, and of those that the last leaves out. From one
    /// row of points to the next, and from behind the last to the next column.
    pub const NUMBERS: [X; 2] = [X(21), X(22)];
    pub const NUMBERS_STEP: [X; 2] = [X(14), X(15)];
    pub const NUMBERS_BACK: [X; 2] = [X(19), X(20)];
    /// For the images on the other side.
    pub const POOL: [X; 8] = [X(30), X(29), X(28), X(27), X(26), X(25), X(24), X(23)];
}

/// The first word of the cells.
const CELLS_SLOT: u16 = units::SLOTS;

/// What both transforms have in common.
struct Transforming {
    element: Element,
    tiling: Tiling,
    channels: i64,
    /// Vectors of channels of a whole group.
    vectors: usize,
    /// Columns of cells.
    columns: usize,
}

/// A group's registers: operands and results of a transform, each as many vectors.
#[derive(Clone, Copy)]
struct Slots {
    first: usize,
    vectors: usize,
}

impl Slots {
    fn at(self, slot: usize, vector: usize) -> V {
        V((self.first + slot * self.vectors + vector) as u8)
    }

    fn move_slot(self, a: &mut Assembler, access: Access, slot: usize, base: X, after: After) {
        a.push(Instruction::Multiple(access, self.at(slot, 0), self.vectors as u8, base, after));
    }
}

/// Factors of steps as lanes of the first registers.
struct Factors {
    element: Element,
    values: Vec<f64>,
}

impl Factors {
    fn of(element: Element, transforms: &[Transform; 2]) -> Factors {
        Factors { element, values: factors(transforms) }
    }

    fn registers(&self) -> usize {
        self.values.len().div_ceil(self.element.lanes() as usize)
    }

    fn load(&self, a: &mut Assembler) {
        for (register, values) in self.values.chunks(self.element.lanes() as usize).enumerate() {
            let mut lanes = [0u32; 4];
            for (place, &value) in values.iter().enumerate() {
                match self.element {
                    Element::F32 | Element::I8 => lanes[place] = (value as f32).to_bits(),
                    Element::F16 => {
                        lanes[place / 2] |= u32::from(f16::from_f64(value).to_bits()) << (16 * (place % 2));
                    }
                }
            }
            a.literal(V(register as u8), lanes);
        }
    }

    fn lane(&self, value: f64) -> (V, u8) {
        let place = self.values.iter().position(|&other| other == value).unwrap_or(0);
        let lanes = self.element.lanes() as usize;
        (V((place / lanes) as u8), (place % lanes) as u8)
    }

    /// The steps of a transform.
    fn apply(&self, a: &mut Assembler, transform: &Transform, slots: Slots) {
        let of = Arrangement::of(self.element);
        for step in &transform.steps {
            for vector in 0..slots.vectors {
                let at = |slot: usize| slots.at(slot, vector);
                a.push(match *step {
                    Step::Copy(to, x) => Instruction::Lanes(Lanes::Or, Arrangement::S4, at(to), at(x), at(x)),
                    Step::Add(to, x, y) => Instruction::Lanes(Lanes::Add, of, at(to), at(x), at(y)),
                    Step::Subtract(to, x, y) => Instruction::Lanes(Lanes::Subtract, of, at(to), at(x), at(y)),
                    Step::Scale(to, x, factor) => {
                        let (register, lane) = self.lane(factor);
                        Instruction::ByLane(ByLane::Multiply, of, at(to), at(x), register, lane)
                    }
                    Step::AddScaled(to, x, factor) => {
                        let op = if factor < 0.0 { ByLane::MultiplySubtract } else { ByLane::MultiplyAdd };
                        let (register, lane) = self.lane(factor.abs());
                        Instruction::ByLane(op, of, at(to), at(x), register, lane)
                    }
                });
            }
        }
    }
}

impl Transforming {
    /// `transforms(outputs)` are those of a tile of so many rows and columns of outputs.
    fn of(
        (element, tiling, channels): (Element, Tiling, i64),
        transforms: &dyn Fn([i64; 2]) -> [Transform; 2],
    ) -> Transforming {
        let [rows, columns] = [0, 1].map(|axis| tiling.sizes(axis));
        let shapes = rows.iter().flat_map(|&(_, row)| columns.iter().map(move |&(_, column)| [row, column]));
        let fitting = shapes.map(|outputs| {
            let both = transforms(outputs);
            let free = REGISTERS - Factors::of(element, &both).registers();
            free / both[0].slots.max(both[1].slots)
        });
        let vectors = fitting.min().unwrap_or(1).clamp(1, MOST_VECTORS);
        let vectors = vectors.min((channels / element.lanes()).max(1) as usize);
        Transforming { element, tiling, channels, vectors, columns: tiling.axes[1].points as usize }
    }

    /// Bytes of an element.
    fn size(&self) -> i64 {
        self.element.bytes()
    }

    /// Bytes of the channels of a tile at one pair of points.
    fn number_bytes(&self) -> i64 {
        self.channels * self.size()
    }

    fn cell_bytes(&self) -> i64 {
        16 * self.vectors as i64
    }

    /// Words of the stack, with so many rows of cells.
    fn stack_words(&self, rows: i64) -> u16 {
        CELLS_SLOT + (rows * self.columns as i64 * self.cell_bytes() / 8) as u16
    }

    fn prepare(&self, a: &mut Assembler) {
        a.constant(register::CELL_STEP, self.cell_bytes());
        a.constant(register::CELL_ROW, self.columns as i64 * self.cell_bytes());
    }

    /// Gives the image and the row of tiles of a unit, and finds the row's numbers; operand `index` holds them.
    fn locate_unit(&self, a: &mut Assembler, unit: X, index: usize, (image, row): (X, X)) {
        let [_, _, part, scratch] = register::SCRATCH;
        split(a, unit, self.tiling.tiles()[0], (image, row), scratch);
        for region in self.tiling.regions() {
            let address = region_register(region.is_rest);
            a.push(Instruction::Word(Access::Load, address, register::BASES, 8 * index as u16));
            a.add(address, address, region.before * self.number_bytes(), scratch);
            a.add_product(part, image, region.tiles[0], row, scratch);
            a.add_product(address, part, region.tiles[1] * self.number_bytes(), address, scratch);
        }
    }

    /// Emits `body` for each size of the unit's row of tiles.
    fn for_each_size(
        &self,
        a: &mut Assembler,
        row: X,
        mut body: impl FnMut(&mut Assembler, i64) -> Option<()>,
    ) -> Option<()> {
        let [.., scratch] = register::SCRATCH;
        match self.tiling.sizes(0).as_slice() {
            &[(_, whole), (_, rest)] => {
                let (last, next) = (a.label(), a.label());
                a.constant(scratch, self.tiling.tiles()[0] - 1);
                a.push(Instruction::Compare(row, scratch));
                a.push(Instruction::BranchIf(Cond::Equal, last));
                body(a, whole)?;
                a.push(Instruction::Branch(next));
                a.place(last);
                body(a, rest)?;
                a.place(next);
                Some(())
            }
            sizes => sizes.iter().try_for_each(|&(_, outputs)| body(a, outputs)),
        }
    }

    /// Emits `tile` for each tile of a row of so many rows of outputs: once for those of `inside`.
    fn tiles(
        &self,
        a: &mut Assembler,
        rows: i64,
        inside: [i64; 2],
        mut tile: impl FnMut(&mut Assembler, Shape) -> Option<()>,
    ) -> Option<()> {
        for (shape, count) in self.tiling.row(rows, inside) {
            if shape.column.is_some() {
                tile(a, shape)?;
                self.next_tile(a);
                continue;
            }
            a.constant(register::TILES_LEFT, count);
            let head = a.here();
            tile(a, shape)?;
            self.next_tile(a);
            a.push(Instruction::SubsImmediate(register::TILES_LEFT, register::TILES_LEFT, 1));
            a.push(Instruction::BranchIf(Cond::NotEqual, head));
        }
        Some(())
    }

    fn next_tile(&self, a: &mut Assembler) {
        for region in self.tiling.regions() {
            let address = region_register(region.is_rest);
            a.add(address, address, self.number_bytes(), register::SCRATCH[0]);
        }
    }

    /// Emits `body` for all groups of vectors of channels.
    fn groups(
        &self,
        a: &mut Assembler,
        factors: &Factors,
        mut body: impl FnMut(&mut Assembler, Slots) -> Option<()>,
    ) -> Option<()> {
        let all = (self.channels / self.element.lanes()) as usize;
        let parts = [(self.vectors, all / self.vectors), (all % self.vectors, 1)];
        a.constant(register::CHANNEL, 0);
        for (vectors, count) in parts.into_iter().filter(|&(vectors, count)| vectors > 0 && count > 0) {
            if count > 1 {
                a.constant(register::GROUPS_LEFT, count as i64);
            }
            let head = a.here();
            body(a, Slots { first: factors.registers(), vectors })?;
            a.push(Instruction::AddImmediate(register::CHANNEL, register::CHANNEL, 16 * vectors as u16, false));
            if count > 1 {
                a.push(Instruction::SubsImmediate(register::GROUPS_LEFT, register::GROUPS_LEFT, 1));
                a.push(Instruction::BranchIf(Cond::NotEqual, head));
            }
        }
        Some(())
    }

    /// Emits `body` for each column of points of a tile, with the registers of the numbers of its rows of points.
    fn columns_of_points(
        &self,
        a: &mut Assembler,
        shape: Shape,
        mut body: impl FnMut(&mut Assembler, &dyn Fn(usize) -> (X, After)),
    ) {
        let [scratch, ..] = register::SCRATCH;
        let regions = self.tiling.regions_of(shape.outputs);
        for is_rest in [false, true] {
            let column: Vec<&Region> = regions.iter().filter(|region| region.is_rest[1] == is_rest).collect();
            let Some(&&first) = column.first() else { continue };
            a.add(register::CELL, SP, i64::from(Assembler::slot_offset(CELLS_SLOT)), scratch);
            a.add(register::CELL, register::CELL, first.first[1] * self.cell_bytes(), scratch);
            for region in &column {
                let of_rest = usize::from(region.is_rest[0]);
                let (column, row) = (region.rows * self.number_bytes(), region.points[1]);
                a.push(Instruction::Add(
                    register::NUMBERS[of_rest],
                    region_register(region.is_rest),
                    register::CHANNEL,
                ));
                a.constant(register::NUMBERS_STEP[of_rest], row * column);
                a.constant(register::NUMBERS_BACK[of_rest], column - region.points[0] * row * column);
            }
            let split = first.points[0] as usize;
            let numbers = move |point: usize| {
                let of_rest = usize::from(point >= split);
                (register::NUMBERS[of_rest], After::By(register::NUMBERS_STEP[of_rest]))
            };
            repeat(a, first.points[1], |a| {
                body(a, &numbers);
                for region in &column {
                    let numbers = register::NUMBERS[usize::from(region.is_rest[0])];
                    let back = register::NUMBERS_BACK[usize::from(region.is_rest[0])];
                    a.push(Instruction::Add(numbers, numbers, back));
                }
            });
        }
    }

    /// What an access of a cell of a row does to its address.
    fn after_cell(&self, slots: Slots) -> After {
        if slots.vectors == self.vectors { After::Past } else { After::By(register::CELL_STEP) }
    }
}

/// Emits a loop of so many turns, at least one, that counts in [`register::LEFT`].
fn repeat(a: &mut Assembler, turns: i64, body: impl FnOnce(&mut Assembler)) {
    if turns == 1 {
        return body(a);
    }
    a.constant(register::LEFT, turns);
    let head = a.here();
    body(a);
    a.push(Instruction::SubsImmediate(register::LEFT, register::LEFT, 1));
    a.push(Instruction::BranchIf(Cond::NotEqual, head));
}

fn region_register(is_rest: [bool; 2]) -> X {
    register::REGIONS[2 * usize::from(is_rest[0]) + usize::from(is_rest[1])]
}
