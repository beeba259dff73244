//! The memory of a session: one mapping, so that most of it lies in large pages where the system has them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io;
use std::ops::Range;

use memmap2::MmapMut;

use crate::error::SessionError;

/// Regions start at multiples of this, in bytes: tensors of two of them never share a cache line.
const ALIGNMENT: u64 = 128;

/// A part of a session's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Region {
    /// What steps hand to each other.
    Arena,
    /// What persists from run to run.
    State,
    /// The scratch of all workers.
    Scratch,
    /// An input, or after them an output.
    Port(usize),
}

/// Zeroed memory in regions.
#[derive(Debug)]
pub(crate) struct Memory {
    mapping: MmapMut,
    /// Arena, state, scratch, then the ports.
    regions: Box<[Range<usize>]>,
}

impl Memory {
    /// Memory of these sizes in bytes: arena, state and scratch, and each port.
    pub fn new(fixed: [u64; 3], ports: impl Iterator<Item = u64>) -> Result<Memory, SessionError> {
        let mut end = 0u64;
        let mut place = |bytes: u64| {
            let start = end.checked_next_multiple_of(ALIGNMENT)?;
            end = start.checked_add(bytes)?;
            Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        };
        let regions: Option<Box<[_]>> = fixed.into_iter().chain(ports).map(&mut place).collect();
        let regions =
            regions.ok_or(SessionError::Memory { bytes: u64::MAX, source: io::ErrorKind::OutOfMemory.into() })?;
        let mapping = map(end).map_err(|source| SessionError::Memory { bytes: end, source })?;
        Ok(Memory { mapping, regions })
    }

    /// Number of inputs and outputs.
    pub fn ports(&self) -> usize {
        self.regions.len().saturating_sub(3)
    }

    /// The first byte of a region; for use through its address.
    pub fn start(&mut self, region: Region) -> *mut u8 {
        self.bytes_mut(region).as_mut_ptr()
    }

    /// The bytes of a region; empty if there is none.
    pub fn bytes(&self, region: Region) -> &[u8] {
        self.range(region).and_then(|range| self.mapping.get(range)).unwrap_or(&[])
    }

    /// The same, to be written.
    pub fn bytes_mut(&mut self, region: Region) -> &mut [u8] {
        self.range(region).and_then(|range| self.mapping.get_mut(range)).unwrap_or(&mut [])
    }

    fn range(&self, region: Region) -> Option<Range<usize>> {
        let index = match region {
            Region::Arena => 0,
            Region::State => 1,
            Region::Scratch => 2,
            Region::Port(port) => port.checked_add(3)?,
        };
        self.regions.get(index).cloned()
    }
}

fn map(bytes: u64) -> io::Result<MmapMut> {
    let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mapping = MmapMut::map_anon(bytes.max(1))?;
    // A wish: without large pages, the first run takes a fault for every 4 KiB.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = mapping.advise(memmap2::Advice::HugePage);
    Ok(mapping)
}
