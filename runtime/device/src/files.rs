//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes written at once: the system then caches a file in large pieces, which are mapped in a tenth of the time.
const WRITTEN_AT_ONCE: usize = 2 << 20;

/// Writes a file whole or not at all: to a temporary neighbour, renamed onto a regular or absent path. Anything else, such
/// as a device, is written to directly. The size that `write` gives.
pub fn write_whole<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<u64, E>,
) -> Result<u64, E> {
    let pending = Pending::write(path, write)?;
    let size = pending.size;
    pending.keep()?;
    Ok(size)
}

/// A file that is written but has not taken its name; without [`Pending::keep`] it goes again.
pub struct Pending {
    path: PathBuf,
    temporary: Option<PathBuf>,
    /// Bytes of the file.
    pub size: u64,
}

impl Pending {
    /// Writes the file beside its place.
    pub fn write<E: From<io::Error>>(
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> Result<u64, E>,
    ) -> Result<Self, E> {
        let special = std::fs::metadata(path).is_ok_and(|found| !found.is_file());
        let mut pending = Pending { path: path.into(), temporary: (!special).then(|| neighbour(path)), size: 0 };
        let file = match &pending.temporary {
            Some(temporary) => File::create(temporary)?,
            None => std::fs::OpenOptions::new().write(true).open(path)?,
        };
        let mut file = BufWriter::with_capacity(WRITTEN_AT_ONCE, file);
        pending.size = write(&mut file)?;
        file.flush()?;
        Ok(pending)
    }

    /// Gives the file its name.
    pub fn keep(mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            std::fs::rename(temporary, &self.path)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // The error that is reported is the first one; a temporary file that cannot go is not worse.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// A name beside the path that no other process of this machine uses.
fn neighbour(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}
