//! Invocations and the groups that they are dispatched in.

use super::writer::Writer;

/// Invocations of a group: a multiple of every phone's width of execution, within WebGPU's default limit of 256.
pub const GROUP: i64 = 64;
/// The most groups along each axis: WebGPU's default limit.
pub const MOST_GROUPS: i64 = edgecc_format::MAX_GROUPS as i64;

/// A row of invocations, folded into two axes where it is long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grid {
    units: i64,
}

impl Grid {
    pub(super) fn new(units: i64) -> Grid {
        Grid { units }
    }

    /// Groups along each axis; `None` where there are more invocations than can be dispatched.
    pub(super) fn groups(self) -> Option<[u32; 3]> {
        let groups = (self.units + GROUP - 1) / GROUP;
        let rows = (groups + MOST_GROUPS - 1) / MOST_GROUPS;
        let is_possible = rows <= MOST_GROUPS && self.units <= i64::from(i32::MAX);
        is_possible.then(|| [self.row_groups() as u32, rows.max(1) as u32, 1])
    }

    fn row_groups(self) -> i64 {
        ((self.units + GROUP - 1) / GROUP).clamp(1, MOST_GROUPS)
    }

    /// `unit`, this invocation's place; those behind the last one end.
    pub(super) fn enter(self, out: &mut Writer) {
        let row = self.row_groups() * GROUP;
        if self.units > row {
            out.line(format!("let unit = id.y * {row}u + id.x;"));
        } else {
            out.line("let unit = id.x;");
        }
        if self.units % GROUP != 0 || self.units > row {
            out.line(format!("if unit >= {}u {{ return; }}", self.units));
        }
    }
}

/// Splits `unit` into coordinates of these extents, the last one running fastest: names bound to i32.
pub(super) fn coordinates(out: &mut Writer, axes: &[(String, i64)]) {
    let mut rest = "unit".to_string();
    for (place, (name, extent)) in axes.iter().enumerate().rev() {
        let is_outermost = place == 0;
        let text = match (*extent, is_outermost) {
            (1, _) => "0".into(),
            (_, true) => format!("i32({rest})"),
            (extent, false) => format!("i32({rest} % {extent}u)"),
        };
        out.line(format!("let {name} = {text};"));
        if !is_outermost && *extent > 1 {
            rest = out.value(format!("{rest} / {extent}u"));
        }
    }
}
