//! Operators from their names and attributes: the reading side of `attributes`.

use std::str::FromStr;

use super::attributes::{EPILOGUE, PAD_MODES, SCATTER_KINDS, Value, WIDE_EPILOGUE};
use super::number::parse_literal;
use crate::expr::Expr;
use crate::op::{Extreme, Op, PadMode, PoolKind, ReduceKind, Resample, ScatterKind, Window};
use crate::shape::Shape;
use crate::types::{DType, TensorType, Type};

/// The attributes of one line, less those already read.
pub(super) struct Attributes(pub(super) Vec<(String, Value)>);

type Read<T> = Result<T, String>;

/// The operator of a line. `ty` is the result's declared type; `accumulator` the element type of operand 0.
pub(super) fn read_op(
    name: &str,
    mut attributes: Attributes,
    ty: &Type,
    accumulator: Option<DType>,
) -> Result<Op, String> {
    let op = attributes.op(name, ty, accumulator)?;
    match attributes.0.first() {
        Some((key, _)) => Err(format!("unknown or repeated attribute {key}")),
        None => Ok(op),
    }
}

impl Attributes {
    fn op(&mut self, name: &str, ty: &Type, accumulator: Option<DType>) -> Read<Op> {
        Ok(match name {
            "map" => Op::Map(self.expression("expr")?.ok_or("map needs expr")?),
            "conv" => Op::Conv {
                window: self.window()?,
                groups: self.or("groups", 1)?,
                epilogue: self.epilogue(accumulator)?,
            },
            "conv_transpose" => self.conv_transpose(accumulator)?,
            "matmul" => Op::MatMul {
                transpose_a: self.flag("transpose_a")?,
                transpose_b: self.flag("transpose_b")?,
                epilogue: self.epilogue(accumulator)?,
            },
            "max_pool" => self.pool(PoolKind::Max)?,
            "average_pool" => {
                let count_pads = self.flag("count_pads")?;
                self.pool(PoolKind::Average { count_pads })?
            }
            "lp_pool" => {
                let p = self.word("p")?;
                self.pool(PoolKind::Lp { p })?
            }
            "max_pool_indices" => Op::PoolIndices {
                window: self.window()?,
                ceil: self.flag("ceil")?,
                column_major: self.flag("column_major")?,
            },
            "reduce_sum" => self.reduce(ReduceKind::Sum)?,
            "reduce_mean" => self.reduce(ReduceKind::Mean)?,
            "reduce_max" => self.reduce(ReduceKind::Max)?,
            "reduce_min" => self.reduce(ReduceKind::Min)?,
            "reduce_product" => self.reduce(ReduceKind::Product)?,
            "arg_max" => self.arg_reduce(Extreme::Max)?,
            "arg_min" => self.arg_reduce(Extreme::Min)?,
            "softmax" => Op::Softmax { axis: self.word("axis")?, log: false },
            "log_softmax" => Op::Softmax { axis: self.word("axis")?, log: true },
            "normalize" => Op::Normalize {
                axes: self.list("axes")?,
                epsilon: self.float("epsilon")?,
                root_mean_square: self.flag("root_mean_square")?,
            },
            "local_response_norm" => Op::LocalResponseNorm {
                size: self.word("size")?,
                alpha: self.float("alpha")?,
                beta: self.float("beta")?,
                bias: self.float("bias")?,
            },
            _ => self.movement(name, ty)?,
        })
    }

    fn movement(&mut self, name: &str, ty: &Type) -> Read<Op> {
        Ok(match name {
            "reshape" => Op::Reshape(shape(ty)?),
            "transpose" => Op::Transpose(self.list("perm")?),
            "broadcast" => Op::Broadcast(shape(ty)?),
            "concat" => Op::Concat { axis: self.word("axis")? },
            "slice" => self.slice(&shape(ty)?)?,
            "pad" => Op::Pad {
                mode: self.named("mode", &PAD_MODES, PadMode::Constant)?,
                before: self.list("before")?,
                after: self.list("after")?,
            },
            "tile" => Op::Tile { repeats: self.list("repeats")? },
            "resize" => self.resize()?,
            "gather" => Op::Gather { axis: self.word("axis")? },
            "gather_elements" => Op::GatherElements { axis: self.word("axis")? },
            "gather_nd" => Op::GatherNd { batch_dims: self.or("batch_dims", 0)? },
            "scatter_elements" => Op::ScatterElements { axis: self.word("axis")?, kind: self.scatter_kind()? },
            "scatter_nd" => Op::ScatterNd { kind: self.scatter_kind()? },
            "cumulative_sum" => Op::CumulativeSum {
                axis: self.word("axis")?,
                exclusive: self.flag("exclusive")?,
                reverse: self.flag("reverse")?,
            },
            "top_k" => Op::TopK {
                axis: self.word("axis")?,
                count: self.word("count")?,
                extreme: if self.flag("smallest")? { Extreme::Min } else { Extreme::Max },
            },
            "project" => Op::Project(self.word("index")?),
            "relayout" => Op::Relayout(tensor(ty)?.layout.clone()),
            _ => return Err("unknown operator".into()),
        })
    }

    fn conv_transpose(&mut self, accumulator: Option<DType>) -> Read<Op> {
        let window = self.window()?;
        let output_padding = self.list_or("output_padding", window.kernel.len(), 0)?;
        Ok(Op::ConvTranspose {
            window,
            output_padding,
            groups: self.or("groups", 1)?,
            epilogue: self.epilogue(accumulator)?,
        })
    }

    fn pool(&mut self, kind: PoolKind) -> Read<Op> {
        Ok(Op::Pool { kind, window: self.window()?, ceil: self.flag("ceil")? })
    }

    fn reduce(&mut self, kind: ReduceKind) -> Read<Op> {
        Ok(Op::Reduce { kind, axes: self.list("axes")? })
    }

    fn arg_reduce(&mut self, extreme: Extreme) -> Read<Op> {
        Ok(Op::ArgReduce { extreme, axis: self.word("axis")?, last: self.flag("last")? })
    }

    fn slice(&mut self, shape: &Shape) -> Read<Op> {
        let starts: Vec<usize> = self.list("starts")?;
        let steps = self.list_or("steps", starts.len(), 1)?;
        Ok(Op::Slice { starts, steps, counts: shape.extents() })
    }

    /// The attributes of each axis follow one another in the order of the axes.
    fn resize(&mut self) -> Read<Op> {
        let mut axes = Vec::new();
        while self.0.iter().any(|(key, _)| key == "axis") {
            let (axis, extent, taps) = (self.word("axis")?, self.word("extent")?, self.word("taps")?);
            let indices = self.list("indices")?;
            let weights = if self.next_is("weights") { self.floats("weights")? } else { Vec::new() };
            axes.push(Resample { axis, extent, taps, indices, weights });
        }
        Ok(Op::Resize { axes })
    }

    fn next_is(&self, key: &str) -> bool {
        self.0.first().is_some_and(|(next, _)| next == key)
    }

    fn window(&mut self) -> Read<Window> {
        let kernel: Vec<usize> = self.list("kernel")?;
        let rank = kernel.len();
        let strides = self.list_or("strides", rank, 1)?;
        let dilations = self.list_or("dilations", rank, 1)?;
        let mut pads_before: Vec<usize> = self.list_or("pads", 2 * rank, 0)?;
        if pads_before.len() != 2 * rank {
            return Err(format!("{} pads for a kernel of {rank} axes", pads_before.len()));
        }
        let pads_after = pads_before.split_off(rank);
        Ok(Window { kernel, strides, dilations, pads_before, pads_after })
    }

    fn epilogue(&mut self, accumulator: Option<DType>) -> Read<Expr> {
        match (self.expression(EPILOGUE)?, self.expression(WIDE_EPILOGUE)?, accumulator) {
            (Some(_), Some(_), _) => Err(format!("{EPILOGUE} and {WIDE_EPILOGUE} are one attribute")),
            (Some(expr), None, _) | (None, Some(expr), _) => Ok(expr),
            (None, None, Some(dtype)) => Ok(Op::plain_epilogue(dtype)),
            (None, None, None) => Err("takes two operands".into()),
        }
    }

    fn scatter_kind(&mut self) -> Read<ScatterKind> {
        self.named("kind", &SCATTER_KINDS, ScatterKind::Replace)
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        let place = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(place).1)
    }

    fn flag(&mut self, key: &str) -> Read<bool> {
        match self.take(key) {
            None => Ok(false),
            Some(Value::Flag) => Ok(true),
            Some(Value::Word(_) | Value::List(_) | Value::Expression(_)) => Err(format!("{key} takes no value")),
        }
    }

    fn optional_word(&mut self, key: &str) -> Read<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Word(word)) => Ok(Some(word)),
            Some(Value::Flag | Value::List(_) | Value::Expression(_)) => Err(format!("{key} takes one word")),
        }
    }

    fn word<T: FromStr>(&mut self, key: &str) -> Read<T> {
        let word = self.optional_word(key)?.ok_or_else(|| format!("{key} is missing"))?;
        parsed(key, &word)
    }

    fn or<T: FromStr>(&mut self, key: &str, plain: T) -> Read<T> {
        self.optional_word(key)?.map_or(Ok(plain), |word| parsed(key, &word))
    }

    fn named<T: Copy>(&mut self, key: &str, names: &[(T, &str)], plain: T) -> Read<T> {
        let Some(word) = self.optional_word(key)? else { return Ok(plain) };
        names.iter().find(|(_, name)| *name == word).map(|(value, _)| *value).ok_or_else(|| format!("{key}={word}"))
    }

    fn float(&mut self, key: &str) -> Read<u32> {
        let word = self.optional_word(key)?.ok_or_else(|| format!("{key} is missing"))?;
        float_bits(key, &word)
    }

    fn optional_list(&mut self, key: &str) -> Read<Option<Vec<String>>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::List(words)) => Ok(Some(words)),
            Some(Value::Flag | Value::Word(_) | Value::Expression(_)) => Err(format!("{key} takes a list")),
        }
    }

    fn list<T: FromStr>(&mut self, key: &str) -> Read<Vec<T>> {
        let words = self.optional_list(key)?.ok_or_else(|| format!("{key} is missing"))?;
        words.iter().map(|word| parsed(key, word)).collect()
    }

    fn list_or<T: FromStr + Clone>(&mut self, key: &str, length: usize, plain: T) -> Read<Vec<T>> {
        match self.optional_list(key)? {
            Some(words) => words.iter().map(|word| parsed(key, word)).collect(),
            None => Ok(vec![plain; length]),
        }
    }

    fn floats(&mut self, key: &str) -> Read<Vec<u32>> {
        let words = self.optional_list(key)?.unwrap_or_default();
        words.iter().map(|word| float_bits(key, word)).collect()
    }

    fn expression(&mut self, key: &str) -> Read<Option<Expr>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Expression(expr)) => Ok(Some(expr)),
            Some(Value::Flag | Value::Word(_) | Value::List(_)) => Err(format!("{key} takes an expression")),
        }
    }
}

fn parsed<T: FromStr>(key: &str, word: &str) -> Read<T> {
    word.parse().map_err(|_| format!("{key} cannot be {word}"))
}

fn float_bits(key: &str, word: &str) -> Read<u32> {
    let value = parse_literal(DType::F32, word).ok_or_else(|| format!("{key} cannot be {word}"))?;
    Ok(value.bits() as u32)
}

fn tensor(ty: &Type) -> Read<&TensorType> {
    match ty {
        Type::Tensor(ty) => Ok(ty),
        Type::Tuple(_) => Err("the result is one tensor".into()),
    }
}

fn shape(ty: &Type) -> Read<Shape> {
    tensor(ty).map(|ty| ty.shape.clone())
}
