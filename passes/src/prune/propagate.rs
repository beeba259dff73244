//! Which positions of which axes are removed together: every operator states how positions of its operands and its result
//! belong to each other. Channel shuffles, splits and heads follow from the reshapes and slices that they are made of.

use edgecc_ir::{Graph, NodeId, Op, PadMode, ReduceKind, Shape, Type};

use super::classes::{Axis, Class, Classes, Fixed, Reason};
use super::heads::head_axes;
use super::reshape;

/// The classes of every axis of every value.
pub(crate) struct Channels {
    pub(crate) classes: Classes,
    /// By [`NodeId::index`]; empty for nodes that no output depends on, and for tuples.
    axes: Vec<Vec<Axis>>,
}

/// A value that takes part in a broadcast.
struct Part {
    axes: Vec<Axis>,
    shape: Shape,
}

impl Channels {
    /// The classes of a graph. Those of nodes that `keeps` names stay.
    pub(crate) fn of(graph: &Graph, keeps: impl Fn(NodeId) -> bool) -> Channels {
        let mut channels = Channels { classes: Classes::default(), axes: vec![Vec::new(); graph.bound()] };
        for id in graph.order() {
            let axes = channels.propagate(graph, id);
            channels.axes[id.index()] = axes;
            if keeps(id) {
                let weights = graph.operands(id).get(1).copied();
                [Some(id), weights].into_iter().flatten().for_each(|kept| channels.keep_all(kept, id, Reason::Asked));
            }
        }
        for output in graph.outputs() {
            channels.keep_all(output.node, output.node, Reason::Output);
        }
        channels
    }

    /// The classes along one axis of a value.
    pub(crate) fn axis(&self, id: NodeId, axis: usize) -> &Axis {
        &self.axes[id.index()][axis]
    }

    /// The classes along every axis of a value; none for a tuple.
    pub(crate) fn axes(&self, id: NodeId) -> &[Axis] {
        &self.axes[id.index()]
    }

    fn keep_all(&mut self, value: NodeId, node: NodeId, reason: Reason) {
        for axis in self.axes[value.index()].clone() {
            self.classes.fix(&axis, Fixed { reason, node });
        }
    }

    fn fixed_shape(&mut self, shape: &Shape, fixed: Fixed) -> Vec<Axis> {
        shape.extents().into_iter().map(|extent| self.classes.fresh_fixed(extent, fixed)).collect()
    }

    fn part(&self, graph: &Graph, id: NodeId) -> Part {
        Part { axes: self.axes[id.index()].clone(), shape: graph.ty(id).shape.clone() }
    }

    /// The axes of a result that parts broadcast to: positions of operands that meet belong together.
    fn broadcast(&mut self, shape: &Shape, parts: &[Part], fixed: Fixed) -> Vec<Axis> {
        let mut axes: Vec<Option<Axis>> = vec![None; shape.rank()];
        for part in parts {
            let missing = shape.rank() - part.shape.rank();
            for (place, axis) in part.axes.iter().enumerate() {
                let result = &mut axes[place + missing];
                match result {
                    _ if part.shape.dim(place) != shape.dim(place + missing) => {}
                    None => *result = Some(axis.clone()),
                    Some(other) => self.classes.join_axes(other, axis),
                }
            }
        }
        let made = |(place, axis): (usize, Option<Axis>)| {
            axis.unwrap_or_else(|| self.classes.fresh_fixed(shape.dim(place), fixed))
        };
        axes.into_iter().enumerate().map(made).collect()
    }

    /// Keeps some axes of a value.
    fn fix_axes(&mut self, value: NodeId, axes: impl Iterator<Item = usize>, fixed: Fixed) {
        for axis in axes {
            let axis = self.axis(value, axis).clone();
            self.classes.fix(&axis, fixed);
        }
    }

    /// The classes of a node's result, after joining those of its operands.
    fn propagate(&mut self, graph: &Graph, id: NodeId) -> Vec<Axis> {
        let operands = graph.operands(id);
        let Type::Tensor(ty) = graph.node(id).ty() else {
            operands.iter().for_each(|&operand| self.keep_all(operand, id, Reason::Combined));
            return Vec::new();
        };
        let shape = &ty.shape;
        let because = |reason: Reason| Fixed { reason, node: id };
        match graph.op(id) {
            Op::Input { .. } => self.fixed_shape(shape, because(Reason::Input)),
            Op::Constant(_) if !ty.dtype.is_float() => self.fixed_shape(shape, because(Reason::Integers)),
            Op::Constant(_) => shape.extents().into_iter().map(|extent| self.classes.fresh(extent)).collect(),
            Op::Map(_) => {
                let parts: Vec<Part> = operands.iter().map(|&operand| self.part(graph, operand)).collect();
                self.broadcast(shape, &parts, because(Reason::Together))
            }
            Op::Conv { .. } | Op::ConvTranspose { .. } | Op::MatMul { .. } => self.contraction(graph, id),
            Op::Pool { .. } => {
                self.fix_axes(operands[0], 2..shape.rank(), because(Reason::Window));
                let mut axes = self.axes[operands[0].index()][..2].to_vec();
                axes.extend(self.fixed_shape(shape, because(Reason::Window)).split_off(2));
                axes
            }
            Op::Reduce { kind, axes } => {
                if *kind != ReduceKind::Sum {
                    self.fix_axes(operands[0], axes.iter().copied(), because(Reason::Combined));
                }
                self.with_units(operands[0], axes, because(Reason::Combined))
            }
            Op::ArgReduce { axis, .. } => {
                self.fix_axes(operands[0], std::iter::once(*axis), because(Reason::Combined));
                self.with_units(operands[0], &[*axis], because(Reason::Combined))
            }
            Op::Softmax { axis, .. } | Op::CumulativeSum { axis, .. } => {
                self.fix_axes(operands[0], std::iter::once(*axis), because(Reason::Combined));
                self.axes[operands[0].index()].clone()
            }
            Op::LocalResponseNorm { .. } => {
                self.fix_axes(operands[0], std::iter::once(1), because(Reason::Neighbours));
                self.axes[operands[0].index()].clone()
            }
            Op::Normalize { .. } | Op::Relayout(_) => self.axes[operands[0].index()].clone(),
            Op::Reshape(_) => self.reshape(graph, operands[0], shape, because(Reason::Reshape)),
            Op::Transpose(perm) => perm.iter().map(|&axis| self.axis(operands[0], axis).clone()).collect(),
            Op::Broadcast(_) => {
                let part = self.part(graph, operands[0]);
                let missing = shape.rank() - part.shape.rank();
                let axis = |place: usize| match place.checked_sub(missing) {
                    Some(axis) if part.shape.dim(axis) == shape.dim(place) => part.axes[axis].clone(),
                    _ => self.classes.fresh(shape.dim(place)),
                };
                (0..shape.rank()).map(axis).collect()
            }
            Op::Concat { axis } => self.concat(operands, *axis),
            Op::Slice { starts, steps, counts } => {
                let mut axes = Vec::with_capacity(shape.rank());
                for place in 0..shape.rank() {
                    let axis = self.axis(operands[0], place).clone();
                    if steps[place] != 1 && counts[place] > 1 {
                        self.classes.fix(&axis, because(Reason::Steps));
                    }
                    let at = |i: usize| axis[(starts[place] as isize + i as isize * steps[place]) as usize];
                    axes.push((0..counts[place]).map(at).collect());
                }
                axes
            }
            Op::Pad { mode, before, after } => {
                let padded = |(place, axis): (usize, Axis)| {
                    let (front, back) = (before[place], after[place]);
                    if front + back == 0 {
                        return axis;
                    }
                    if *mode != PadMode::Constant {
                        self.classes.fix(&axis, because(Reason::Border));
                        return self.classes.fresh_fixed(front + axis.len() + back, because(Reason::Border));
                    }
                    let (front, back) = (self.classes.fresh(front), self.classes.fresh(back));
                    front.iter().chain(axis.iter()).chain(back.iter()).copied().collect()
                };
                let axes = self.axes[operands[0].index()].clone();
                axes.into_iter().enumerate().map(padded).collect()
            }
            Op::Tile { repeats } => {
                let axes = self.axes[operands[0].index()].iter().zip(repeats);
                axes.map(|(axis, &count)| axis.iter().copied().cycle().take(axis.len() * count).collect()).collect()
            }
            Op::Resize { axes } => {
                let resized: Vec<usize> = axes.iter().map(|resample| resample.axis).collect();
                self.fix_axes(operands[0], resized.iter().copied(), because(Reason::Window));
                let made = |place: usize| match resized.contains(&place) {
                    true => self.classes.fresh_fixed(shape.dim(place), because(Reason::Window)),
                    false => self.axes[operands[0].index()][place].clone(),
                };
                (0..shape.rank()).map(made).collect()
            }
            Op::Gather { axis } => {
                let (data, positions) = (operands[0], operands[1]);
                self.fix_axes(data, std::iter::once(*axis), because(Reason::Positions));
                let of_data = self.axes[data.index()].clone();
                let of_positions = self.axes[positions.index()].clone();
                [&of_data[..*axis], &of_positions, &of_data[axis + 1..]].concat()
            }
            Op::PoolIndices { .. }
            | Op::GatherElements { .. }
            | Op::GatherNd { .. }
            | Op::ScatterElements { .. }
            | Op::ScatterNd { .. } => {
                operands.iter().for_each(|&operand| self.keep_all(operand, id, Reason::Positions));
                self.fixed_shape(shape, because(Reason::Positions))
            }
            Op::Project(_) | Op::TopK { .. } => {
                operands.iter().for_each(|&operand| self.keep_all(operand, id, Reason::Combined));
                self.fixed_shape(shape, because(Reason::Combined))
            }
        }
    }

    /// The operand's axes, of which some have become extents of 1.
    fn with_units(&mut self, operand: NodeId, units: &[usize], fixed: Fixed) -> Vec<Axis> {
        let mut axes = self.axes[operand.index()].clone();
        for &axis in units {
            axes[axis] = self.classes.fresh_fixed(1, fixed);
        }
        axes
    }

    fn concat(&mut self, operands: &[NodeId], along: usize) -> Vec<Axis> {
        let mut axes = self.axes[operands[0].index()].clone();
        for &operand in &operands[1..] {
            for (place, axis) in self.axes[operand.index()].clone().iter().enumerate() {
                if place != along {
                    self.classes.join_axes(&axes[place], axis);
                }
            }
        }
        axes[along] = operands.iter().flat_map(|&operand| self.axis(operand, along).iter().copied()).collect();
        axes
    }

    /// Sums of products, and what their epilogue joins them with.
    fn contraction(&mut self, graph: &Graph, id: NodeId) -> Vec<Axis> {
        let operands = graph.operands(id);
        let (a, b) = (operands[0], operands[1]);
        let shape = graph.ty(id).shape.clone();
        let window = Fixed { reason: Reason::Window, node: id };
        let axes = match *graph.op(id) {
            Op::MatMul { transpose_a, transpose_b, .. } => self.matmul(graph, id, transpose_a, transpose_b),
            Op::Conv { groups, .. } | Op::ConvTranspose { groups, .. } => {
                for operand in [a, b] {
                    self.fix_axes(operand, 2..shape.rank(), window);
                }
                let channels = match graph.op(id) {
                    Op::ConvTranspose { .. } => self.transposed_channels(a, b, groups, window),
                    _ => self.conv_channels(a, b, groups),
                };
                let mut axes = vec![self.axis(a, 0).clone(), channels];
                axes.extend(self.fixed_shape(&shape, window).split_off(2));
                axes
            }
            _ => Vec::new(),
        };
        let mut parts = vec![Part { axes, shape: shape.clone() }];
        parts.extend(operands[2..].iter().map(|&extra| self.part(graph, extra)));
        self.broadcast(&shape, &parts, window)
    }

    fn matmul(&mut self, graph: &Graph, id: NodeId, transpose_a: bool, transpose_b: bool) -> Vec<Axis> {
        let shape = &graph.ty(id).shape;
        let split = |part: Part, swapped: bool| {
            let rank = part.axes.len();
            let (rows, columns) = if swapped { (rank - 1, rank - 2) } else { (rank - 2, rank - 1) };
            let (rows, columns) = (part.axes[rows].clone(), part.axes[columns].clone());
            let batch = part.shape.extents()[..rank - 2].iter().copied().collect();
            (Part { axes: part.axes[..rank - 2].to_vec(), shape: batch }, rows, columns)
        };
        let (batch_a, rows, depth) = split(self.part(graph, graph.operands(id)[0]), transpose_a);
        let (batch_b, depth_b, columns) = split(self.part(graph, graph.operands(id)[1]), transpose_b);
        self.classes.join_axes(&depth, &depth_b);
        let batch: Shape = shape.extents()[..shape.rank() - 2].iter().copied().collect();
        let mut axes = self.broadcast(&batch, &[batch_a, batch_b], Fixed { reason: Reason::Together, node: id });
        axes.extend([rows, columns]);
        axes
    }

    /// Result channels of a convolution of `x` with weights `[O,C/groups,..]`. Where a group has several channels, each group
    /// loses the same ones.
    fn conv_channels(&mut self, x: NodeId, weights: NodeId, groups: usize) -> Axis {
        let (channels, filters) = (self.axis(x, 1).clone(), self.axis(weights, 0).clone());
        let depth = self.axis(weights, 1).clone();
        let of_group = filters.len() / groups.max(1);
        if groups == 1 {
            self.classes.join_axes(&channels, &depth);
        } else if depth.len() == 1 {
            (0..filters.len()).for_each(|o| self.classes.join(filters[o], channels[o / of_group]));
        } else {
            (0..channels.len()).for_each(|c| self.classes.join(channels[c], depth[c % depth.len()]));
            (0..filters.len()).for_each(|o| self.classes.join(filters[o], filters[o % of_group]));
        }
        filters
    }

    /// Result channels of a transposed convolution of `x` with weights `[C,O/groups,..]`.
    fn transposed_channels(&mut self, x: NodeId, weights: NodeId, groups: usize, fixed: Fixed) -> Axis {
        let (channels, depth) = (self.axis(x, 1).clone(), self.axis(weights, 0).clone());
        let filters = self.axis(weights, 1).clone();
        self.classes.join_axes(&channels, &depth);
        if groups == 1 {
            return filters;
        }
        let of_group = channels.len() / groups;
        if of_group == 1 {
            self.classes.fix(&filters, fixed);
            return (0..groups * filters.len()).map(|o| channels[o / filters.len()]).collect();
        }
        (0..channels.len()).for_each(|c| self.classes.join(channels[c], channels[c % of_group]));
        (0..groups * filters.len()).map(|o| filters[o % filters.len()]).collect()
    }

    fn reshape(&mut self, graph: &Graph, operand: NodeId, shape: &Shape, fixed: Fixed) -> Vec<Axis> {
        let (from, to) = (graph.ty(operand).shape.extents(), shape.extents());
        let Some(factors) = reshape::factors(&from, &to) else {
            self.keep_all(operand, fixed.node, fixed.reason);
            return self.fixed_shape(shape, fixed);
        };
        let axes = self.axes[operand.index()].clone();
        let heads = head_axes(graph, fixed.node);
        let mut parts: Vec<Axis> = Vec::with_capacity(factors.len());
        for (place, axis) in axes.iter().enumerate() {
            let of_axis = || factors.iter().filter(|f| f.from == place);
            let extents: Vec<usize> = of_axis().map(|f| f.extent).collect();
            let heads = of_axis().position(|f| heads.contains(&f.to));
            parts.extend(self.split(axis, &extents, heads, fixed));
        }
        let joined = |place: usize| {
            let parts: Vec<Axis> =
                factors.iter().zip(&parts).filter(|(f, _)| f.to == place).map(|(_, p)| p.clone()).collect();
            self.merge(&parts, fixed)
        };
        (0..to.len()).map(joined).collect()
    }

    /// The axes that an axis is split into. One of them can lose positions, the same ones wherever the others stand: the heads of
    /// attention, or that which leaves the most classes.
    fn split(&mut self, axis: &Axis, extents: &[usize], heads: Option<usize>, fixed: Fixed) -> Vec<Axis> {
        if let [_] = extents {
            return vec![axis.clone()];
        }
        let coordinate =
            |place: usize, part: usize| place / extents[part + 1..].iter().product::<usize>() % extents[part];
        let tied = |classes: &mut Classes, part: usize| -> Axis {
            let mut first: Vec<Option<Class>> = vec![None; extents[part]];
            for (place, &class) in axis.iter().enumerate() {
                match &mut first[coordinate(place, part)] {
                    Some(other) => classes.join(*other, class),
                    unset => *unset = Some(class),
                }
            }
            first.into_iter().flatten().collect()
        };
        let mut free = |part: usize| {
            let mut trial = self.classes.clone();
            let tied = tied(&mut trial, part);
            (trial.count_free(&tied), part)
        };
        let of_heads = heads.map(&mut free).filter(|&(free, _)| free > 1);
        let most = |best: (usize, usize), part| best.max(free(part));
        let (free, chosen) = of_heads.unwrap_or_else(|| (0..extents.len()).fold((0, 0), most));
        if free == 0 {
            self.classes.fix(axis, fixed);
        }
        let mut made = |part: usize| match part == chosen && free > 0 {
            true => tied(&mut self.classes, part),
            false => self.classes.fresh_fixed(extents[part], fixed),
        };
        (0..extents.len()).map(&mut made).collect()
    }

    /// The axis that axes are joined to. Only one of them can lose positions: that which has the most classes.
    fn merge(&mut self, parts: &[Axis], fixed: Fixed) -> Axis {
        if let [single] = parts {
            return single.clone();
        }
        let counts: Vec<usize> = parts.iter().map(|part| self.classes.count_free(part)).collect();
        let chosen = (0..parts.len()).filter(|&part| counts[part] > 0).max_by_key(|&part| counts[part]);
        for (place, part) in parts.iter().enumerate() {
            if Some(place) != chosen {
                self.classes.fix(part, fixed);
            }
        }
        let extent = parts.iter().map(|part| part.len()).product();
        let Some(chosen) = chosen else { return self.classes.fresh_fixed(extent, fixed) };
        let behind: usize = parts[chosen + 1..].iter().map(|part| part.len()).product();
        (0..extent).map(|place| parts[chosen][place / behind % parts[chosen].len()]).collect()
    }
}
