//! Lines that are seen although tests capture what they print: figures, and what is left out.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

/// Writes a line to standard error.
pub fn say(line: &str) {
    // A test does not fail for want of a reader.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Says, once in a program, what is not tested and why.
pub fn skipped(what: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = SAID.lock().is_ok_and(|mut said| said.insert(what.into()));
    if is_new {
        say(&format!("skipped: {what}"));
    }
}
