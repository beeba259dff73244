//! Text to graph.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::attributes::{Value, expression_arguments};
use super::expression::Arguments;
use super::lexer::{Lexer, ParseError, Token};
use super::number::parse_literal;
use super::parse_expression;
use super::read::{Attributes, read_op};
use crate::graph::{Graph, NodeId, Origin};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::types::{DType, Layout, Scalar, TensorType, Type};
use crate::verify::verify;

/// Most axes of a tensor in the text.
const MAX_RANK: usize = 32;

impl Graph {
    /// Reads the text of [`Graph::to_text`]. The graph passes [`verify`].
    pub fn from_text(text: &str) -> Result<Graph, ParseError> {
        let mut lexer = Lexer::new(text);
        lexer.expect_word("graph")?;
        let (name, _) = lexer.name()?;
        let mut parser = Parser { lexer, graph: Graph::new(name), known: HashMap::new() };
        parser.inputs()?;
        parser.lexer.expect("{")?;
        while parser.statement()? {}
        parser.outputs()?;
        parser.lexer.expect("}")?;
        parser.end()?;
        Ok(parser.graph)
    }
}

/// What a line calls a node: its sigil, its name, and whether the name is a number rather than a name of the model.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Handle {
    sigil: &'static str,
    name: String,
    number: bool,
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    graph: Graph,
    known: HashMap<Handle, NodeId>,
}

impl Parser<'_> {
    fn inputs(&mut self) -> Result<(), ParseError> {
        self.lexer.expect("(")?;
        if self.lexer.accept(")")? {
            return Ok(());
        }
        loop {
            let place = self.lexer.place();
            let handle = self.handle()?;
            self.lexer.expect(":")?;
            let ty = self.tensor_type()?;
            if handle.sigil != "%" || handle.number {
                return Err(self.lexer.error_at(place, "an input is called by a name behind %"));
            }
            let id = self.graph.input(handle.name.clone(), ty);
            self.define(handle, id, place)?;
            if !self.lexer.accept(",")? {
                return self.lexer.expect(")");
            }
        }
    }

    /// Reads one line; false at `return`.
    fn statement(&mut self) -> Result<bool, ParseError> {
        if self.lexer.peek()? == Token::Word("return".into()) {
            return Ok(false);
        }
        let place = self.lexer.place();
        let handle = self.handle()?;
        self.lexer.expect("=")?;
        let id = if handle.sigil == "@" { self.constant(&handle)? } else { self.operation()? };
        self.define(handle, id, place)?;
        Ok(true)
    }

    fn constant(&mut self, handle: &Handle) -> Result<NodeId, ParseError> {
        self.lexer.expect_word("const")?;
        let ty = self.tensor_type()?;
        let value = self.elements(&ty)?;
        let origin = match self.origin()? {
            Some(origin) => origin,
            None if handle.number => Origin::default(),
            None => Origin::named(handle.name.clone()),
        };
        let id = self.graph.constant(value, origin);
        self.graph.set_type(id, Type::Tensor(ty));
        Ok(id)
    }

    fn operation(&mut self) -> Result<NodeId, ParseError> {
        let place = self.lexer.place();
        let name = self.lexer.word()?;
        let operands = self.operands()?;
        let attributes = self.attributes(&operands)?;
        self.lexer.expect(":")?;
        let declared = self.result_type()?;
        let origin = self.origin()?.unwrap_or_default();
        let accumulator = operands.first().and_then(|&id| self.dtype(id));
        let op = read_op(&name, attributes, &declared, accumulator)
            .map_err(|what| self.lexer.error_at(place, format!("{name}: {what}")))?;
        let id =
            self.graph.add(op, &operands, origin).map_err(|error| self.lexer.error_at(place, error.to_string()))?;
        self.declare(id, declared, place)?;
        Ok(id)
    }

    /// Gives a node the layout of its declared type, which has the dtype and shape that follow from the operands.
    fn declare(&mut self, id: NodeId, declared: Type, place: usize) -> Result<(), ParseError> {
        let inferred = self.graph.node(id).ty();
        if !declared.agrees(inferred) {
            return Err(self.lexer.error_at(place, format!("the result is {inferred}, not {declared}")));
        }
        self.graph.set_type(id, declared);
        Ok(())
    }

    fn operands(&mut self) -> Result<Vec<NodeId>, ParseError> {
        let mut operands = Vec::new();
        while matches!(self.lexer.peek()?, Token::Sign("%" | "@")) {
            operands.push(self.value()?);
            if !self.lexer.accept(",")? {
                break;
            }
        }
        Ok(operands)
    }

    fn attributes(&mut self, operands: &[NodeId]) -> Result<Attributes, ParseError> {
        let mut attributes = Vec::new();
        while let Token::Word(key) = self.lexer.peek()? {
            self.lexer.next()?;
            let value = if self.lexer.accept("=")? { self.attribute_value(&key, operands)? } else { Value::Flag };
            attributes.push((key, value));
        }
        Ok(Attributes(attributes))
    }

    fn attribute_value(&mut self, key: &str, operands: &[NodeId]) -> Result<Value, ParseError> {
        if let Some(arguments) = expression_arguments(key) {
            let types = self.argument_types(arguments, operands)?;
            return parse_expression::parse(&mut self.lexer, arguments, &types).map(Value::Expression);
        }
        if self.lexer.accept("[")? {
            return self.words("]").map(Value::List);
        }
        self.signed_word().map(Value::Word)
    }

    fn argument_types(&mut self, arguments: Arguments, operands: &[NodeId]) -> Result<Vec<DType>, ParseError> {
        let place = self.lexer.place();
        let types: Option<Vec<DType>> = operands.iter().map(|&id| self.dtype(id)).collect();
        let mut types = types.ok_or_else(|| self.lexer.error_at(place, "an operand is a tuple"))?;
        if arguments != Arguments::Map && types.len() > 1 {
            types.remove(1);
        }
        if let Some(accumulator) = types.first_mut() {
            match (arguments, *accumulator) {
                (Arguments::WideEpilogue, _) => *accumulator = DType::F32,
                (Arguments::Epilogue, DType::I8) => *accumulator = DType::I32,
                (Arguments::Epilogue | Arguments::Map, _) => {}
            }
        }
        Ok(types)
    }

    /// The element type of a node with one result.
    fn dtype(&self, id: NodeId) -> Option<DType> {
        match self.graph.node(id).ty() {
            Type::Tensor(ty) => Some(ty.dtype),
            Type::Tuple(_) => None,
        }
    }

    fn outputs(&mut self) -> Result<(), ParseError> {
        self.lexer.expect_word("return")?;
        while self.lexer.peek()? != Token::Sign("}") {
            let node = self.value()?;
            self.lexer.expect_word("as")?;
            let (name, _) = self.lexer.name()?;
            self.graph.output(name, node);
            if !self.lexer.accept(",")? {
                break;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), ParseError> {
        let place = self.lexer.place();
        match self.lexer.next()? {
            Token::End => verify(&self.graph).map_err(|error| self.lexer.error_at(place, error.to_string())),
            token => Err(self.lexer.error_at(place, format!("expected the end, found {}", token.describe()))),
        }
    }

    fn define(&mut self, handle: Handle, id: NodeId, place: usize) -> Result<(), ParseError> {
        match self.known.entry(handle) {
            Entry::Vacant(entry) => {
                entry.insert(id);
                Ok(())
            }
            Entry::Occupied(entry) => {
                let Handle { sigil, name, .. } = entry.key();
                Err(self.lexer.error_at(place, format!("{sigil}{name} is defined twice")))
            }
        }
    }

    /// A use of a node that an earlier line defines.
    fn value(&mut self) -> Result<NodeId, ParseError> {
        let place = self.lexer.place();
        let handle = self.handle()?;
        match self.known.get(&handle) {
            Some(&id) => Ok(id),
            None => Err(self.lexer.error_at(place, format!("{}{} is not defined", handle.sigil, handle.name))),
        }
    }

    fn handle(&mut self) -> Result<Handle, ParseError> {
        let place = self.lexer.place();
        let sigil = match self.lexer.next()? {
            Token::Sign(sigil @ ("%" | "@")) => sigil,
            token => return Err(self.lexer.error_at(place, format!("expected % or @, found {}", token.describe()))),
        };
        let (name, quoted) = self.lexer.name()?;
        let number = !quoted && name.chars().all(|c| c.is_ascii_digit());
        Ok(Handle { sigil, name, number })
    }

    fn origin(&mut self) -> Result<Option<Origin>, ParseError> {
        if !self.lexer.accept(";")? {
            return Ok(None);
        }
        let mut names = vec![self.lexer.name()?.0];
        while self.lexer.accept("+")? {
            names.push(self.lexer.name()?.0);
        }
        Ok(Some(Origin(names)))
    }

    fn result_type(&mut self) -> Result<Type, ParseError> {
        if !self.lexer.accept("(")? {
            return self.tensor_type().map(Type::Tensor);
        }
        let mut types = vec![self.tensor_type()?];
        while self.lexer.accept(",")? {
            types.push(self.tensor_type()?);
        }
        self.lexer.expect(")")?;
        Ok(Type::Tuple(types))
    }

    fn tensor_type(&mut self) -> Result<TensorType, ParseError> {
        let place = self.lexer.place();
        let name = self.lexer.word()?;
        let dtype = DType::from_name(&name);
        let dtype = dtype.ok_or_else(|| self.lexer.error_at(place, format!("{name} is no element type")))?;
        self.lexer.expect("[")?;
        let place = self.lexer.place();
        let mut words = Vec::new();
        while !self.lexer.accept("]")? {
            words.push(self.lexer.word()?);
        }
        match tensor_type(dtype, &words) {
            Some(ty) => Ok(ty),
            None => Err(self.lexer.error_at(place, format!("{dtype}[{}] is no type of a tensor", words.join(" ")))),
        }
    }

    fn elements(&mut self, ty: &TensorType) -> Result<Tensor, ParseError> {
        let place = self.lexer.place();
        let value = if self.lexer.accept("{")? {
            let words = self.words("}")?;
            let values = words.iter().map(|word| self.element(ty.dtype, word, place)).collect::<Result<Vec<_>, _>>()?;
            Tensor::from_scalars(ty.dtype, ty.shape.clone(), values)
        } else if self.lexer.peek()? == Token::Word("hex".into()) {
            self.lexer.next()?;
            let bytes = self.bytes()?;
            Tensor::dense(ty.dtype, ty.shape.clone(), bytes.into())
        } else {
            let word = self.signed_word()?;
            Tensor::splat(ty.shape.clone(), self.element(ty.dtype, &word, place)?)
        };
        value.map_err(|error| self.lexer.error_at(place, error.to_string()))
    }

    fn element(&self, dtype: DType, word: &str, place: usize) -> Result<Scalar, ParseError> {
        parse_literal(dtype, word).ok_or_else(|| self.lexer.error_at(place, format!("{word} is no {dtype}")))
    }

    /// Pairs of hexadecimal digits in quotes.
    fn bytes(&mut self) -> Result<Vec<u8>, ParseError> {
        let place = self.lexer.place();
        let Token::Quoted(digits) = self.lexer.next()? else {
            return Err(self.lexer.error_at(place, "expected digits in quotes"));
        };
        let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        let bytes = digits.as_bytes().chunks(2).map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        });
        bytes.collect::<Option<_>>().ok_or_else(|| self.lexer.error_at(place, "not pairs of hexadecimal digits"))
    }

    /// Words between commas, up to the sign that closes the list.
    fn words(&mut self, close: &'static str) -> Result<Vec<String>, ParseError> {
        let mut words = Vec::new();
        if self.lexer.accept(close)? {
            return Ok(words);
        }
        loop {
            words.push(self.signed_word()?);
            if !self.lexer.accept(",")? {
                self.lexer.expect(close)?;
                return Ok(words);
            }
        }
    }

    fn signed_word(&mut self) -> Result<String, ParseError> {
        let sign = if self.lexer.accept("-")? { "-" } else { "" };
        Ok(format!("{sign}{}", self.lexer.word()?))
    }
}

/// A type from the words between its brackets: extents, then a layout unless it is row-major.
fn tensor_type(dtype: DType, words: &[String]) -> Option<TensorType> {
    let Some((extents, layout)) = words.split_first() else { return Some(TensorType::new(dtype, Shape::scalar())) };
    let shape: Shape = numbers(extents, 'x')?.into_iter().collect();
    let layout = match layout {
        [] => Layout::row_major(shape.rank()),
        [name] if name == "nhwc" => Layout::channels_last(4),
        [axes] => Layout::from_order(&numbers(axes, '.')?)?,
        _ => return None,
    };
    let ty = TensorType { dtype, shape, layout };
    (ty.shape.rank() <= MAX_RANK && ty.layout.rank() == ty.shape.rank() && ty.bytes().is_ok()).then_some(ty)
}

fn numbers(text: &str, separator: char) -> Option<Vec<usize>> {
    text.split(separator).map(|number| number.parse().ok()).collect()
}
