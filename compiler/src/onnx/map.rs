//! Files as shared bytes, mapped.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

/// A mapped file. One that changes while a model is compiled gives an artifact of mixed bytes, one that shrinks ends the
/// process (SIGBUS). Both are as with any compiler whose input is rewritten under it.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping(Option<Arc<Mmap>>);

/// A share of a mapping.
struct Share(Arc<Mmap>);

impl AsRef<[u8]> for Share {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping {
    /// Maps a file.
    #[allow(unsafe_code)]
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Mapping(None));
        }
        // SAFETY: the map is only read; see above for files that change.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Mapping(Some(Arc::new(map))))
    }

    /// The file's bytes, which keep the mapping alive.
    pub(super) fn bytes(&self) -> Bytes {
        self.0.as_ref().map_or(Bytes::new(), |map| Bytes::from_owner(Share(map.clone())))
    }

    /// Takes the file's pages out of this process's memory; whoever reads them again gets them from the file again.
    #[allow(unsafe_code)]
    pub(super) fn let_go(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.0 {
            // SAFETY: a shared mapping of a file that is only read has the same bytes behind MADV_DONTNEED as before.
            // Where the system refuses, the pages stay, which is no error.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}
