//! Text to tokens, one at a time, so that a text of any size needs no memory beyond its own.

use super::print::is_name_character;

/// Why a text is no graph, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Letters, digits, `_` and `.`; behind a leading digit also the sign of an exponent.
    Word(String),
    /// Text in quotes, without them.
    Quoted(String),
    /// A sign of one or two characters.
    Sign(&'static str),
    /// Behind the last token.
    End,
}

impl Token {
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Word(word) => format!("`{}`", word.chars().take(40).collect::<String>()),
            Token::Quoted(_) => "a quoted name".into(),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".into(),
        }
    }
}

/// Longer signs before their beginnings.
const SIGNS: [&str; 25] = [
    "<<", ">>", "==", "<=", "<", "=", "(", ")", "[", "]", "{", "}", ",", ":", ";", "%", "@", "+", "-", "*", "/", "&",
    "|", "^", ">",
];

/// A place in the text.
#[derive(Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Bytes before the next token, at a boundary of characters.
    place: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Lexer { text, place: 0 }
    }

    /// Where the next token begins, in bytes.
    pub(super) fn place(&mut self) -> usize {
        self.skip_blanks();
        self.place
    }

    pub(super) fn error_at(&self, place: usize, what: impl Into<String>) -> ParseError {
        let before = self.text.get(..place).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        ParseError { line, column, what: what.into() }
    }

    /// The next token, which stays the next.
    pub(super) fn peek(&self) -> Result<Token, ParseError> {
        self.clone().next()
    }

    pub(super) fn next(&mut self) -> Result<Token, ParseError> {
        self.skip_blanks();
        let rest = self.rest();
        match rest.chars().next() {
            None => Ok(Token::End),
            Some('"') => self.quoted(),
            Some(c) if is_word_character(c) => Ok(Token::Word(self.take(word_length(rest)))),
            Some(c) => match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
                Some(sign) => {
                    self.place += sign.len();
                    Ok(Token::Sign(sign))
                }
                None => Err(self.error_at(self.place, format!("unexpected character {c:?}"))),
            },
        }
    }

    /// The next token as a name: quoted, or characters that need no quotes. The second is whether it was quoted.
    pub(super) fn name(&mut self) -> Result<(String, bool), ParseError> {
        self.skip_blanks();
        let rest = self.rest();
        if rest.starts_with('"') {
            return match self.quoted()? {
                Token::Quoted(name) => Ok((name, true)),
                other => Err(self.error_at(self.place, format!("expected a name, found {}", other.describe()))),
            };
        }
        let length = rest.find(|c| !is_name_character(c)).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.error_at(self.place, "expected a name"));
        }
        Ok((self.take(length), false))
    }

    /// Takes the next token, which must be this sign.
    pub(super) fn expect(&mut self, sign: &'static str) -> Result<(), ParseError> {
        let place = self.place();
        match self.next()? {
            Token::Sign(found) if found == sign => Ok(()),
            token => Err(self.error_at(place, format!("expected `{sign}`, found {}", token.describe()))),
        }
    }

    /// Takes the next token, which must be this word.
    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), ParseError> {
        let place = self.place();
        let found = self.word()?;
        if found == word { Ok(()) } else { Err(self.error_at(place, format!("expected `{word}`, found `{found}`"))) }
    }

    /// Takes the next token, which must be a word.
    pub(super) fn word(&mut self) -> Result<String, ParseError> {
        let place = self.place();
        match self.next()? {
            Token::Word(word) => Ok(word),
            token => Err(self.error_at(place, format!("expected a word, found {}", token.describe()))),
        }
    }

    /// Takes the next token if it is this sign.
    pub(super) fn accept(&mut self, sign: &'static str) -> Result<bool, ParseError> {
        let accepted = self.peek()? == Token::Sign(sign);
        if accepted {
            self.next()?;
        }
        Ok(accepted)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.place..).unwrap_or("")
    }

    fn take(&mut self, length: usize) -> String {
        let taken = self.rest().get(..length).unwrap_or("");
        self.place += taken.len();
        taken.into()
    }

    /// Passes white space, and comments from `#` to the end of the line.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.place += blanks;
            let rest = self.rest();
            if !rest.starts_with('#') {
                return;
            }
            self.place += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn quoted(&mut self) -> Result<Token, ParseError> {
        let start = self.place;
        let rest = self.rest();
        let mut name = String::new();
        let mut characters = rest.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.place += at + 1;
                    return Ok(Token::Quoted(name));
                }
                '\\' => match escaped(&mut characters) {
                    Some(c) => name.push(c),
                    None => return Err(self.error_at(start + at, "unknown escape")),
                },
                c => name.push(c),
            }
        }
        Err(self.error_at(start, "the quote does not end"))
    }
}

/// The character behind a backslash: itself for a quote or backslash, or `u{hex}`.
fn escaped(characters: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    match characters.next()?.1 {
        c @ ('"' | '\\') => Some(c),
        'u' => {
            characters.next().filter(|&(_, c)| c == '{')?;
            let digits: String = characters.map(|(_, c)| c).take_while(|&c| c != '}').take(8).collect();
            char::from_u32(u32::from_str_radix(&digits, 16).ok()?)
        }
        _ => None,
    }
}

fn is_word_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}

fn word_length(rest: &str) -> usize {
    let number = rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') && !rest.starts_with("0x");
    let mut previous = ' ';
    for (at, c) in rest.char_indices() {
        let exponent_sign = number && matches!(previous, 'e' | 'E') && matches!(c, '+' | '-');
        if !is_word_character(c) && !exponent_sign {
            return at;
        }
        previous = c;
    }
    rest.len()
}
