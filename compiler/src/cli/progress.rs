//! Progress on a terminal, for whatever takes longer than a glance.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Nothing is shown before this.
const PATIENCE: Duration = Duration::from_millis(300);
/// Time between two lines where nothing new is at work.
const TICK: Duration = Duration::from_secs(1);

/// What is at work, on standard error of a terminal; nothing elsewhere. The line goes when this is dropped.
pub struct Progress {
    painter: Option<(Sender<String>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts the clock.
    pub fn start(name: &str) -> Progress {
        let painter = std::io::stderr().is_terminal().then(|| paint_apart(name.into())).flatten();
        Progress { painter }
    }

    /// Names what is at work now.
    pub fn phase(&self, name: impl FnOnce() -> String) {
        if let Some((names, _)) = &self.painter {
            // A painter that is gone is no reason to stop.
            let _ = names.send(name());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((names, painter)) = self.painter.take() {
            drop(names);
            let _ = painter.join();
        }
    }
}

/// A thread of its own, since a single phase may take long.
fn paint_apart(name: String) -> Option<(Sender<String>, JoinHandle<()>)> {
    let (sender, names) = channel();
    let painter = Builder::new().spawn(move || paint(name, &names, &mut std::io::stderr()));
    painter.ok().map(|painter| (sender, painter))
}

/// Shows the latest name and the seconds so far, from [`PATIENCE`] on until nobody sends names any more.
fn paint(mut name: String, names: &Receiver<String>, out: &mut impl Write) {
    let started = Instant::now();
    let mut shown = false;
    loop {
        let wait = if shown { TICK } else { PATIENCE.saturating_sub(started.elapsed()) };
        match names.recv_timeout(wait) {
            Ok(next) => name = next,
            Err(RecvTimeoutError::Timeout) => shown = true,
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if shown {
            let _ = write!(out, "\r\x1b[K{name}, {} s", started.elapsed().as_secs());
            let _ = out.flush();
        }
    }
    if shown {
        let _ = write!(out, "\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(work: Duration) -> String {
        let (sender, names) = channel();
        let painter = std::thread::spawn(move || {
            let mut out = Vec::new();
            paint("reading".into(), &names, &mut out);
            out
        });
        sender.send("compiling".into()).expect("a painter");
        std::thread::sleep(work);
        drop(sender);
        String::from_utf8(painter.join().expect("a painter")).expect("text")
    }

    #[test]
    fn what_is_soon_done_is_not_shown() {
        assert_eq!(painted(Duration::ZERO), "");
    }

    #[test]
    fn a_long_phase_is_shown_while_it_works_and_goes() {
        assert_eq!(painted(2 * PATIENCE), "\r\x1b[Kcompiling, 0 s\r\x1b[K");
    }
}
