//! The range of a kernel's call, unit by unit, and what units ask: addresses in a batch, rows of taps within the input.

use iced_x86::code_asm::{AsmRegister32, AsmRegister64, eax, qword_ptr, r11, rax, rbx, rdx};

use super::writer::{Writer, Written};

/// The first words of the stack: the table of operands' addresses, the unit at work, one past the last.
pub(super) const SLOTS: usize = 3;
const UNIT: usize = 1;
const END: usize = 2;

/// Emits `body` once, with the number of the unit at work in rax; it runs for each unit of the range.
pub(super) fn for_each_unit(
    w: &mut Writer,
    (begin, end): (AsmRegister32, AsmRegister32),
    body: impl FnOnce(&mut Writer) -> Written,
) -> Written {
    for (argument, slot) in [(begin, UNIT), (end, END)] {
        w.a.mov(eax, argument)?;
        w.a.mov(w.slot(slot), rax)?;
    }
    let (mut head, mut exit) = (w.a.create_label(), w.a.create_label());
    w.a.set_label(&mut head)?;
    w.a.mov(rax, w.slot(UNIT))?;
    w.a.cmp(rax, w.slot(END))?;
    w.a.jae(exit)?;
    body(w)?;
    w.a.inc(w.slot(UNIT))?;
    w.a.jmp(head)?;
    w.a.set_label(&mut exit)?;
    Ok(w.a.zero_bytes()?)
}

/// Moves an address to the batch of the number in a slot, which counts the batch axes row-major; strides in bytes. Uses up rax,
/// rbx and rdx.
pub(super) fn add_batch(
    w: &mut Writer,
    address: AsmRegister64,
    batch: usize,
    extents: &[i64],
    strides: &[i64],
) -> Written {
    let moves = |(&stride, &extent): (&i64, &i64)| stride != 0 && extent > 1;
    if !strides.iter().zip(extents).any(moves) {
        return Ok(());
    }
    w.a.mov(rax, w.slot(batch))?;
    for (&extent, &stride) in extents.iter().zip(strides).rev() {
        w.split(extent)?;
        w.add_product(address, rdx, stride, rbx)?;
    }
    Ok(())
}

/// The rows of taps of output rows: the first row's offset, their number, and input rows from one to the next.
pub(super) struct RowClip {
    pub first: i64,
    pub rows: i64,
    pub row_step: i64,
    /// Input rows from one output row to the next.
    pub step: i64,
    pub input_height: i64,
}

/// Leaves out rows of taps above and below the input: moves registers by so many bytes for each row above, and puts the number
/// of rows within into slot `count`. `line` holds the output row's number where there are several; rax, rbx and r11 are used up.
pub(super) fn clip_rows(
    w: &mut Writer,
    clip: &RowClip,
    line: Option<AsmRegister64>,
    moves: [(AsmRegister64, i64); 2],
    count: usize,
) -> Written {
    let (top, bottom, scratch) = (rax, rbx, r11);
    w.a.xor(eax, eax)?;
    if let Some(line) = line {
        w.add_product(top, line, clip.step, bottom)?;
    }
    w.a.lea(bottom, qword_ptr(top + (clip.first + (clip.rows - 1) * clip.row_step)))?;
    w.add(top, clip.first, scratch)?;
    w.a.mov(w.slot(count), clip.rows as i32)?;
    let labels = [(); 4].map(|_| w.a.create_label());
    let [mut above, mut below, mut within, mut exit] = labels;
    w.a.set_label(&mut above)?;
    w.a.cmp(top, 0)?;
    w.a.jge(below)?;
    w.add(top, clip.row_step, scratch)?;
    for (register, bytes) in moves {
        w.add(register, bytes, scratch)?;
    }
    w.a.dec(w.slot(count))?;
    w.a.jmp(above)?;
    w.a.set_label(&mut below)?;
    w.constant(top, clip.input_height)?;
    w.a.set_label(&mut within)?;
    w.a.cmp(bottom, top)?;
    w.a.jl(exit)?;
    w.add(bottom, -clip.row_step, scratch)?;
    w.a.dec(w.slot(count))?;
    w.a.jmp(within)?;
    w.a.set_label(&mut exit)?;
    Ok(w.a.nop()?)
}
