//! What a driver was at when the process ended: a file that names the kernel at work, written before each trial of it, so that a
//! kernel that takes the process along is left out by the next one.
//!
//! ```text
//! # a comment
//! excluded HASH contraction f32 .. = tile 4x2 blocks 1x1
//! trying HASH depthwise f32 .. = columns 4
//! ```

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

const HEAD: &str =
    "# Kernels that a driver failed at, which `edgecc tune` leaves out; without its line one is tried again.\n";
const EXCLUDED: &str = "excluded ";
const TRYING: &str = "trying ";

/// The journal of one model's schedules.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// What each excluded kernel is, by its key.
    excluded: BTreeMap<String, String>,
}

impl Journal {
    /// Reads what was left; a kernel that was at work then is excluded.
    pub fn open(path: PathBuf) -> std::io::Result<Journal> {
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let line = |line: &str| {
            let rest = line.strip_prefix(EXCLUDED).or_else(|| line.strip_prefix(TRYING))?;
            let (key, what) = rest.split_once(' ')?;
            Some((key.to_string(), what.to_string()))
        };
        Ok(Journal { path, excluded: text.lines().filter_map(line).collect() })
    }

    /// What is excluded, in words.
    pub fn excluded(&self) -> impl Iterator<Item = &str> {
        self.excluded.values().map(String::as_str)
    }

    /// Whether a kernel is excluded.
    pub fn excludes(&self, key: &str) -> bool {
        self.excluded.contains_key(key)
    }

    /// A kernel is about to be tried.
    pub fn begin(&self, key: &str, what: &str) -> std::io::Result<()> {
        self.write(&format!("{TRYING}{key} {what}\n"))
    }

    /// A kernel failed.
    pub fn exclude(&mut self, key: &str, what: &str) -> std::io::Result<()> {
        self.excluded.insert(key.into(), what.into());
        self.write("")
    }

    /// No kernel is at work any more. Of nothing excluded there is no file.
    pub fn end(&self) -> std::io::Result<()> {
        match self.excluded.is_empty() {
            false => self.write(""),
            true => match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Replaces the file, which is on the disk behind this.
    fn write(&self, last: &str) -> std::io::Result<()> {
        let excluded = self.excluded.iter().map(|(key, what)| format!("{EXCLUDED}{key} {what}\n"));
        let text = format!("{HEAD}{}{last}", excluded.collect::<String>());
        let part = self.path.with_extension("part");
        let mut file = std::fs::File::create(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(part, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_at_work_is_excluded_by_the_next_process() {
        let path = std::env::temp_dir().join(format!("edgecc-journal-{}", std::process::id()));
        let mut first = Journal::open(path.clone()).expect("no journal");
        first.begin("a", "one = columns 1").expect("written");
        first.exclude("b", "two = columns 2").expect("written");
        first.begin("c", "three = columns 3").expect("written");
        let second = Journal::open(path.clone()).expect("a journal");
        assert_eq!(["a", "b", "c"].map(|key| second.excludes(key)), [false, true, true]);
        second.end().expect("written");
        let third = Journal::open(path.clone()).expect("a journal");
        assert_eq!(third.excluded().collect::<Vec<_>>(), ["two = columns 2", "three = columns 3"]);
        std::fs::remove_file(&path).expect("a file");
        let last = Journal::open(path.clone()).expect("no journal");
        last.begin("d", "four = columns 4").expect("written");
        last.end().expect("removed");
        assert!(!path.exists());
    }
}
