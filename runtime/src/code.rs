//! Executable memory: written, then made read-execute, and called.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(unsafe_code)]

use std::io;

use memmap2::{Mmap, MmapMut};

/// A kernel: computes the indices `begin..end` of a step; `bases[i]` is the address of the step's buffer `i`.
pub(crate) type KernelFunction =
    unsafe extern "C" fn(bases: *const *mut u8, args: *const u32, begin: u32, end: u32, worker: u32);

/// The code of a program, at the start of a page.
#[derive(Debug)]
pub(crate) struct ExecutableCode {
    memory: Mmap,
}

impl ExecutableCode {
    /// Copies code into memory of its own and makes that executable.
    pub fn new(code: &[u8]) -> io::Result<ExecutableCode> {
        let memory = copy(code)?.make_exec()?;
        synchronize_instructions(&memory);
        Ok(ExecutableCode { memory })
    }

    /// The kernel that starts at this byte of the code; none beyond its end.
    ///
    /// Calling it is sound while `self` lives, if the code is a kernel there and the arguments are what it expects.
    pub fn kernel(&self, offset: usize) -> Option<KernelFunction> {
        let start = self.memory.get(offset..)?.as_ptr();
        // SAFETY: a non-null address may be turned into a function pointer; the type is the one of every kernel.
        Some(unsafe { std::mem::transmute::<*const u8, KernelFunction>(start) })
    }
}

/// A copy at the start of a page.
pub(crate) fn copy(bytes: &[u8]) -> io::Result<MmapMut> {
    let mut memory = MmapMut::map_anon(bytes.len().max(1))?;
    if let Some(start) = memory.get_mut(..bytes.len()) {
        start.copy_from_slice(bytes);
    }
    Ok(memory)
}

/// x86 keeps instruction fetches coherent with writes.
#[cfg(not(target_arch = "aarch64"))]
fn synchronize_instructions(_code: &[u8]) {}

/// Makes written code visible to instruction fetches of all cores.
#[cfg(all(target_arch = "aarch64", target_vendor = "apple"))]
fn synchronize_instructions(code: &[u8]) {
    unsafe extern "C" {
        fn sys_icache_invalidate(start: *const u8, bytes: usize);
    }
    // SAFETY: the range is mapped.
    unsafe { sys_icache_invalidate(code.as_ptr(), code.len()) }
}

/// Makes written code visible to instruction fetches of all cores: cleans the data cache to the point of unification,
/// then invalidates the instruction cache (Arm ARM, B2.4.4).
#[cfg(all(target_arch = "aarch64", not(target_vendor = "apple")))]
fn synchronize_instructions(code: &[u8]) {
    use std::arch::asm;
    let cache_type: u64;
    // SAFETY: CTR_EL0 may be read by user code on Linux and Android.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) cache_type, options(nomem, nostack, preserves_flags)) };
    // Log2 of the smallest lines, in words of 4 bytes.
    let data_line = 4usize << ((cache_type >> 16) & 15);
    let instruction_line = 4usize << (cache_type & 15);
    let range = code.as_ptr_range();
    let lines = |line: usize| (range.start.addr() & !(line - 1)..range.end.addr()).step_by(line);
    for address in lines(data_line) {
        // SAFETY: the line holds a byte of the mapped range; cleaning changes no value.
        unsafe { asm!("dc cvau, {}", in(reg) address, options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers only.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    for address in lines(instruction_line) {
        // SAFETY: the line holds a byte of the mapped range.
        unsafe { asm!("ic ivau, {}", in(reg) address, options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers only.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}
