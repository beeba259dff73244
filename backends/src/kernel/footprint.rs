//! Bounds of indices, by interval arithmetic over the bounds of loops. Where that is too coarse, because the bounds of one
//! loop follow from the position of another, positions are walked.

use super::linear::{Linear, mentions};
use super::{Index, KernelError, LoopKernel, Stmt, Value, Var};

/// Most positions that are walked for one part of an index.
const POSITIONS: usize = 1 << 22;

/// Lowest and highest value.
type Interval = (i64, i64);

/// A loop around an access.
#[derive(Clone, Copy)]
struct Loop<'k> {
    var: Var,
    bounds: Bounds<'k>,
}

#[derive(Clone, Copy)]
enum Bounds<'k> {
    /// Lowest and highest value of the kernel's range.
    Range(Interval),
    /// Begin and end.
    Indices(&'k Index, &'k Index),
}

/// A walk through a kernel with the values that its variables may have.
pub(super) struct Footprints<'k> {
    kernel: &'k LoopKernel,
    ranges: Vec<Interval>,
    loops: Vec<Loop<'k>>,
}

impl<'k> Footprints<'k> {
    pub fn new(kernel: &'k LoopKernel) -> Self {
        let range = (0, kernel.range as i64 - 1);
        let mut ranges = vec![(0, 0); kernel.vars as usize];
        ranges[0] = range;
        Footprints { kernel, ranges, loops: vec![Loop { var: Var(0), bounds: Bounds::Range(range) }] }
    }

    /// Whether every access lies within its buffer.
    pub fn check(mut self) -> Result<(), KernelError> {
        if self.kernel.range == 0 {
            return Ok(());
        }
        self.statements(&self.kernel.body)
    }

    fn statements(&mut self, body: &'k [Stmt]) -> Result<(), KernelError> {
        body.iter().try_for_each(|statement| match statement {
            Stmt::For { var, begin, end, body, .. } => {
                self.within(Loop { var: *var, bounds: Bounds::Indices(begin, end) }, body)
            }
            Stmt::Set { value: Value::Load { buffer, index }, .. } | Stmt::Store { buffer, index, .. } => {
                self.access(*buffer, index)
            }
            Stmt::Set { value: Value::Index(_) | Value::Apply { .. }, .. } => Ok(()),
        })
    }

    fn within(&mut self, looped: Loop<'k>, body: &'k [Stmt]) -> Result<(), KernelError> {
        let Some(range) = looped.range(&self.ranges) else { return Ok(()) };
        let place = looped.var.0 as usize;
        let outer = std::mem::replace(&mut self.ranges[place], range);
        self.loops.push(looped);
        let result = self.statements(body);
        self.loops.pop();
        self.ranges[place] = outer;
        result
    }

    fn access(&self, buffer: usize, index: &Index) -> Result<(), KernelError> {
        let elements = self.kernel.buffers[buffer].elements;
        let is_within = |(low, high): Interval| low >= 0 && high < elements as i64;
        let linear = Linear::of(index);
        let coarse = sum_interval(&linear, &self.ranges);
        if is_within(coarse) {
            return Ok(());
        }
        let (low, high) = self.walked(&linear).unwrap_or(coarse);
        if is_within((low, high)) || low > high {
            return Ok(());
        }
        Err(KernelError::OutOfBounds { buffer, low, high, elements })
    }

    /// The sum's values, from walks along those variables together that depend on each other. `None` where a walk is too
    /// long; from high to low where there is no iteration.
    fn walked(&self, sum: &Linear) -> Option<Interval> {
        let mut total = (sum.constant, sum.constant);
        let mut rest = sum.terms.clone();
        for group in self.groups(sum) {
            let is_of_group = |(atom, _): &(Index, i64)| group.iter().any(|&var| mentions(atom, var));
            let (terms, others) = rest.into_iter().partition(is_of_group);
            rest = others;
            let part = Linear { constant: 0, terms };
            let loops: Vec<Loop<'k>> =
                self.loops.iter().filter(|looped| group.contains(&looped.var)).copied().collect();
            let mut walk = Walk { sum: &part, ranges: self.ranges.clone(), left: POSITIONS, found: None };
            walk.positions(&loops)?;
            let Some((low, high)) = walk.found else { return Some((0, -1)) };
            total = (total.0.saturating_add(low), total.1.saturating_add(high));
        }
        let (low, high) = sum_interval(&Linear { constant: 0, terms: rest }, &self.ranges);
        Some((total.0.saturating_add(low), total.1.saturating_add(high)))
    }

    /// The variables of the loops around, those together whose loops' bounds or whose terms depend on each other.
    fn groups(&self, sum: &Linear) -> Vec<Vec<Var>> {
        let mut groups: Vec<Vec<Var>> = self.loops.iter().map(|looped| vec![looped.var]).collect();
        for looped in &self.loops {
            if let Bounds::Indices(begin, end) = looped.bounds {
                join(&mut groups, |var| var == looped.var || mentions(begin, var) || mentions(end, var));
            }
        }
        for (atom, _) in &sum.terms {
            join(&mut groups, |var| mentions(atom, var));
        }
        groups
    }
}

/// Makes one group of all that hold a chosen variable.
fn join(groups: &mut Vec<Vec<Var>>, is_chosen: impl Fn(Var) -> bool) {
    let (chosen, mut others): (Vec<_>, Vec<_>) =
        std::mem::take(groups).into_iter().partition(|group| group.iter().any(|&var| is_chosen(var)));
    others.extend(Some(chosen.concat()).filter(|group| !group.is_empty()));
    *groups = others;
}

impl Loop<'_> {
    /// The values of the variable; `None` where there is no iteration.
    fn range(&self, ranges: &[Interval]) -> Option<Interval> {
        let (first, last) = match self.bounds {
            Bounds::Range(range) => range,
            Bounds::Indices(begin, end) => (interval(begin, ranges).0, interval(end, ranges).1 - 1),
        };
        (first <= last).then_some((first, last))
    }

    fn depends_on(&self, var: Var) -> bool {
        match self.bounds {
            Bounds::Range(_) => false,
            Bounds::Indices(begin, end) => mentions(begin, var) || mentions(end, var),
        }
    }
}

/// Positions of loops, one by one.
struct Walk<'s> {
    sum: &'s Linear,
    ranges: Vec<Interval>,
    left: usize,
    found: Option<Interval>,
}

impl Walk<'_> {
    /// Joins the sum's values for all positions of `loops`. `None` where there are too many.
    fn positions(&mut self, loops: &[Loop<'_>]) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        let Some((outer, inner)) = loops.split_first() else {
            let here = sum_interval(self.sum, &self.ranges);
            let (low, high) = self.found.unwrap_or(here);
            self.found = Some((low.min(here.0), high.max(here.1)));
            return Some(());
        };
        let Some(range) = outer.range(&self.ranges) else { return Some(()) };
        let place = outer.var.0 as usize;
        let before = self.ranges[place];
        if self.is_free(outer.var, inner) {
            self.ranges[place] = range;
            self.positions(inner)?;
        } else {
            for position in range.0..=range.1 {
                self.ranges[place] = (position, position);
                self.positions(inner)?;
            }
        }
        self.ranges[place] = before;
        Some(())
    }

    /// Whether nothing but a multiple of the variable in the sum depends on it: its range then serves as well as each of its
    /// values.
    fn is_free(&self, var: Var, inner: &[Loop<'_>]) -> bool {
        self.sum.factor(var).is_some() && !inner.iter().any(|looped| looped.depends_on(var))
    }
}

/// The values that an index may have.
fn interval(index: &Index, ranges: &[Interval]) -> Interval {
    sum_interval(&Linear::of(index), ranges)
}

fn sum_interval(sum: &Linear, ranges: &[Interval]) -> Interval {
    sum.terms.iter().fold((sum.constant, sum.constant), |(low, high), (atom, factor)| {
        let (x, y) = atom_interval(atom, ranges);
        let (x, y) = (x.saturating_mul(*factor), y.saturating_mul(*factor));
        (low.saturating_add(x.min(y)), high.saturating_add(x.max(y)))
    })
}

fn atom_interval(atom: &Index, ranges: &[Interval]) -> Interval {
    match atom {
        Index::Var(var) => ranges[var.0 as usize],
        Index::Argument(_) => (0, i64::from(u32::MAX)),
        Index::Clamped { low, high, .. } => (*low, *high),
        Index::FloorDiv(x, divisor) => {
            let (low, high) = interval(x, ranges);
            (low.div_euclid(*divisor), high.div_euclid(*divisor))
        }
        Index::Mod(x, divisor) => {
            let (low, high) = interval(x, ranges);
            let is_one_period = low.div_euclid(*divisor) == high.div_euclid(*divisor);
            if is_one_period { (low.rem_euclid(*divisor), high.rem_euclid(*divisor)) } else { (0, *divisor - 1) }
        }
        Index::Min(x, y) => {
            let (x, y) = (interval(x, ranges), interval(y, ranges));
            (x.0.min(y.0), x.1.min(y.1))
        }
        Index::Max(x, y) => {
            let (x, y) = (interval(x, ranges), interval(y, ranges));
            (x.0.max(y.0), x.1.max(y.1))
        }
        Index::Constant(_) | Index::Add(..) | Index::Mul(..) => interval(atom, ranges),
    }
}
