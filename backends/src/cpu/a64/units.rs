//! The range of a kernel's call, unit by unit.

use super::assembler::Assembler;
use super::instruction::{Access, Cond, Instruction, X};

/// The first words of the stack, in kernels that walk their units: the unit at work, and one past the last.
pub(super) const SLOTS: u16 = 2;
const UNIT: u16 = 0;
const END: u16 = 1;
/// The call's third and fourth argument, which hold the range.
const RANGE: [X; 2] = [X(2), X(3)];

/// Emits `body` once, with the number of the unit at work in `unit`; it runs for each unit of the range. Before it, `prepare`
/// runs once.
pub(super) fn for_each_unit(
    a: &mut Assembler,
    [unit, end]: [X; 2],
    prepare: impl FnOnce(&mut Assembler),
    body: impl FnOnce(&mut Assembler) -> Option<()>,
) -> Option<()> {
    for (argument, (register, slot)) in RANGE.into_iter().zip([(X(16), UNIT), (X(17), END)]) {
        a.push(Instruction::MovW(register, argument));
        a.slot(Access::Store, register, slot);
    }
    prepare(a);
    let (head, exit) = (a.here(), a.label());
    a.slot(Access::Load, unit, UNIT);
    a.slot(Access::Load, end, END);
    a.push(Instruction::Compare(unit, end));
    a.push(Instruction::BranchIf(Cond::HigherSame, exit));
    body(a)?;
    a.slot(Access::Load, unit, UNIT);
    a.push(Instruction::AddImmediate(unit, unit, 1, false));
    a.slot(Access::Store, unit, UNIT);
    a.push(Instruction::Branch(head));
    a.place(exit);
    Some(())
}
