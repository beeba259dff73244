//! Integers of a shader as terms, and the numbers that they may be, under what conditions around them say.

use std::collections::HashMap;

/// Lowest and highest number. None is in one from high to low.
pub(super) type Interval = (i64, i64);

/// What a truth value is known as.
const TRUE: Interval = (1, 1);
const FALSE: Interval = (0, 0);

/// Cases that are looked at for one position.
const CASES: usize = 1 << 16;

/// A term of [`Terms`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Id(usize);

/// How an integer or a truth value comes about. Quotients and remainders are by positive numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Term {
    /// Anything of its range.
    Unknown,
    /// From `begin` as long as it is less than `end`.
    Counter {
        begin: Id,
        end: Id,
    },
    Add(Id, Id),
    Subtract(Id, Id),
    Multiply(Id, Id),
    /// Towards zero.
    Divide(Id, i64),
    /// With the dividend's sign.
    Remainder(Id, i64),
    FloorDivide(Id, i64),
    FloorRemainder(Id, i64),
    /// The bits that a number which is not negative has too.
    Mask(Id, i64),
    Minimum(Id, Id),
    Maximum(Id, Id),
    Select {
        condition: Id,
        accept: Id,
        reject: Id,
    },
    /// The same bits as another type.
    Convert(Id),
    Less(Id, Id),
    Not(Id),
    Both(Id, Id),
}

/// A term, the range of its type, and what it may be wherever it is used.
struct Node {
    term: Term,
    range: Interval,
    known: Interval,
}

/// What conditions say of terms.
pub(super) type Conditions = HashMap<Id, Interval>;

/// The terms of a shader.
#[derive(Default)]
pub(super) struct Terms {
    nodes: Vec<Node>,
}

impl Terms {
    /// A term that is computed under conditions.
    pub(super) fn add(&mut self, term: Term, range: Interval, conditions: &Conditions) -> Id {
        self.nodes.push(Node { term, range, known: range });
        let id = Id(self.nodes.len() - 1);
        // What cannot be reached may be anything.
        self.nodes[id.0].known = self.interval(id, conditions).unwrap_or(range);
        id
    }

    /// Anything within an interval.
    pub(super) fn unknown(&mut self, within: Interval) -> Id {
        self.add(Term::Unknown, within, &Conditions::new())
    }

    /// A number.
    pub(super) fn constant(&mut self, number: i64) -> Id {
        self.unknown((number, number))
    }

    /// The number that a term is, if it is always that one.
    pub(super) fn number(&self, id: Id) -> Option<i64> {
        let (low, high) = self.nodes[id.0].known;
        (low == high).then_some(low)
    }

    /// What a term may be under conditions; `None` where they cannot hold.
    pub(super) fn interval(&self, id: Id, conditions: &Conditions) -> Option<Interval> {
        self.evaluate(id, conditions, &mut HashMap::new())
    }

    fn evaluate(&self, id: Id, conditions: &Conditions, found: &mut HashMap<Id, Interval>) -> Option<Interval> {
        if let Some(&known) = found.get(&id) {
            return Some(known);
        }
        let node = &self.nodes[id.0];
        let result = match (node.known.0 == node.known.1, conditions.get(&id)) {
            (true, _) => Some(node.known),
            (false, given) => {
                let computed = self.compute(node, conditions, found)?;
                let computed = if within(computed, node.range) { computed } else { node.range };
                let known = common(computed, node.known)?;
                given.map_or(Some(known), |&given| common(known, given))
            }
        }?;
        found.insert(id, result);
        Some(result)
    }

    fn compute(&self, node: &Node, conditions: &Conditions, found: &mut HashMap<Id, Interval>) -> Option<Interval> {
        let mut of = |id: Id| self.evaluate(id, conditions, found);
        Some(match node.term {
            Term::Unknown => node.known,
            Term::Counter { begin, end } => {
                let (first, last) = (of(begin)?.0, of(end)?.1 - 1);
                return (first <= last).then_some((first, last));
            }
            Term::Add(a, b) => sum(of(a)?, of(b)?),
            Term::Subtract(a, b) => difference(of(a)?, of(b)?),
            Term::Multiply(a, b) => product(of(a)?, of(b)?),
            Term::Divide(a, by) => each(of(a)?, |end| end / by),
            Term::FloorDivide(a, by) => each(of(a)?, |end| end.div_euclid(by)),
            Term::Remainder(a, by) => {
                let (low, high) = of(a)?;
                match low >= 0 {
                    true => remainder((low, high), by),
                    false => (low.max(1 - by), high.clamp(0, by - 1)),
                }
            }
            Term::FloorRemainder(a, by) => remainder(of(a)?, by),
            Term::Mask(a, mask) => {
                let (low, high) = of(a)?;
                (0, if low >= 0 { high.min(mask) } else { mask })
            }
            Term::Minimum(a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                (a.0.min(b.0), a.1.min(b.1))
            }
            Term::Maximum(a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                (a.0.max(b.0), a.1.max(b.1))
            }
            Term::Select { condition, accept, reject } => match of(condition)? {
                TRUE => of(accept)?,
                FALSE => of(reject)?,
                _ => {
                    let accepted = self.interval_if(condition, true, accept, conditions);
                    let rejected = self.interval_if(condition, false, reject, conditions);
                    match (accepted, rejected) {
                        (Some(a), Some(b)) => (a.0.min(b.0), a.1.max(b.1)),
                        (one, other) => one.or(other)?,
                    }
                }
            },
            Term::Convert(a) => of(a)?,
            Term::Less(a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                (i64::from(a.1 < b.0), i64::from(a.0 < b.1))
            }
            Term::Not(a) => {
                let (low, high) = of(a)?;
                (1 - high, 1 - low)
            }
            Term::Both(a, b) => {
                let (a, b) = (of(a)?, of(b)?);
                (a.0.min(b.0), a.1.min(b.1))
            }
        })
    }

    /// What a term may be where a condition holds, or does not.
    fn interval_if(&self, condition: Id, holds: bool, id: Id, conditions: &Conditions) -> Option<Interval> {
        let mut inner = conditions.clone();
        if self.assume(condition, holds, &mut inner) { self.interval(id, &inner) } else { None }
    }

    /// Adds that a condition holds, or does not. False if that cannot be.
    pub(super) fn assume(&self, condition: Id, holds: bool, conditions: &mut Conditions) -> bool {
        if !self.narrow(condition, if holds { TRUE } else { FALSE }, conditions) {
            return false;
        }
        match (self.nodes[condition.0].term, holds) {
            (Term::Not(a), _) => self.assume(a, !holds, conditions),
            (Term::Both(a, b), true) => self.assume(a, true, conditions) && self.assume(b, true, conditions),
            (Term::Less(a, b), _) => {
                let (Some(x), Some(y)) = (self.interval(a, conditions), self.interval(b, conditions)) else {
                    return false;
                };
                let (of_a, of_b) = match holds {
                    true => ((x.0, y.1 - 1), (x.0 + 1, y.1)),
                    false => ((y.0, x.1), (y.0, x.1)),
                };
                self.narrow(a, of_a, conditions) && self.narrow(b, of_b, conditions)
            }
            _ => true,
        }
    }

    /// Adds that a term lies within an interval, and what that says of what it is computed from. False if that cannot be.
    fn narrow(&self, id: Id, to: Interval, conditions: &mut Conditions) -> bool {
        let Some(current) = self.interval(id, conditions) else { return false };
        let Some(narrowed) = common(current, to) else { return false };
        if narrowed == current {
            return true;
        }
        conditions.insert(id, narrowed);
        let node = &self.nodes[id.0];
        match node.term {
            Term::Add(a, b) => self.narrow_sum([a, b], narrowed, node.range, conditions),
            Term::Multiply(a, b) => match (self.number(a), self.number(b)) {
                (_, Some(factor)) => self.narrow_factor(a, factor, narrowed, node.range, conditions),
                (Some(factor), _) => self.narrow_factor(b, factor, narrowed, node.range, conditions),
                _ => true,
            },
            // What is not negative in 32 bits of one type and below 2^31 is the same number in the other.
            Term::Convert(a) if narrowed.0 >= 0 && narrowed.1 <= i64::from(i32::MAX) => {
                self.narrow(a, narrowed, conditions)
            }
            _ => true,
        }
    }

    fn narrow_sum(&self, [a, b]: [Id; 2], to: Interval, range: Interval, conditions: &mut Conditions) -> bool {
        let (Some(x), Some(y)) = (self.interval(a, conditions), self.interval(b, conditions)) else { return false };
        // A sum that may wrap says nothing.
        !within(sum(x, y), range)
            || self.narrow(a, difference(to, y), conditions) && self.narrow(b, difference(to, x), conditions)
    }

    fn narrow_factor(&self, id: Id, by: i64, to: Interval, range: Interval, conditions: &mut Conditions) -> bool {
        let Some(own) = self.interval(id, conditions) else { return false };
        let says_nothing = by < 1 || !within(product(own, (by, by)), range);
        says_nothing || self.narrow(id, (-(-to.0).div_euclid(by), to.1.div_euclid(by)), conditions)
    }

    /// Whether a position lies within one of some runs, case by case where that cannot be told at once.
    pub(super) fn lies_in(&self, id: Id, runs: &[Interval], conditions: &Conditions) -> bool {
        let is_inside = |found: Interval| runs.iter().any(|&run| within(found, run));
        is_inside(self.nodes[id.0].known) || self.lies_case_by_case(id, &is_inside, conditions, &mut { CASES })
    }

    fn lies_case_by_case(
        &self,
        id: Id,
        is_inside: &impl Fn(Interval) -> bool,
        conditions: &Conditions,
        left: &mut usize,
    ) -> bool {
        let Some(found) = self.interval(id, conditions) else { return true };
        if is_inside(found) {
            return true;
        }
        let Some(fewer) = left.checked_sub(1) else { return false };
        *left = fewer;
        let mut both = |split: &dyn Fn(bool, &mut Conditions) -> bool| {
            [true, false].into_iter().all(|side| {
                let mut inner = conditions.clone();
                !split(side, &mut inner) || self.lies_case_by_case(id, is_inside, &inner, left)
            })
        };
        let mut visit = Visit::default();
        self.visit(id, conditions, &mut visit);
        if let Some(condition) = visit.undecided {
            return both(&|holds, inner| self.assume(condition, holds, inner));
        }
        let Some((leaf, (low, high))) = visit.widest(self, conditions) else { return false };
        let middle = low + (high - low) / 2;
        both(&|side, inner| self.narrow(leaf, if side { (low, middle) } else { (middle + 1, high) }, inner))
    }

    /// Looks for what a position may be split by.
    fn visit(&self, id: Id, conditions: &Conditions, visit: &mut Visit) {
        let times = visit.times.entry(id).or_insert(0);
        *times += 1;
        if *times > 2 {
            return;
        }
        let inner: &[Id] = match &self.nodes[id.0].term {
            Term::Unknown => &[],
            // Coordinates of one number are as good as numbers of their own.
            Term::Divide(a, _) | Term::Remainder(a, _) | Term::FloorDivide(a, _) | Term::FloorRemainder(a, _) => &[*a],
            Term::Mask(a, _) | Term::Convert(a) | Term::Not(a) => &[*a],
            Term::Add(a, b) | Term::Subtract(a, b) | Term::Multiply(a, b) => &[*a, *b],
            Term::Minimum(a, b) | Term::Maximum(a, b) | Term::Less(a, b) | Term::Both(a, b) => &[*a, *b],
            Term::Counter { begin, end } => &[*begin, *end],
            Term::Select { condition, accept, reject } => {
                if self.interval(*condition, conditions).is_some_and(|(low, high)| low < high) {
                    visit.undecided.get_or_insert(*condition);
                }
                &[*condition, *accept, *reject]
            }
        };
        inner.iter().for_each(|&inner| self.visit(inner, conditions, visit));
    }
}

/// What a position is computed from.
#[derive(Default)]
struct Visit {
    /// How often each term was met: twice at the most.
    times: HashMap<Id, usize>,
    /// A condition that may hold or not.
    undecided: Option<Id>,
}

impl Visit {
    /// The term of the widest interval that several others are computed from, such as a coordinate that a loop's bounds depend on too;
    /// without such the widest of all.
    fn widest(&self, terms: &Terms, conditions: &Conditions) -> Option<(Id, Interval)> {
        let is_leaf = |id: Id| match terms.nodes[id.0].term {
            Term::Unknown | Term::Counter { .. } => true,
            Term::Divide(..) | Term::Remainder(..) | Term::FloorDivide(..) | Term::FloorRemainder(..) => true,
            Term::Minimum(..) | Term::Maximum(..) | Term::Mask(..) => true,
            Term::Add(..) | Term::Subtract(..) | Term::Multiply(..) | Term::Select { .. } | Term::Convert(..) => false,
            Term::Less(..) | Term::Not(..) | Term::Both(..) => false,
        };
        let leaves = self.times.iter().filter(|(id, _)| is_leaf(**id));
        let wide = leaves.filter_map(|(&id, &times)| Some((id, times, terms.interval(id, conditions)?)));
        wide.filter(|(_, _, (low, high))| low < high)
            // Ends of a type are no extents.
            .max_by_key(|&(id, times, (low, high))| {
                let is_extent = high - low < i64::from(i32::MAX);
                (is_extent, times > 1 && !terms.is_row(id), high - low, id.0)
            })
            .map(|(id, _, interval)| (id, interval))
    }
}

impl Terms {
    /// Whether a term is a row of invocations, of which only coordinates count.
    fn is_row(&self, id: Id) -> bool {
        matches!(self.nodes[id.0].term, Term::Unknown)
    }
}

fn within(inner: Interval, outer: Interval) -> bool {
    outer.0 <= inner.0 && inner.1 <= outer.1
}

fn common(a: Interval, b: Interval) -> Option<Interval> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

fn sum(a: Interval, b: Interval) -> Interval {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

fn difference(a: Interval, b: Interval) -> Interval {
    (a.0.saturating_sub(b.1), a.1.saturating_sub(b.0))
}

fn product(a: Interval, b: Interval) -> Interval {
    let ends = [(a.0, b.0), (a.0, b.1), (a.1, b.0), (a.1, b.1)].map(|(x, y)| x.saturating_mul(y));
    ends.into_iter().fold((ends[0], ends[0]), |(low, high), end| (low.min(end), high.max(end)))
}

fn each((low, high): Interval, of: impl Fn(i64) -> i64) -> Interval {
    (of(low), of(high))
}

/// Remainders with the divisor's sign.
fn remainder((low, high): Interval, by: i64) -> Interval {
    match low.div_euclid(by) == high.div_euclid(by) {
        true => (low.rem_euclid(by), high.rem_euclid(by)),
        false => (0, by - 1),
    }
}
