//! Convolutions and matrix products.

use edgecc_ir::{BinaryOp, DType, Expr, NodeId, Op, Shape, TensorType, Window};

use super::Row;
use super::structure::extents;
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};

pub(super) const TABLE: &[Row] = &[
    ("Conv", 1, conv),
    ("ConvTranspose", 1, conv_transpose),
    ("Einsum", 12, einsum),
    ("Gemm", 1, gemm),
    ("MatMul", 1, matmul),
];

/// Most positions of a window: a pool over 4096x4096 pixels.
const MOST_TAPS: usize = 1 << 24;

/// `acc + operand 1`.
fn biased(dtype: DType) -> Expr {
    let mut expr = Expr::new();
    let (sum, bias) = (expr.arg(0, dtype), expr.arg(1, dtype));
    let root = expr.binary(BinaryOp::Add, sum, bias);
    expr.with_root(root)
}

/// Strides, dilations or pads, of a size that products of them with extents do not overflow.
fn distances(name: &str, values: &[i64]) -> Imported<Vec<usize>> {
    match values.iter().find(|value| !(0..=MOST_TAPS as i64).contains(value)) {
        Some(value) => invalid(format!("`{name}` has {value}, which is not in 0..={MOST_TAPS}")),
        None => extents(values),
    }
}

/// A list attribute with one entry per spatial axis.
fn per_axis(c: &Context<'_, '_>, name: &str, spatial: usize, default: usize) -> Imported<Vec<usize>> {
    let Some(values) = c.ints(name)?.filter(|values| !values.is_empty()) else { return Ok(vec![default; spatial]) };
    if values.len() != spatial {
        return invalid(format!("`{name}` is {values:?} for {spatial} spatial axes"));
    }
    distances(name, &values)
}

/// Pads of one axis so that the result has `ceil(input / stride)` elements; an odd one goes to the end, or to the start.
fn same_pads(input: usize, kernel: usize, stride: usize, dilation: usize, lower: bool) -> Option<[usize; 2]> {
    let span = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    let reach = input.div_ceil(stride.max(1)).checked_sub(1)?.checked_mul(stride)?.checked_add(span)?;
    let total = reach.saturating_sub(input);
    let (less, more) = (total / 2, total - total / 2);
    Some(if lower { [more, less] } else { [less, more] })
}

/// The window of a convolution or pool, `auto_pad` resolved.
pub(super) fn window(c: &Context<'_, '_>, x: NodeId, kernel: Vec<usize>) -> Imported<Window> {
    let spatial = kernel.len();
    let taps = kernel.iter().try_fold(1usize, |taps, &extent| taps.checked_mul(extent));
    if taps.is_none_or(|taps| taps > MOST_TAPS) {
        return invalid(format!("a kernel of {kernel:?} has more than {MOST_TAPS} taps"));
    }
    let strides = per_axis(c, "strides", spatial, 1)?;
    let dilations = per_axis(c, "dilations", spatial, 1)?;
    let mut pads_before = vec![0; spatial];
    let mut pads_after = vec![0; spatial];
    match c.text("auto_pad", "NOTSET")?.as_str() {
        "NOTSET" | "" => {
            if let Some(pads) = c.ints("pads")?.filter(|pads| !pads.is_empty()) {
                let pads = distances("pads", &pads)?;
                if pads.len() != 2 * spatial {
                    return invalid(format!("`pads` is {pads:?} for {spatial} spatial axes"));
                }
                let (before, after) = pads.split_at(spatial);
                (pads_before, pads_after) = (before.to_vec(), after.to_vec());
            }
        }
        "VALID" => {}
        mode @ ("SAME_UPPER" | "SAME_LOWER") => {
            pads_before.clear();
            pads_after.clear();
            for (axis, ((&kernel, &stride), &dilation)) in kernel.iter().zip(&strides).zip(&dilations).enumerate() {
                let input = c.extent(x, axis + 2)?;
                let pads = same_pads(input, kernel, stride, dilation, mode == "SAME_LOWER");
                let Some([before, after]) = pads else { return invalid(format!("{mode} of an axis of {input}")) };
                pads_before.push(before);
                pads_after.push(after);
            }
        }
        other => return invalid(format!("`auto_pad` is `{other}`")),
    }
    Ok(Window { kernel, strides, dilations, pads_before, pads_after })
}

fn groups(c: &Context<'_, '_>) -> Imported<usize> {
    match usize::try_from(c.int("group", 1)?) {
        Ok(groups) if groups > 0 => Ok(groups),
        _ => invalid(format!("`group` is {}", c.int("group", 1)?)),
    }
}

/// The kernel's extents, from the weights; the attribute must agree.
fn kernel(c: &Context<'_, '_>, x: NodeId, w: NodeId) -> Imported<Vec<usize>> {
    let (rank, weights) = (c.rank(x)?, c.shape(w)?.extents());
    if rank < 3 || weights.len() != rank {
        return invalid(format!("weights {} for an image {}", c.ty(w)?, c.ty(x)?));
    }
    let kernel = weights.get(2..).unwrap_or(&[]).to_vec();
    match c.ints("kernel_shape")?.map(|shape| extents(&shape)).transpose()? {
        Some(shape) if !shape.is_empty() && shape != kernel => {
            invalid(format!("`kernel_shape` is {shape:?}, the weights are {}", c.ty(w)?))
        }
        _ => Ok(kernel),
    }
}

/// The operands with a bias of `[O,1,1..]`, and the epilogue that adds it.
fn with_bias(c: &mut Context<'_, '_>, x: NodeId, w: NodeId) -> Imported<(Vec<NodeId>, Expr)> {
    let dtype = c.dtype(x)?;
    let Some(bias) = c.optional(2) else { return Ok((vec![x, w], Op::plain_epilogue(dtype))) };
    let rank = c.rank(x)?;
    let bias = c.per_channel(bias, rank)?;
    Ok((vec![x, w, bias], biased(dtype)))
}

fn conv(c: &mut Context<'_, '_>) -> Results {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let kernel = kernel(c, x, w)?;
    let (window, groups) = (window(c, x, kernel)?, groups(c)?);
    let (operands, epilogue) = with_bias(c, x, w)?;
    Ok(vec![c.add(Op::Conv { window, groups, epilogue }, &operands)?])
}

/// `output_shape` and `auto_pad` decide the pads: `stride * (in - 1) + output_padding + span - out`. Where that is negative,
/// it is added to the output's padding.
fn conv_transpose(c: &mut Context<'_, '_>) -> Results {
    let (x, w) = (c.input(0)?, c.input(1)?);
    let kernel = kernel(c, x, w)?;
    let spatial = kernel.len();
    let strides = per_axis(c, "strides", spatial, 1)?;
    let dilations = per_axis(c, "dilations", spatial, 1)?;
    let mut output_padding = per_axis(c, "output_padding", spatial, 0)?;
    let asked = c.ints("output_shape")?.filter(|shape| !shape.is_empty()).map(|shape| extents(&shape)).transpose()?;
    let mode = c.text("auto_pad", "NOTSET")?;
    let (mut pads_before, mut pads_after) = (vec![0; spatial], vec![0; spatial]);
    let same = mode.starts_with("SAME");
    if asked.is_some() || same {
        let sizes = kernel.iter().zip(&strides).zip(&dilations).zip(&mut output_padding);
        let pads = pads_before.iter_mut().zip(&mut pads_after);
        for (axis, ((((&kernel, &stride), &dilation), padding), (before, after))) in sizes.zip(pads).enumerate() {
            let input = c.extent(x, axis + 2)?;
            let span = kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1);
            let full = input.saturating_sub(1).saturating_mul(stride).saturating_add(*padding).saturating_add(span);
            let out = match &asked {
                Some(shape) => shape.get(shape.len().saturating_sub(spatial) + axis).copied().unwrap_or(0),
                None => input.saturating_mul(stride),
            };
            *padding = padding.saturating_add(out.saturating_sub(full));
            let total = full.saturating_sub(out);
            let (less, more) = (total / 2, total - total / 2);
            (*before, *after) = if mode == "SAME_UPPER" { (less, more) } else { (more, less) };
        }
    } else if mode != "VALID" {
        let window = window(c, x, kernel.clone())?;
        (pads_before, pads_after) = (window.pads_before, window.pads_after);
    }
    let window = Window { kernel, strides, dilations, pads_before, pads_after };
    let groups = groups(c)?;
    let (operands, epilogue) = with_bias(c, x, w)?;
    Ok(vec![c.add(Op::ConvTranspose { window, output_padding, groups, epilogue }, &operands)?])
}

/// `alpha * A' * B' + beta * C`.
fn gemm(c: &mut Context<'_, '_>) -> Results {
    let (a, b) = (c.input(0)?, c.input(1)?);
    if c.rank(a)? != 2 || c.rank(b)? != 2 {
        return invalid(format!("takes matrices, got {} and {}", c.ty(a)?, c.ty(b)?));
    }
    let dtype = c.dtype(a)?;
    let (alpha, beta) = (c.float("alpha", 1.0)?, c.float("beta", 1.0)?);
    let product = Op::MatMul {
        transpose_a: c.int("transA", 0)? != 0,
        transpose_b: c.int("transB", 0)? != 0,
        epilogue: Op::plain_epilogue(dtype),
    };
    let mut result = c.add(product, &[a, b])?;
    if alpha != 1.0 {
        let factor = c.number(dtype, alpha as f64);
        result = c.binary(BinaryOp::Mul, result, factor)?;
    }
    if let Some(mut summand) = c.optional(2).filter(|_| beta != 0.0) {
        let (target, own) = (c.shape(result)?, c.shape(summand)?);
        if target.broadcast(&own).as_ref() != Some(&target) {
            return invalid(format!("C is {}, the product is {}", c.ty(summand)?, c.ty(result)?));
        }
        if beta != 1.0 {
            let factor = c.number(dtype, beta as f64);
            summand = c.binary(BinaryOp::Mul, summand, factor)?;
        }
        result = c.binary(BinaryOp::Add, result, summand)?;
    }
    Ok(vec![result])
}

fn matmul(c: &mut Context<'_, '_>) -> Results {
    let (a, b) = (c.input(0)?, c.input(1)?);
    Ok(vec![product(c, a, b)?])
}

/// NumPy's `matmul`: a vector on the left is a row, on the right a column, and its axis goes from the result.
pub(super) fn product(c: &mut Context<'_, '_>, a: NodeId, b: NodeId) -> Imported<NodeId> {
    let (left, right) = (c.shape(a)?.extents(), c.shape(b)?.extents());
    let matrix_a = match left[..] {
        [] => return invalid("takes no scalar"),
        [row] => c.reshape(a, &[1, row])?,
        _ => a,
    };
    let matrix_b = match right[..] {
        [] => return invalid("takes no scalar"),
        [column] => c.reshape(b, &[column, 1])?,
        _ => b,
    };
    let epilogue = Op::plain_epilogue(c.dtype(a)?);
    let result = c.add(Op::MatMul { transpose_a: false, transpose_b: false, epilogue }, &[matrix_a, matrix_b])?;
    let mut extents = c.shape(result)?.extents();
    if right.len() == 1 {
        extents.pop();
    }
    if left.len() == 1 {
        let row = extents.len() - if right.len() == 1 { 1 } else { 2 };
        extents.remove(row);
    }
    c.reshape(result, &extents)
}

/// The terms of an einsum equation, an ellipsis written out as digits.
struct Equation {
    inputs: Vec<Vec<char>>,
    output: Vec<char>,
}

fn parse(text: &str, ranks: &[usize]) -> Imported<Equation> {
    let text: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left.to_string(), Some(right.to_string())),
        None => (text, None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != ranks.len() {
        return invalid(format!("{} terms for {} inputs", terms.len(), ranks.len()));
    }
    let letters = |term: &str| term.replace("...", "").chars().count();
    let dots = terms
        .iter()
        .zip(ranks)
        .filter(|(term, _)| term.contains("..."))
        .map(|(term, &rank)| rank.saturating_sub(letters(term)));
    let most = dots.max().unwrap_or(0);
    let digits = |count: usize| {
        (most - count..most)
            .filter_map(|n| char::from_digit(n as u32, 36).map(|d| d.to_ascii_uppercase()))
            .collect::<String>()
    };
    let mut inputs = Vec::new();
    for (term, &rank) in terms.iter().zip(ranks) {
        let count = rank.saturating_sub(letters(term)).min(most);
        let full: Vec<char> = term.replace("...", &digits(count)).chars().collect();
        if full.len() != rank {
            return invalid(format!("term `{term}` for a tensor of rank {rank}"));
        }
        inputs.push(full);
    }
    let output = match right {
        Some(right) => right.replace("...", &digits(most)).chars().collect(),
        None => {
            let mut once: Vec<char> = inputs.iter().flatten().copied().filter(|letter| letter.is_lowercase()).collect();
            once.sort_unstable();
            let all = once.clone();
            once.retain(|letter| all.iter().filter(|other| *other == letter).count() == 1);
            digits(most).chars().chain(once).collect()
        }
    };
    Ok(Equation { inputs, output })
}

/// Two terms at a time: axes of both and the result are batch axes, axes of both alone are summed, the others are rows and
/// columns of a matrix product.
fn einsum(c: &mut Context<'_, '_>) -> Results {
    let inputs = c.all_inputs()?;
    let ranks = inputs.iter().map(|&input| c.rank(input)).collect::<Imported<Vec<usize>>>()?;
    let equation = parse(&c.text("equation", "")?, &ranks)?;
    let mut terms: Vec<(NodeId, Vec<char>)> = Vec::new();
    for (&input, letters) in inputs.iter().zip(&equation.inputs) {
        terms.push(diagonal(c, input, letters)?);
    }
    while terms.len() > 1 {
        let second = terms.remove(1);
        let first = terms.remove(0);
        let kept: Vec<char> =
            equation.output.iter().chain(terms.iter().flat_map(|(_, letters)| letters)).copied().collect();
        terms.insert(0, contract(c, first, second, &kept)?);
    }
    let Some((result, letters)) = terms.pop() else { return invalid("takes at least one input") };
    let (result, letters) = summed(c, result, letters, &equation.output)?;
    let perm: Option<Vec<usize>> =
        equation.output.iter().map(|letter| letters.iter().position(|other| other == letter)).collect();
    match perm {
        Some(perm) => Ok(vec![c.transpose(result, &perm)?]),
        None => invalid("the result names an axis that no input has"),
    }
}

fn diagonal(c: &mut Context<'_, '_>, x: NodeId, letters: &[char]) -> Imported<(NodeId, Vec<char>)> {
    let mut seen = std::collections::HashSet::new();
    if letters.iter().all(|letter| seen.insert(letter)) {
        return Ok((x, letters.to_vec()));
    }
    // A repeated letter takes the diagonal: pick it by flat positions.
    let shape = c.shape(x)?;
    let mut distinct: Vec<char> = Vec::new();
    letters.iter().for_each(|letter| {
        if !distinct.contains(letter) {
            distinct.push(*letter)
        }
    });
    let strides = shape.strides();
    let mut extents = Vec::new();
    let mut steps = Vec::new();
    for letter in &distinct {
        let of_letter = || letters.iter().zip(shape.dims()).zip(&strides).filter(|((other, _), _)| *other == letter);
        extents.push(of_letter().map(|((_, extent), _)| extent.get()).min().unwrap_or(1));
        steps.push(of_letter().map(|(_, &stride)| stride).sum::<usize>());
    }
    c.check_size(&TensorType::new(DType::I64, Shape::new(&extents)))?;
    let mut places = vec![0i64];
    for (extent, step) in extents.iter().zip(&steps) {
        places = places.iter().flat_map(|place| (0..*extent).map(move |i| place + (i * step) as i64)).collect();
    }
    let elements = shape.elements().unwrap_or(0);
    let flat = c.reshape(x, &[elements])?;
    let indices = c.constant_ints(&places);
    let picked = c.add(Op::Gather { axis: 0 }, &[flat, indices])?;
    Ok((c.reshape(picked, &extents)?, distinct))
}

/// Sums away the axes that nobody asks for.
fn summed(c: &mut Context<'_, '_>, x: NodeId, letters: Vec<char>, kept: &[char]) -> Imported<(NodeId, Vec<char>)> {
    let is_kept = |letter: &char| kept.contains(letter);
    let axes: Vec<usize> = (0..).zip(&letters).filter(|(_, letter)| !is_kept(letter)).map(|(axis, _)| axis).collect();
    if axes.is_empty() {
        return Ok((x, letters));
    }
    let reduced = c.add(Op::Reduce { kind: edgecc_ir::ReduceKind::Sum, axes }, &[x])?;
    let extents = c.shape(reduced)?.extents();
    let (left, extents): (Vec<char>, Vec<usize>) =
        letters.into_iter().zip(extents).filter(|(letter, _)| is_kept(letter)).unzip();
    Ok((c.reshape(reduced, &extents)?, left))
}

fn contract(
    c: &mut Context<'_, '_>,
    (a, letters_a): (NodeId, Vec<char>),
    (b, letters_b): (NodeId, Vec<char>),
    kept: &[char],
) -> Imported<(NodeId, Vec<char>)> {
    let wanted_a: Vec<char> = letters_b.iter().chain(kept).copied().collect();
    let wanted_b: Vec<char> = letters_a.iter().chain(kept).copied().collect();
    let (a, letters_a) = summed(c, a, letters_a, &wanted_a)?;
    let (b, letters_b) = summed(c, b, letters_b, &wanted_b)?;
    let shared: Vec<char> = letters_a.iter().copied().filter(|letter| letters_b.contains(letter)).collect();
    let (batch, inner): (Vec<char>, Vec<char>) = shared.iter().partition(|letter| kept.contains(letter));
    let rows: Vec<char> = letters_a.iter().copied().filter(|letter| !shared.contains(letter)).collect();
    let columns: Vec<char> = letters_b.iter().copied().filter(|letter| !shared.contains(letter)).collect();
    let (left, [batch_a, row_extents, _]) = arranged(c, a, &letters_a, [&batch, &rows, &inner])?;
    let (right, [batch_b, _, column_extents]) = arranged(c, b, &letters_b, [&batch, &inner, &columns])?;
    let product = product(c, left, right)?;
    let batch_extents: Vec<usize> = batch_a.iter().zip(&batch_b).map(|(&x, &y)| x.max(y)).collect();
    let extents = [batch_extents, row_extents, column_extents].concat();
    Ok((c.reshape(product, &extents)?, [batch, rows, columns].concat()))
}

/// The tensor with its axes in three groups, each made one axis (the batch group stays apart); the groups' extents.
fn arranged(
    c: &mut Context<'_, '_>,
    x: NodeId,
    letters: &[char],
    groups: [&Vec<char>; 3],
) -> Imported<(NodeId, [Vec<usize>; 3])> {
    let perm: Option<Vec<usize>> = groups
        .iter()
        .flat_map(|group| group.iter())
        .map(|letter| letters.iter().position(|other| other == letter))
        .collect();
    let Some(perm) = perm else { return unsupported("this equation") };
    let moved = c.transpose(x, &perm)?;
    let mut extents = c.shape(moved)?.extents();
    let [outer, inner, _] = groups;
    let last = extents.split_off(outer.len() + inner.len());
    let middle = extents.split_off(outer.len());
    let shape = [&extents[..], &[middle.iter().product(), last.iter().product()]].concat();
    Ok((c.reshape(moved, &shape)?, [extents, middle, last]))
}
