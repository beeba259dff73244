//! Indices as sums: a number, and multiples of loop variables and of what is no sum.

use super::{Index, Local, Var};

/// `constant + factor * atom + ..`; atoms are sorted, differ, and are neither sums, multiples nor numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Linear {
    pub constant: i64,
    pub terms: Vec<(Index, i64)>,
}

impl Linear {
    pub fn of(index: &Index) -> Linear {
        match index {
            Index::Constant(number) => Linear { constant: *number, terms: Vec::new() },
            Index::Add(x, y) => Linear::of(x).plus(Linear::of(y)),
            Index::Mul(x, factor) => Linear::of(x).times(*factor),
            Index::Var(_)
            | Index::Argument(_)
            | Index::Clamped { .. }
            | Index::FloorDiv(..)
            | Index::Mod(..)
            | Index::Min(..)
            | Index::Max(..) => Linear { constant: 0, terms: vec![(index.clone(), 1)] },
        }
    }

    pub fn plus(mut self, other: Linear) -> Linear {
        self.constant += other.constant;
        for (atom, factor) in other.terms {
            match self.terms.binary_search_by(|(own, _)| own.cmp(&atom)) {
                Ok(place) => self.terms[place].1 += factor,
                Err(place) => self.terms.insert(place, (atom, factor)),
            }
        }
        self.terms.retain(|&(_, factor)| factor != 0);
        self
    }

    pub fn times(mut self, factor: i64) -> Linear {
        self.constant *= factor;
        self.terms.iter_mut().for_each(|(_, own)| *own *= factor);
        self.terms.retain(|&(_, factor)| factor != 0);
        self
    }

    /// How far a step of `var` moves; `None` where that is not the same for each step.
    pub fn factor(&self, var: Var) -> Option<i64> {
        let mut factor = 0;
        for (atom, by) in &self.terms {
            match atom {
                Index::Var(other) if *other == var => factor = *by,
                atom if mentions(atom, var) => return None,
                _ => {}
            }
        }
        Some(factor)
    }

    /// The sum without its multiple of `var`.
    pub fn without(mut self, var: Var) -> Linear {
        self.terms.retain(|(atom, _)| *atom != Index::Var(var));
        self
    }
}

/// Whether an index depends on a variable.
pub(crate) fn mentions(index: &Index, var: Var) -> bool {
    any(index, &mut |part| *part == Index::Var(var))
}

/// Whether an index depends on a position that is loaded.
pub(crate) fn reads_local(index: &Index) -> bool {
    any(index, &mut |part| matches!(part, Index::Clamped { .. }))
}

/// Whether an index depends on a position in one of `locals`.
pub(crate) fn reads_any(index: &Index, locals: &[Local]) -> bool {
    any(index, &mut |part| matches!(part, Index::Clamped { local, .. } if locals.contains(local)))
}

fn any(index: &Index, test: &mut impl FnMut(&Index) -> bool) -> bool {
    test(index)
        || match index {
            Index::Constant(_) | Index::Var(_) | Index::Argument(_) | Index::Clamped { .. } => false,
            Index::Add(x, y) | Index::Min(x, y) | Index::Max(x, y) => any(x, test) || any(y, test),
            Index::Mul(x, _) | Index::FloorDiv(x, _) | Index::Mod(x, _) => any(x, test),
        }
}
