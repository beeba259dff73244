//! LSTM, written out step by step: ONNX's, and com.microsoft's whose products are of integers.

use edgecc_ir::{BinaryOp, DType, NodeId, Op, UnaryOp};

use super::Row;
use super::movement::part;
use super::quantization::{dynamically_quantized, integer_product};
use super::recurrence::{MOST_STEPS, slice, stacked};
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};

pub(super) const TABLE: &[Row] = &[("LSTM", 7, lstm), ("com.microsoft::DynamicQuantizeLSTM", 1, lstm)];

/// Weights of a direction: of the input, and of the hidden state.
struct Weights {
    input: Matrix,
    hidden: Matrix,
    /// Sums of both biases, `[4H]`, gates in the order input, output, forget, cell.
    bias: Option<NodeId>,
}

/// A matrix of weights that rows are multiplied by.
enum Matrix {
    /// `[4H,K]` numbers.
    Numbers(NodeId),
    /// `[K,4H]` integers with their scale and zero point; rows are quantised as they are then.
    Integers { integers: NodeId, scale: NodeId, zero: NodeId },
}

/// What the step before left, `[B,H]` each.
#[derive(Clone, Copy)]
struct State {
    hidden: NodeId,
    cell: NodeId,
}

/// X `[T,B,I]`, W, R, B, lengths, hidden state, cell state, peepholes; of integers then scales and zero points of W and R.
/// Gives Y `[T,D,B,H]` and the last states `[D,B,H]`.
fn lstm(c: &mut Context<'_, '_>) -> Results {
    refuse_variants(c)?;
    let x = c.input(0)?;
    let &[steps, batch, depth] = &c.shape(x)?.extents()[..] else { return invalid("X is not [steps,batch,features]") };
    if steps == 0 || steps > MOST_STEPS {
        return unsupported(format!("{steps} steps; 1 to {MOST_STEPS} are written out"));
    }
    let weights = c.input(1)?;
    let directions = c.extent(weights, 0)?;
    let recurrent = c.input(2)?;
    let hidden = c.extent(recurrent, if c.operator() == "LSTM" { 2 } else { 1 })?;
    let width = c.int("hidden_size", hidden as i64)?;
    if usize::try_from(width) != Ok(hidden) {
        return invalid(format!("`hidden_size` is {width}, and R is for {hidden}"));
    }
    let is_backward = match (c.text("direction", "forward")?.as_str(), directions) {
        ("forward", 1) => vec![false],
        ("reverse", 1) => vec![true],
        ("bidirectional", 2) => vec![false, true],
        (other, _) => return invalid(format!("direction `{other}` of {directions}")),
    };
    let rows = c.reshape(x, &[steps * batch, depth])?;
    let (mut sequences, mut last) = (Vec::new(), Vec::new());
    for (direction, &is_backward) in is_backward.iter().enumerate() {
        let weights = Weights::of(c, direction, hidden)?;
        let initial = |c: &mut Context<'_, '_>, place: usize| match c.optional(place) {
            Some(state) => slice(c, state, 0, direction),
            None => {
                let zero = c.number(DType::F32, 0.0);
                c.add(Op::Broadcast(edgecc_ir::Shape::new(&[batch, hidden])), &[zero])
            }
        };
        let mut state = State { hidden: initial(c, 5)?, cell: initial(c, 6)? };
        let of_input = weights.of_input(c, rows)?;
        let mut sequence = Vec::with_capacity(steps);
        for step in 0..steps {
            let place = if is_backward { steps - 1 - step } else { step };
            let of_input = part(c, of_input, 0, place * batch, batch)?;
            state = weights.step(c, of_input, state, hidden)?;
            sequence.push(state.hidden);
        }
        if is_backward {
            sequence.reverse();
        }
        sequences.push(stacked(c, &sequence, 0)?);
        last.push(state);
    }
    let y = stacked(c, &sequences, 1)?;
    let hidden: Vec<NodeId> = last.iter().map(|state| state.hidden).collect();
    let cell: Vec<NodeId> = last.iter().map(|state| state.cell).collect();
    Ok(vec![y, stacked(c, &hidden, 0)?, stacked(c, &cell, 0)?])
}

fn refuse_variants(c: &Context<'_, '_>) -> Imported<()> {
    let activations = c.texts("activations")?;
    let usual = ["sigmoid", "tanh", "tanh"].iter().cycle();
    if !activations.iter().zip(usual).all(|(name, usual)| name.eq_ignore_ascii_case(usual)) {
        return unsupported(format!("activations {activations:?}"));
    }
    let refused = [
        (c.optional(4).is_some(), "lengths of sequences"),
        (c.optional(7).is_some(), "peepholes"),
        (c.given_float("clip")?.is_some(), "`clip`"),
        (c.int("input_forget", 0)? != 0, "`input_forget`"),
        (c.int("layout", 0)? != 0, "`layout`"),
    ];
    match refused.into_iter().find(|(given, _)| *given) {
        Some((_, what)) => unsupported(what),
        None => Ok(()),
    }
}

impl Weights {
    fn of(c: &mut Context<'_, '_>, direction: usize, hidden: usize) -> Imported<Weights> {
        let of_direction = |c: &mut Context<'_, '_>, place: usize| {
            let all = c.input(place)?;
            slice(c, all, 0, direction)
        };
        let matrix = |c: &mut Context<'_, '_>, place: usize, scale: usize| -> Imported<Matrix> {
            match c.operator() {
                "LSTM" => Ok(Matrix::Numbers(of_direction(c, place)?)),
                _ => {
                    let (scale, zero) = (of_direction(c, scale)?, of_direction(c, scale + 1)?);
                    Ok(Matrix::Integers { integers: of_direction(c, place)?, scale, zero })
                }
            }
        };
        let (input, of_hidden) = (matrix(c, 1, 8)?, matrix(c, 2, 10)?);
        let bias = match c.optional(3) {
            None => None,
            Some(_) => {
                let both = of_direction(c, 3)?;
                let (own, other) = (part(c, both, 0, 0, 4 * hidden)?, part(c, both, 0, 4 * hidden, 4 * hidden)?);
                Some(c.binary(BinaryOp::Add, own, other)?)
            }
        };
        Ok(Weights { input, hidden: of_hidden, bias })
    }

    /// What the input adds to the gates of every step, with the biases: `[T*B,4H]`.
    fn of_input(&self, c: &mut Context<'_, '_>, rows: NodeId) -> Imported<NodeId> {
        let sums = self.input.product(c, rows)?;
        self.bias.map_or(Ok(sums), |bias| c.binary(BinaryOp::Add, sums, bias))
    }

    /// `cell' = forget * cell + input * candidate`, `hidden' = output * tanh(cell')`.
    fn step(&self, c: &mut Context<'_, '_>, of_input: NodeId, state: State, hidden: usize) -> Imported<State> {
        let of_hidden = self.hidden.product(c, state.hidden)?;
        let gates = c.binary(BinaryOp::Add, of_input, of_hidden)?;
        let gate = |c: &mut Context<'_, '_>, place: usize, function| {
            let sums = part(c, gates, 1, place * hidden, hidden)?;
            c.unary(function, sums)
        };
        let [input, output, forget] =
            [gate(c, 0, UnaryOp::Sigmoid)?, gate(c, 1, UnaryOp::Sigmoid)?, gate(c, 2, UnaryOp::Sigmoid)?];
        let candidate = gate(c, 3, UnaryOp::Tanh)?;
        let kept = c.binary(BinaryOp::Mul, forget, state.cell)?;
        let new = c.binary(BinaryOp::Mul, input, candidate)?;
        let cell = c.binary(BinaryOp::Add, kept, new)?;
        let wide = c.unary(UnaryOp::Tanh, cell)?;
        Ok(State { hidden: c.binary(BinaryOp::Mul, output, wide)?, cell })
    }
}

impl Matrix {
    /// Rows `[N,K]` times the matrix: `[N,4H]`.
    fn product(&self, c: &mut Context<'_, '_>, rows: NodeId) -> Imported<NodeId> {
        match *self {
            Matrix::Numbers(weights) => {
                let epilogue = Op::plain_epilogue(c.dtype(rows)?);
                c.add(Op::MatMul { transpose_a: false, transpose_b: true, epilogue }, &[rows, weights])
            }
            Matrix::Integers { integers, scale, zero } => {
                let [quantized, scale_of_rows, zero_of_rows] = dynamically_quantized(c, rows)?;
                let sums = integer_product(c, [quantized, integers], [Some(zero_of_rows), Some(zero)])?;
                let sums = c.cast(sums, DType::F32)?;
                let step = c.binary(BinaryOp::Mul, scale_of_rows, scale)?;
                c.binary(BinaryOp::Mul, sums, step)
            }
        }
    }
}
