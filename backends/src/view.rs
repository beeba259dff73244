//! Where a value lies: a strided window into a storage. Concat, slice, split, transpose and broadcast cost nothing where
//! strides can say them.

use edgecc_ir::{DType, Layout, Shape, TensorType};

use crate::kernel::Index;

/// A run of memory that the plan places, by its place in the program's storages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StorageId(pub u32);

/// A strided window into a storage. Counted in elements of `dtype`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// The storage.
    pub storage: StorageId,
    /// Element type.
    pub dtype: DType,
    /// Extents by logical axis.
    pub extents: Vec<usize>,
    /// Distance between neighbours by logical axis; 0 repeats, negative runs backwards.
    pub strides: Vec<isize>,
    /// The lowest position of the window in the storage.
    pub offset: usize,
    /// From the lowest position to the logical first element: 0 unless a stride is negative.
    pub lead: usize,
}

impl View {
    /// A dense tensor at the start of a storage.
    pub fn dense(storage: StorageId, ty: &TensorType) -> View {
        let strides = ty.layout.strides(&ty.shape).into_iter().map(|stride| stride as isize).collect();
        View { storage, dtype: ty.dtype, extents: ty.shape.extents(), strides, offset: 0, lead: 0 }
    }

    /// One element repeated over `shape`.
    pub fn splat(storage: StorageId, dtype: DType, shape: &Shape) -> View {
        let strides = vec![0; shape.rank()];
        View { storage, dtype, extents: shape.extents(), strides, offset: 0, lead: 0 }
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.extents.len()
    }

    /// The extents as a shape.
    pub fn shape(&self) -> Shape {
        Shape::new(&self.extents)
    }

    /// The number of logical elements.
    pub fn elements(&self) -> usize {
        self.extents.iter().product()
    }

    /// Elements from the lowest position to one behind the highest; 0 for an empty window.
    pub fn span(&self) -> usize {
        if self.elements() == 0 {
            return 0;
        }
        let reach = |(&extent, &stride): (&usize, &isize)| (extent - 1) * stride.unsigned_abs();
        self.extents.iter().zip(&self.strides).map(reach).sum::<usize>() + 1
    }

    /// The position of the element at `coordinates` (one per axis), counted from `offset`.
    pub fn index(&self, coordinates: &[Index]) -> Index {
        let start = Index::Constant(self.lead as i64);
        let axes = coordinates.iter().zip(&self.strides);
        axes.fold(start, |sum, (coordinate, &stride)| sum.plus(coordinate.clone().times(stride as i64)))
    }

    /// Whether the elements lie without gaps or repeats, in the order of `layout`.
    pub fn is_dense(&self, layout: &Layout) -> bool {
        let dense = layout.strides(&self.shape());
        self.lead == 0
            && (0..self.rank()).all(|axis| self.extents[axis] <= 1 || self.strides[axis] == dense[axis] as isize)
    }

    /// Whether two views read and write the same elements at the same coordinates.
    pub fn coincides(&self, other: &View) -> bool {
        let same = |axis: usize| self.extents[axis] <= 1 || self.strides[axis] == other.strides[axis];
        self.dtype.size() == other.dtype.size()
            && self.extents == other.extents
            && (self.offset, self.lead) == (other.offset, other.lead)
            && (0..self.rank()).all(same)
    }

    /// Result axis `i` is axis `perm[i]`.
    pub fn transposed(&self, perm: &[usize]) -> View {
        let extents = perm.iter().map(|&axis| self.extents[axis]).collect();
        let strides = perm.iter().map(|&axis| self.strides[axis]).collect();
        View { extents, strides, ..self.clone() }
    }

    /// `counts[a]` elements from `starts[a]` by `steps[a]` along each axis, all inside.
    pub fn sliced(&self, starts: &[usize], steps: &[isize], counts: &[usize]) -> View {
        let mut first = (self.offset + self.lead) as isize;
        let mut strides = Vec::with_capacity(self.rank());
        let mut lead = 0;
        for axis in 0..self.rank() {
            if counts[axis] > 0 {
                first += starts[axis] as isize * self.strides[axis];
            }
            let stride = self.strides[axis] * steps[axis];
            if stride < 0 {
                lead += counts[axis].saturating_sub(1) * stride.unsigned_abs();
            }
            strides.push(stride);
        }
        let offset = (first - lead as isize).max(0) as usize;
        View { extents: counts.to_vec(), strides, offset, lead, ..self.clone() }
    }

    /// Repeated along new leading axes and axes of extent 1, to `shape`, to which it broadcasts.
    pub fn broadcast(&self, shape: &Shape) -> View {
        let added = shape.rank() - self.rank();
        let stride = |axis: usize| match axis.checked_sub(added) {
            Some(own) if self.extents[own] == shape.dim(axis) => self.strides[own],
            _ => 0,
        };
        View { extents: shape.extents(), strides: (0..shape.rank()).map(stride).collect(), ..self.clone() }
    }

    /// The same elements in row-major order under another shape, where strides can say it.
    ///
    /// Both shapes are cut into groups of axes with equal products; within a group the old axes must be evenly spaced.
    pub fn reshaped(&self, shape: &Shape) -> Option<View> {
        let old: Vec<usize> = (0..self.rank()).filter(|&axis| self.extents[axis] != 1).collect();
        let mut strides = vec![0isize; shape.rank()];
        if self.elements() == 0 {
            let strides = shape.strides().into_iter().map(|stride| stride as isize).collect();
            return Some(View { extents: shape.extents(), strides, ..self.clone() });
        }
        let (mut next_old, mut next_new) = (0, 0);
        while next_new < shape.rank() {
            let first_new = next_new;
            let mut product_new = shape.dim(next_new);
            next_new += 1;
            if product_new == 1 {
                continue;
            }
            let first_old = next_old;
            let mut product_old = *self.extents.get(*old.get(next_old)?)?;
            next_old += 1;
            while product_old != product_new {
                if product_old < product_new {
                    product_old *= self.extents[*old.get(next_old)?];
                    next_old += 1;
                } else {
                    product_new *= shape.dim(next_new);
                    next_new += 1;
                }
            }
            let group = &old[first_old..next_old];
            let even = |pair: &[usize]| self.strides[pair[0]] == self.strides[pair[1]] * self.extents[pair[1]] as isize;
            if !group.windows(2).all(even) {
                return None;
            }
            let mut stride = self.strides[*group.last()?];
            for axis in (first_new..next_new).rev() {
                strides[axis] = stride;
                stride *= shape.dim(axis) as isize;
            }
        }
        Some(View { extents: shape.extents(), strides, ..self.clone() })
    }
}
