//! The transforms of Winograd's convolution over f32: a unit of the range is one row of tiles of one image. Each vector of
//! channels goes through a tile in two passes, along one axis and then along the other; between them the tile's numbers lie in
//! cells on the stack. The last tile of an axis has code of its own where it has fewer outputs.

mod input;
mod output;

use iced_x86::code_asm::{AsmRegister64, ptr, r8, r9, r10, r11, r12, r13, r14, r15, rax, rbp, rbx, rcx, rdx, rsi, rsp};

use crate::winograd::{Region, Shape, Step, Tiling, Transform, factors};

use super::units;
use super::vector::{Part, Place, Source, Two, Width, at};
use super::writer::{Writer, Written};

pub use input::emit_winograd_input;
pub use output::emit_winograd_output;

/// Registers of integers, by what they hold.
mod register {
    use super::*;

    /// Bytes of the channels in front of the vector.
    pub const CHANNEL: AsmRegister64 = rcx;
    /// The cell at work.
    pub const CELL: AsmRegister64 = r8;
    /// Turns of the innermost loop.
    pub const LEFT: AsmRegister64 = r9;
    /// Numbers of the column of points at work: of points that all tiles have, and of those that the last leaves out.
    pub const NUMBERS: [AsmRegister64; 2] = [r10, r11];
    /// For the images on the other side.
    pub const POOL: [AsmRegister64; 7] = [rsi, rdx, rbp, r12, r13, r14, r15];
    /// A unit's image and row of tiles, and an address, while it is located.
    pub const IMAGE: AsmRegister64 = r12;
    pub const ROW: AsmRegister64 = r13;
    pub const ADDRESS: AsmRegister64 = rsi;
}

/// Words of the stack, by what they hold.
mod slot {
    use super::units;

    pub const TILES_LEFT: usize = units::SLOTS;
    /// The address of the first cell.
    pub const CELLS: usize = TILES_LEFT + 1;
    /// The tile's numbers in each region, at channel 0.
    pub const REGIONS: usize = TILES_LEFT + 2;
    /// For the images on the other side.
    pub const IMAGES: usize = REGIONS + 4;
}

/// What both transforms have in common.
struct Transforming {
    width: Width,
    tiling: Tiling,
    channels: i64,
    /// Slots of a transform, which are the first registers.
    slots: usize,
    /// Registers that hold factors, the last.
    factors: usize,
    /// The first word of the stack behind those in use.
    cells: usize,
}

/// Factors of steps: the first of them in registers, others behind the code.
struct Factors(Vec<(f64, usize)>);

impl Factors {
    /// The steps of a transform, over the first registers.
    fn apply(&self, w: &mut Writer, transform: &Transform) -> Written {
        transform.steps.iter().try_for_each(|&step| match step {
            Step::Add(to, x, y) => w.two(Two::Add, to, x, Source::Register(y)),
            Step::Subtract(to, x, y) => w.two(Two::Subtract, to, x, Source::Register(y)),
            Step::Scale(to, x, factor) => {
                let factor = self.source(w, factor);
                w.two(Two::Multiply, to, x, factor)
            }
            Step::AddScaled(to, x, factor) => {
                let op = if factor < 0.0 { Two::MultiplySubtract } else { Two::MultiplyAdd };
                let factor = self.source(w, factor.abs());
                w.two(op, to, x, factor)
            }
            Step::Copy(to, x) => w.copy(to, x),
        })
    }

    fn source(&self, w: &mut Writer, factor: f64) -> Source {
        match self.0.iter().find(|&&(other, _)| other == factor) {
            Some(&(_, register)) => Source::Register(register),
            None => w.constant_lanes((factor as f32).to_bits()),
        }
    }
}

impl Transforming {
    /// `transforms(outputs)` are those of a tile of so many outputs; registers beside the results of one are for `beside`. `None`
    /// where there are too few.
    fn of(
        width: Width,
        (tiling, channels): (Tiling, i64),
        transforms: impl Fn([i64; 2]) -> [Transform; 2],
        (beside, images): (usize, usize),
    ) -> Option<Transforming> {
        let [rows, columns] = [0, 1].map(|axis| tiling.sizes(axis));
        let shapes = rows.iter().flat_map(|&(_, row)| columns.iter().map(move |&(_, column)| [row, column]));
        let all: Vec<Transform> = shapes.flat_map(transforms).collect();
        let slots = all.iter().map(|transform| transform.slots).max()?;
        let results = all.iter().map(|transform| transform.results.len()).max()?;
        let factors = width.registers().checked_sub((slots + 1).max(results + beside))?;
        let is_near = i32::try_from(tiling.numbers().saturating_mul(channels * 4)).is_ok();
        is_near.then_some(Transforming { width, tiling, channels, slots, factors, cells: slot::IMAGES + images })
    }

    /// A function with a stack for so many rows of cells.
    fn writer(&self, rows: i64) -> Written<Writer> {
        let bytes = rows * self.cell_row() + self.cell_bytes();
        let mut w = Writer::new(self.width, self.cells + bytes as usize / 8)?;
        w.a.lea(rax, ptr(rsp + (self.cells as i64 * 8 + self.cell_bytes() - 1) as i32))?;
        w.a.and(rax, -self.cell_bytes() as i32)?;
        w.a.mov(w.slot(slot::CELLS), rax)?;
        let rest = self.channels % self.width.lanes();
        if rest > 0 {
            w.set_tail(rest, rest)?;
        }
        Ok(w)
    }

    /// Registers that neither slots nor factors take.
    fn spare(&self) -> usize {
        self.slots
    }

    /// Bytes of the channels of a tile at one pair of points.
    fn number_bytes(&self) -> i64 {
        self.channels * 4
    }

    /// Bytes of the numbers of all tiles of a region at one pair of points.
    fn matrix_bytes(&self, region: &Region) -> i64 {
        region.rows * self.number_bytes()
    }

    fn cell_bytes(&self) -> i64 {
        self.width.bytes()
    }

    /// Bytes of a row of cells.
    fn cell_row(&self) -> i64 {
        self.tiling.axes[1].points * self.cell_bytes()
    }

    /// Loads the factors of a tile's transforms.
    fn load_factors(&self, w: &mut Writer, transforms: &[Transform; 2]) -> Written<Factors> {
        let last = self.width.registers() - 1;
        let in_registers = factors(transforms).into_iter().take(self.factors).enumerate();
        let factors: Vec<(f64, usize)> = in_registers.map(|(place, factor)| (factor, last - place)).collect();
        factors.iter().try_for_each(|&(factor, register)| w.fill(register, (factor as f32).to_bits()))?;
        Ok(Factors(factors))
    }

    /// Finds the image, the row of tiles and its numbers of the unit whose number is in rax; operand `index` holds the numbers.
    fn locate_unit(&self, w: &mut Writer, index: usize) -> Written {
        w.split(self.tiling.tiles()[0])?;
        w.a.mov(register::IMAGE, rax)?;
        w.a.mov(register::ROW, rdx)?;
        for region in self.tiling.regions() {
            w.operand(register::ADDRESS, index)?;
            w.add(register::ADDRESS, region.before * self.number_bytes(), rax)?;
            w.a.mov(rbx, register::ROW)?;
            w.add_product(rbx, register::IMAGE, region.tiles[0], rax)?;
            w.add_product(register::ADDRESS, rbx, region.tiles[1] * self.number_bytes(), rax)?;
            w.a.mov(w.slot(region_slot(&region)), register::ADDRESS)?;
        }
        Ok(())
    }

    /// Emits `body` for each size of the unit's row of tiles.
    fn for_each_size(&self, w: &mut Writer, mut body: impl FnMut(&mut Writer, i64) -> Written) -> Written {
        match self.tiling.sizes(0).as_slice() {
            &[(_, whole), ([last, _], rest)] => {
                let (mut at_last, mut next) = (w.a.create_label(), w.a.create_label());
                w.a.cmp(register::ROW, last as i32)?;
                w.a.je(at_last)?;
                body(w, whole)?;
                w.a.jmp(next)?;
                w.a.set_label(&mut at_last)?;
                body(w, rest)?;
                w.a.set_label(&mut next)?;
                Ok(w.a.zero_bytes()?)
            }
            sizes => sizes.iter().try_for_each(|&(_, outputs)| body(w, outputs)),
        }
    }

    /// Emits `tile` for each tile of a row of so many rows of outputs: once for those of `inside`.
    fn tiles(
        &self,
        w: &mut Writer,
        rows: i64,
        inside: [i64; 2],
        mut tile: impl FnMut(&mut Writer, Shape) -> Written,
    ) -> Written {
        for (shape, count) in self.tiling.row(rows, inside) {
            if shape.column.is_some() {
                tile(w, shape)?;
                self.next_tile(w)?;
                continue;
            }
            w.a.mov(w.slot(slot::TILES_LEFT), count as i32)?;
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            tile(w, shape)?;
            self.next_tile(w)?;
            w.a.dec(w.slot(slot::TILES_LEFT))?;
            w.a.jne(head)?;
        }
        Ok(())
    }

    fn next_tile(&self, w: &mut Writer) -> Written {
        let regions = self.tiling.regions();
        regions.iter().try_for_each(|region| Ok(w.a.add(w.slot(region_slot(region)), self.number_bytes() as i32)?))
    }

    /// Emits `body` for all vectors of channels.
    fn for_each_vector(&self, w: &mut Writer, mut body: impl FnMut(&mut Writer, Part) -> Written) -> Written {
        let (vectors, rest) = (self.channels / self.width.lanes(), self.channels % self.width.lanes());
        w.constant(register::CHANNEL, 0)?;
        if vectors > 0 {
            let mut head = w.a.create_label();
            w.a.set_label(&mut head)?;
            body(w, Part::Whole)?;
            w.a.add(register::CHANNEL, self.width.bytes() as i32)?;
            w.a.cmp(register::CHANNEL, (vectors * self.width.bytes()) as i32)?;
            w.a.jl(head)?;
        }
        if rest > 0 { body(w, Part::Existing) } else { Ok(()) }
    }

    /// Emits `body` for each column of points of a tile, with the numbers of its rows of points.
    fn columns_of_points(
        &self,
        w: &mut Writer,
        shape: Shape,
        mut body: impl FnMut(&mut Writer, &dyn Fn(usize) -> Place) -> Written,
    ) -> Written {
        let regions = self.tiling.regions_of(shape.outputs);
        for is_rest in [false, true] {
            let column: Vec<&Region> = regions.iter().filter(|region| region.is_rest[1] == is_rest).collect();
            let Some(&&first) = column.first() else { continue };
            w.a.mov(register::CELL, w.slot(slot::CELLS))?;
            w.add(register::CELL, first.first[1] * self.cell_bytes(), rax)?;
            for region in &column {
                let numbers = numbers_register(region);
                w.a.mov(numbers, w.slot(region_slot(region)))?;
                w.a.add(numbers, register::CHANNEL)?;
            }
            let numbers = |point: usize| {
                let region = column[usize::from(point as i64 >= first.points[0])];
                let matrices = (point as i64 - region.first[0]) * region.points[1];
                at(numbers_register(region), matrices * self.matrix_bytes(region))
            };
            repeat(w, first.points[1], |w| {
                body(w, &numbers)?;
                w.a.add(register::CELL, self.cell_bytes() as i32)?;
                column.iter().try_for_each(|region| w.add(numbers_register(region), self.matrix_bytes(region), rax))
            })?;
        }
        Ok(())
    }
}

/// Emits a loop of so many turns, at least one, that counts in [`register::LEFT`].
fn repeat(w: &mut Writer, turns: i64, body: impl FnOnce(&mut Writer) -> Written) -> Written {
    if turns == 1 {
        return body(w);
    }
    w.constant(register::LEFT, turns)?;
    count_down(w, body)
}

/// Emits a loop of as many turns as [`register::LEFT`] says, at least one.
fn count_down(w: &mut Writer, body: impl FnOnce(&mut Writer) -> Written) -> Written {
    let mut head = w.a.create_label();
    w.a.set_label(&mut head)?;
    body(w)?;
    w.a.dec(register::LEFT)?;
    Ok(w.a.jne(head)?)
}

fn region_slot(region: &Region) -> usize {
    slot::REGIONS + 2 * usize::from(region.is_rest[0]) + usize::from(region.is_rest[1])
}

fn numbers_register(region: &Region) -> AsmRegister64 {
    register::NUMBERS[usize::from(region.is_rest[0])]
}
