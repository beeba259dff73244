//! Progress on a terminal, for whatever takes longer than a glance.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Nothing is shown before this.
const PATIENCE: Duration = Duration::from_millis(300);

/// The phase at work, on standard error of a terminal; nothing elsewhere.
pub struct Progress {
    started: Instant,
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Progress {
        Progress { started: Instant::now(), terminal: std::io::stderr().is_terminal(), shown: false }
    }

    /// Names what is at work now.
    pub fn phase(&mut self, name: &str) {
        if self.terminal && self.started.elapsed() > PATIENCE {
            // A terminal that is gone is no reason to stop compiling.
            let _ = write!(std::io::stderr(), "\r\x1b[K{name}");
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
