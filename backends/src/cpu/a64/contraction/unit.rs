//! A unit of the range: where its operands begin, and its panels of weights one after the other.

use crate::contraction::{Strides, divide_up};
use crate::cpu::a64::address::{add_batch, split};
use crate::cpu::a64::assembler::{Assembler, Label};
use crate::cpu::a64::instruction::{Access, Cond, Instruction, X, ZERO};
use crate::cpu::contraction::operand;

use super::tile::Columns;
use super::{Contraction, further_operand, register, slot};

impl Contraction<'_> {
    /// Fills the slots of a unit: its block of panels, block of pixels and batch.
    pub(super) fn locate_unit(&self, a: &mut Assembler, unit: X) {
        let (panel, block, batch) = (X(8), X(9), X(10));
        let [_, rest, part, scratch] = register::SCRATCH;
        split(a, unit, self.panel_blocks(), (rest, panel), scratch);
        split(a, rest, self.blocks(), (batch, block), scratch);

        a.constant(part, self.schedule.block_panels);
        a.push(Instruction::MultiplyAdd(panel, panel, part, ZERO));
        a.slot(Access::Store, panel, slot::FIRST_PANEL);
        self.rest_of(a, (part, scratch), panel, self.layout.full_panels(), self.schedule.block_panels);
        a.slot(Access::Store, part, slot::PANELS_LEFT);
        a.constant(part, self.layout.panel * self.size());
        a.push(Instruction::MultiplyAdd(part, panel, part, ZERO));
        a.slot(Access::Store, part, slot::CHANNEL);

        a.constant(part, self.block());
        a.push(Instruction::MultiplyAdd(block, block, part, ZERO));
        a.slot(Access::Store, block, slot::FIRST);
        let whole = match self.geometry.is_flat {
            true => self.tiles.whole,
            false => self.geometry.lines,
        };
        self.rest_of(a, (part, scratch), block, whole, self.block());
        a.slot(Access::Store, part, slot::COUNT);

        let input = self.spec.window.stepped(&self.spec.input);
        let pixels =
            |strides: &Strides| if self.geometry.is_flat { strides.column * self.schedule.tile.rows } else { 0 };
        let matrix = self.layout.matrix_elements();
        let weights: Vec<i64> = self.spec.weight_batch.iter().map(|&stride| stride * matrix).collect();
        // The pixels of a grid are found where they are packed.
        let by_block = if self.geometry.grid_width.is_some() { 0 } else { pixels(&input) };
        let mut placed = vec![
            (operand::INPUT, slot::INPUT, input.base, input.batch.clone(), by_block, 0),
            (operand::WEIGHTS, slot::WEIGHTS, 0, weights, 0, self.layout.panel_elements()),
            (
                operand::OUTPUT,
                slot::OUTPUT,
                self.spec.output.base,
                self.spec.output.batch.clone(),
                pixels(&self.spec.output),
                0,
            ),
        ];
        for further in self.all_further() {
            let (strides, number) = (self.strides(further), further.number as usize - 1);
            let moved = if further.per_pixel { pixels(strides) } else { 0 };
            placed.push((
                further_operand(further.number),
                slot::FURTHER + number as u16,
                strides.base,
                strides.batch.clone(),
                moved,
                0,
            ));
        }
        let address = register::TILE;
        for (index, slot, base, strides, by_block, by_panel) in placed {
            let size = self.types[index].size() as i64;
            a.push(Instruction::Word(Access::Load, address, register::BASES, 8 * index as u16));
            a.add(address, address, base * size, scratch);
            a.add_product(address, block, by_block * size, address, scratch);
            a.add_product(address, panel, by_panel * size, address, scratch);
            add_batch(a, address, batch, (&self.spec.batch, &strides, size), register::SCRATCH);
            a.slot(Access::Store, address, slot);
        }
    }

    /// `part = min(whole - first, size)`.
    fn rest_of(&self, a: &mut Assembler, (part, scratch): (X, X), first: X, whole: i64, size: i64) {
        a.constant(part, whole);
        a.push(Instruction::Sub(part, part, first));
        a.constant(scratch, size);
        a.push(Instruction::Compare(part, scratch));
        a.push(Instruction::Choose(part, part, scratch, Cond::Less));
    }

    /// Jumps where the block that begins at the number in `slot` does not reach beyond `whole`.
    pub(super) fn unless_beyond(&self, a: &mut Assembler, slot: u16, size: i64, whole: i64, otherwise: Label) {
        let [first, limit, ..] = register::SCRATCH;
        a.slot(Access::Load, first, slot);
        a.constant(limit, whole - size + 1);
        a.push(Instruction::Compare(first, limit));
        a.push(Instruction::BranchIf(Cond::Less, otherwise));
    }

    /// Full panels of the unit, then the narrower one where the unit holds it.
    pub(super) fn panels(&self, a: &mut Assembler) -> Option<()> {
        let full = self.layout.full_panels();
        if self.second_weights.is_some() {
            self.full_panels(a, 2)?;
        }
        let pairs = full % 2 == 0 && (self.panel_blocks() == 1 || self.schedule.block_panels % 2 == 0);
        if full > 0 && !(self.second_weights.is_some() && pairs) {
            self.full_panels(a, 1)?;
        }
        let channels = self.layout.last_channels();
        if channels > 0 {
            let exit = a.label();
            if self.panel_blocks() > 1 {
                self.unless_beyond(a, slot::FIRST_PANEL, self.schedule.block_panels, full, exit);
            }
            let vectors = divide_up(channels, self.lanes());
            self.lines(a, Columns { panels: 1, vectors, last_lanes: channels - (vectors - 1) * self.lanes() })?;
            a.place(exit);
        }
        Some(())
    }

    /// As many full panels as the unit has left, `panels` at a time.
    fn full_panels(&self, a: &mut Assembler, panels: i64) -> Option<()> {
        let [left, scratch, ..] = register::SCRATCH;
        let (head, exit) = (a.here(), a.label());
        a.slot(Access::Load, left, slot::PANELS_LEFT);
        a.push(Instruction::SubsImmediate(left, left, panels as u16));
        a.push(Instruction::BranchIf(Cond::Less, exit));
        a.slot(Access::Store, left, slot::PANELS_LEFT);
        self.lines(a, Columns { panels, vectors: self.schedule.tile.vectors, last_lanes: self.lanes() })?;
        for (slot, bytes) in [
            (slot::WEIGHTS, panels * self.layout.panel_elements() * self.size()),
            (slot::CHANNEL, panels * self.layout.panel * self.size()),
        ] {
            a.slot(Access::Load, left, slot);
            a.add(left, left, bytes, scratch);
            a.slot(Access::Store, left, slot);
        }
        a.push(Instruction::Branch(head));
        a.place(exit);
        Some(())
    }
}
