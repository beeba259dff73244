//! Extents of tensors and the checked arithmetic on them.

use std::fmt;

/// The extent of one axis, in elements. A fixed number today; kept behind one type so that a bounded symbol can join it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dim(usize);

impl Dim {
    /// A fixed extent.
    pub const fn new(extent: usize) -> Self {
        Dim(extent)
    }

    /// The extent in elements.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A product of extents left the range of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the number of elements overflows")]
pub struct SizeOverflow;

/// The extents of a tensor in logical axis order, outermost first. Rank 0 is a scalar.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<Dim>);

impl Shape {
    /// A shape of fixed extents.
    pub fn new(extents: &[usize]) -> Self {
        Shape(extents.iter().map(|&extent| Dim(extent)).collect())
    }

    /// The shape of a scalar.
    pub fn scalar() -> Self {
        Shape(Vec::new())
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The extent of an axis. Panics where `axis >= rank`.
    pub fn dim(&self, axis: usize) -> usize {
        self.0[axis].get()
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// The extents as plain numbers, outermost first.
    pub fn extents(&self) -> Vec<usize> {
        self.0.iter().map(|dim| dim.get()).collect()
    }

    /// The product of the extents.
    pub fn elements(&self) -> Result<usize, SizeOverflow> {
        // An extent of zero makes the product zero whatever the others are.
        if self.0.iter().any(|dim| dim.get() == 0) {
            return Ok(0);
        }
        let product = self.0.iter().try_fold(1usize, |product, dim| product.checked_mul(dim.get()));
        product.filter(|&n| n <= isize::MAX as usize).ok_or(SizeOverflow)
    }

    /// Distance in elements between neighbours along each axis of a dense row-major tensor.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1usize; self.rank()];
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(self.dim(axis).max(1));
        }
        strides
    }

    /// The shape that both broadcast to (NumPy's rule: aligned at the last axis, extents equal or 1).
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let at = |shape: &Shape, axis: usize| (axis + shape.rank()).checked_sub(rank).map_or(1, |a| shape.dim(a));
        let mut extents = Vec::with_capacity(rank);
        for axis in 0..rank {
            extents.push(match (at(self, axis), at(other, axis)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            });
        }
        Some(Shape::new(&extents))
    }

    /// A copy with one axis of another extent. Panics where `axis >= rank`.
    pub fn with_dim(&self, axis: usize, extent: usize) -> Shape {
        let mut dims = self.0.clone();
        dims[axis] = Dim(extent);
        Shape(dims)
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(extents: I) -> Self {
        Shape(extents.into_iter().map(Dim).collect())
    }
}

/// `1x3x8x8`; a scalar prints as nothing.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (axis, dim) in self.0.iter().enumerate() {
            let separator = if axis == 0 { "" } else { "x" };
            write!(f, "{separator}{}", dim.get())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}
