//! Classes of positions that are removed together, joined as constraints are found.

use std::rc::Rc;

use edgecc_ir::NodeId;

/// A class of positions, until it is joined with another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Class(u32);

/// The class of each position along an axis.
pub(crate) type Axis = Rc<[Class]>;

/// Why positions cannot be removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// The caller gives them.
    Input,
    /// The caller is given them.
    Output,
    /// Kept by name.
    Asked,
    /// A window slides over them.
    Window,
    /// All of them make one number: a mean, an extreme, a softmax, a running sum.
    Combined,
    /// Neighbours along the axis make one number.
    Neighbours,
    /// Their numbers are data: gathers, scatters and the like.
    Positions,
    /// A slice takes every other one.
    Steps,
    /// Elements of a border that mirrors or repeats others.
    Border,
    /// A reshape splits or joins them unevenly.
    Reshape,
    /// They are no floating-point numbers.
    Integers,
    /// All depend on each other, through groups or shuffles.
    Together,
}

impl Reason {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Reason::Input => "is an input of the model",
            Reason::Output => "is an output of the model",
            Reason::Asked => "is kept as asked",
            Reason::Window => "is what a window slides over",
            Reason::Combined => "is combined as a whole",
            Reason::Neighbours => "is combined with its neighbours",
            Reason::Positions => "is looked up by number",
            Reason::Steps => "is sliced in steps",
            Reason::Border => "is padded with copies",
            Reason::Reshape => "is split or joined by a reshape",
            Reason::Integers => "holds integers",
            Reason::Together => "depends on all other channels",
        }
    }
}

/// Why a class stays, and the node that demands it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fixed {
    pub(crate) reason: Reason,
    pub(crate) node: NodeId,
}

/// Disjoint classes (union by the lower number, paths halved).
#[derive(Clone, Default)]
pub(crate) struct Classes {
    parents: Vec<u32>,
    fixed: Vec<Option<Fixed>>,
}

impl Classes {
    /// A class of its own for each of `extent` positions.
    pub(crate) fn fresh(&mut self, extent: usize) -> Axis {
        (0..extent).map(|_| self.make(None)).collect()
    }

    /// One class, which stays, for all of `extent` positions.
    pub(crate) fn fresh_fixed(&mut self, extent: usize, fixed: Fixed) -> Axis {
        let class = self.make(Some(fixed));
        vec![class; extent].into()
    }

    fn make(&mut self, fixed: Option<Fixed>) -> Class {
        self.parents.push(self.parents.len() as u32);
        self.fixed.push(fixed);
        Class(self.parents.len() as u32 - 1)
    }

    /// The class that stands for all that are joined with this one.
    pub(crate) fn root(&mut self, class: Class) -> Class {
        let mut place = class.0;
        while self.parents[place as usize] != place {
            let above = self.parents[self.parents[place as usize] as usize];
            self.parents[place as usize] = above;
            place = above;
        }
        Class(place)
    }

    /// Makes one class of two; where either stays, both do.
    pub(crate) fn join(&mut self, a: Class, b: Class) {
        let (a, b) = (self.root(a), self.root(b));
        let (low, high) = (a.min(b), a.max(b));
        self.parents[high.0 as usize] = low.0;
        let kept = self.fixed[low.0 as usize].or(self.fixed[high.0 as usize]);
        self.fixed[low.0 as usize] = kept;
    }

    /// Joins the classes of two axes of one extent, position by position.
    pub(crate) fn join_axes(&mut self, a: &Axis, b: &Axis) {
        a.iter().zip(b.iter()).for_each(|(&a, &b)| self.join(a, b));
    }

    /// Keeps every position of an axis.
    pub(crate) fn fix(&mut self, axis: &Axis, fixed: Fixed) {
        for &class in axis.iter() {
            let root = self.root(class);
            self.fixed[root.0 as usize].get_or_insert(fixed);
        }
    }

    /// Why a class stays, if it does.
    pub(crate) fn why(&mut self, class: Class) -> Option<Fixed> {
        let root = self.root(class);
        self.fixed[root.0 as usize]
    }

    /// The number of distinct classes along an axis that may be removed.
    pub(crate) fn count_free(&mut self, axis: &Axis) -> usize {
        let mut free: Vec<Class> = axis.iter().map(|&class| self.root(class)).collect();
        free.sort_unstable();
        free.dedup();
        free.retain(|&class| self.why(class).is_none());
        free.len()
    }
}
