//! Infix text to expressions, by precedence climbing.

use std::collections::HashMap;

use super::expression::{Arguments, BINARY, Notation, UNARY};
use super::lexer::{Lexer, ParseError, Token};
use super::number::parse_typed_literal;
use crate::expr::{BinaryOp, Expr, ExprId};
use crate::types::DType;

/// Deepest nesting of parentheses and calls: the parser recurses no deeper.
const MAX_DEPTH: usize = 128;

/// Most nodes of one expression: building takes the square of their number.
const MAX_NODES: usize = 1 << 14;

/// Reads an expression over arguments of the given element types.
pub(super) fn parse(lexer: &mut Lexer<'_>, arguments: Arguments, types: &[DType]) -> Result<Expr, ParseError> {
    let mut parser = Parser { lexer, arguments, types, expr: Expr::new(), named: HashMap::new(), depth: 0 };
    let root = parser.bindings()?;
    Ok(parser.expr.with_root(root))
}

struct Parser<'p, 'a> {
    lexer: &'p mut Lexer<'a>,
    arguments: Arguments,
    types: &'p [DType],
    expr: Expr,
    named: HashMap<String, ExprId>,
    depth: usize,
}

impl Parser<'_, '_> {
    fn bindings(&mut self) -> Result<ExprId, ParseError> {
        while self.lexer.peek()? == Token::Word("let".into()) {
            self.lexer.next()?;
            let name = self.lexer.word()?;
            self.lexer.expect("=")?;
            let value = self.infix(1)?;
            self.lexer.expect_word("in")?;
            self.named.insert(name, value);
        }
        self.infix(1)
    }

    /// An expression of signs that bind at least this tight.
    fn infix(&mut self, least: u8) -> Result<ExprId, ParseError> {
        let place = self.lexer.place();
        if self.depth == MAX_DEPTH {
            return Err(self.lexer.error_at(place, format!("nested deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let mut left = self.operand()?;
        while let Some((op, binding)) = self.infix_sign(least)? {
            let place = self.lexer.place();
            self.lexer.next()?;
            let right = self.infix(binding + 1)?;
            left = self.binary(op, left, right, place)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn infix_sign(&self, least: u8) -> Result<Option<(BinaryOp, u8)>, ParseError> {
        let Token::Sign(sign) = self.lexer.peek()? else { return Ok(None) };
        Ok(BINARY.iter().find_map(|&(op, name, notation)| match notation {
            Notation::Infix(binding) if name == sign && binding >= least => Some((op, binding)),
            Notation::Infix(_) | Notation::Call => None,
        }))
    }

    fn operand(&mut self) -> Result<ExprId, ParseError> {
        let place = self.lexer.place();
        if self.expr.nodes().len() >= MAX_NODES {
            return Err(self.lexer.error_at(place, format!("an expression of more than {MAX_NODES} nodes")));
        }
        match self.lexer.next()? {
            Token::Sign("(") => {
                let inner = self.infix(1)?;
                self.lexer.expect(")")?;
                Ok(inner)
            }
            Token::Sign("-") => {
                let word = self.lexer.word()?;
                self.literal(&format!("-{word}"), place)
            }
            Token::Word(word) if self.lexer.peek()? == Token::Sign("(") => self.call(&word, place),
            Token::Word(word) => self.leaf(&word, place),
            token @ (Token::Sign(_) | Token::Quoted(_) | Token::End) => {
                Err(self.lexer.error_at(place, format!("expected an expression, found {}", token.describe())))
            }
        }
    }

    fn leaf(&mut self, word: &str, place: usize) -> Result<ExprId, ParseError> {
        if let Some(&id) = self.named.get(word) {
            return Ok(id);
        }
        match self.argument_number(word) {
            Some(n) => match self.types.get(n as usize) {
                Some(&dtype) => Ok(self.expr.arg(n, dtype)),
                None => Err(self.lexer.error_at(place, format!("{word} is not among the operands"))),
            },
            None => self.literal(word, place),
        }
    }

    fn argument_number(&self, word: &str) -> Option<u16> {
        match self.arguments {
            Arguments::Map => word.strip_prefix('a')?.parse().ok(),
            Arguments::Epilogue | Arguments::WideEpilogue if word == "acc" => Some(0),
            Arguments::Epilogue | Arguments::WideEpilogue => word.strip_prefix('e')?.parse().ok().filter(|&n| n > 0),
        }
    }

    fn literal(&mut self, text: &str, place: usize) -> Result<ExprId, ParseError> {
        match parse_typed_literal(text) {
            Some(value) => Ok(self.expr.constant(value)),
            None => Err(self.lexer.error_at(place, format!("{text} is neither a number nor a name"))),
        }
    }

    fn call(&mut self, name: &str, place: usize) -> Result<ExprId, ParseError> {
        self.lexer.expect("(")?;
        let mut operands = vec![self.infix(1)?];
        while self.lexer.accept(",")? {
            operands.push(self.infix(1)?);
        }
        self.lexer.expect(")")?;
        let unary = UNARY.iter().find(|(_, known)| *known == name);
        let binary = BINARY.iter().find(|(_, known, notation)| *known == name && *notation == Notation::Call);
        match (&operands[..], unary, binary, DType::from_name(name)) {
            (&[a], Some(&(op, _)), ..) => Ok(self.expr.unary(op, a)),
            (&[a, b], _, Some(&(op, ..)), _) => self.binary(op, a, b, place),
            (&[a], .., Some(dtype)) => Ok(self.expr.cast(dtype, a)),
            (&[condition, a, b], ..) if name == "select" => self.select(condition, a, b, place),
            _ => Err(self.lexer.error_at(place, format!("no function {name} of {} operands", operands.len()))),
        }
    }

    fn binary(&mut self, op: BinaryOp, a: ExprId, b: ExprId, place: usize) -> Result<ExprId, ParseError> {
        self.same_types(a, b, place)?;
        Ok(self.expr.binary(op, a, b))
    }

    fn select(&mut self, condition: ExprId, a: ExprId, b: ExprId, place: usize) -> Result<ExprId, ParseError> {
        self.same_types(a, b, place)?;
        match self.expr.dtype_of(condition) {
            DType::Bool => Ok(self.expr.select(condition, a, b)),
            dtype => Err(self.lexer.error_at(place, format!("select takes a truth value, got {dtype}"))),
        }
    }

    fn same_types(&self, a: ExprId, b: ExprId, place: usize) -> Result<(), ParseError> {
        let (a, b) = (self.expr.dtype_of(a), self.expr.dtype_of(b));
        if a == b { Ok(()) } else { Err(self.lexer.error_at(place, format!("operands of types {a} and {b}"))) }
    }
}
