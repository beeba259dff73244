//! Files as shared bytes, mapped.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

/// The bytes of a file. They are mapped: a file that changes while a model is compiled gives an artifact of mixed bytes,
/// one that shrinks ends the process (SIGBUS). Both are as with any compiler whose input is rewritten under it.
#[allow(unsafe_code)]
pub(super) fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is read-only and private; see above for files that change.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
