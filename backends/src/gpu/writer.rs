//! The text of a shader under construction.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::functions::Function;
use super::value::Width;

/// Statements of the entry point, and what they call.
#[derive(Default)]
pub(super) struct Writer {
    text: String,
    depth: usize,
    names: usize,
    /// Functions that the statements call.
    pub(super) functions: BTreeSet<(Function, Width)>,
    /// Bits of floats that no literal can say.
    pub(super) patterns: BTreeSet<u32>,
}

impl Writer {
    /// One line.
    pub(super) fn line(&mut self, text: impl Display) {
        // The entry point's own braces are one level.
        self.text.push_str(&format!("{:indent$}{text}\n", "", indent = 2 * (self.depth + 1)));
    }

    /// `head {`, what `write` adds, `}`.
    pub(super) fn block<T>(&mut self, head: impl Display, write: impl FnOnce(&mut Writer) -> T) -> T {
        self.line(format!("{head} {{"));
        self.depth += 1;
        let result = write(self);
        self.depth -= 1;
        self.line("}");
        result
    }

    /// A name for a value.
    pub(super) fn value(&mut self, text: impl Display) -> String {
        let name = self.name("t");
        self.line(format!("let {name} = {text};"));
        name
    }

    /// A name that no other value has.
    pub(super) fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names - 1)
    }

    /// A call of a function that comes with the shader.
    pub(super) fn call(&mut self, function: Function, width: Width, arguments: &str) -> String {
        self.functions.insert((function, width));
        format!("{}({arguments})", function.name(width))
    }

    /// The statements.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}
