//! Groups whose invocations work on one result together: each computes a part of every sum, and the parts are joined in a tree of
//! one shape, so that a result does not depend on who is done first.

use super::grid::GROUP;
use super::strides::sum;
use super::writer::Writer;

/// The parts that a group holds: what each is in WGSL, and how many there are for each invocation.
pub(super) struct Parts {
    pub(super) element: &'static str,
    pub(super) count: usize,
}

impl Parts {
    /// The declaration of the memory that the group shares.
    pub(super) fn text(&self) -> String {
        format!("var<workgroup> parts: array<{}, {}>;\n", self.element, self.count as i64 * GROUP)
    }
}

/// `unit`, the place of this group, where there are no more than an axis has.
pub(super) fn enter(out: &mut Writer) {
    out.line("let unit = id.x;");
    out.line("let lane = i32(place);");
}

/// The head of a loop whose iterations the group shares.
pub(super) fn shared_loop(name: &str, end: impl std::fmt::Display) -> String {
    format!("for (var {name} = lane; {name} < {end}; {name} += {GROUP})")
}

/// Joins the parts of variables, in all invocations of the group whose places are the same modulo `apart`, a power of two;
/// `join(out, n, a, b)` is the text that joins two parts of the variable number `n`.
pub(super) fn join(
    out: &mut Writer,
    names: &[String],
    apart: i64,
    join: impl Fn(&mut Writer, usize, &str, &str) -> Option<String>,
) -> Option<()> {
    let place = |n: usize, step: i64| format!("parts[lane + {}]", n as i64 * GROUP + step);
    for (n, name) in names.iter().enumerate() {
        out.line(format!("{} = {name};", place(n, 0)));
    }
    out.line("workgroupBarrier();");
    let mut step = GROUP / 2;
    while step >= apart {
        out.block(format!("if lane < {step}"), |out| {
            for n in 0..names.len() {
                let (a, b) = (out.value(place(n, 0)), out.value(place(n, step)));
                let joined = join(out, n, &a, &b)?;
                out.line(format!("{} = {joined};", place(n, 0)));
            }
            Some(())
        })?;
        out.line("workgroupBarrier();");
        step /= 2;
    }
    for (n, name) in names.iter().enumerate() {
        let first = if apart == 1 { "0".into() } else { format!("lane % {apart}") };
        out.line(format!("{name} = parts[{}];", sum(n as i64 * GROUP, &[(&first, 1)])));
    }
    // The memory may be written again.
    out.line("workgroupBarrier();");
    Some(())
}
