//! A look over the wire format before anything is decoded: empty messages of two bytes decode to hundreds, so that a small
//! file could ask for gigabytes.

/// Most messages in a file; a model of 20,000 nodes has about 200,000.
const MOST_MESSAGES: usize = 4_000_000;
/// Nodes, attributes and dimensions that any file may have, however small.
const FREE_MESSAGES: usize = 100_000;
/// Bytes of file that each further message takes at least.
const BYTES_PER_MESSAGE: usize = 8;
/// Deepest nesting of graphs in attributes.
const MOST_GRAPHS: usize = 32;

/// Why a file is not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not the wire format, or cut short.
    #[error("is no ONNX file, or is damaged, at byte {0}")]
    Damaged(usize),
    /// Too many messages for its size.
    #[error("holds more than {0} messages: refused, since they would take many times the file's size in memory")]
    Messages(usize),
    /// Graphs within graphs.
    #[error("nests graphs deeper than {MOST_GRAPHS}")]
    Depth,
}

/// Which message the scan is in: only those that can repeat or nest matter.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Tensor,
    Leaf,
}

impl Message {
    /// The message in a length-delimited field, if the field is one.
    fn field(self, number: u64) -> Option<Message> {
        match (self, number) {
            (Message::Model, 7) => Some(Message::Graph),
            (Message::Model, 25) => Some(Message::Function),
            (Message::Graph, 1) | (Message::Function, 7) => Some(Message::Node),
            (Message::Graph, 5) => Some(Message::Tensor),
            (Message::Graph, 11 | 12 | 13 | 15) => Some(Message::Leaf),
            (Message::Node, 5) | (Message::Function, 11) => Some(Message::Attribute),
            (Message::Node, 1 | 2) => Some(Message::Leaf),
            (Message::Attribute, 5 | 10) => Some(Message::Tensor),
            (Message::Attribute, 6 | 11) => Some(Message::Graph),
            (Message::Model, 8 | 14) | (Message::Tensor, 13) => Some(Message::Leaf),
            _ => None,
        }
    }
}

/// Checks that a file is worth decoding.
pub(super) fn scan(file: &[u8]) -> Result<(), ScanError> {
    let most = MOST_MESSAGES.min(FREE_MESSAGES + file.len() / BYTES_PER_MESSAGE);
    // (message, its end, graphs around it)
    let mut stack = vec![(Message::Model, file.len(), 0usize)];
    let mut at = 0usize;
    let mut messages = 0usize;
    while let Some(&(message, end, graphs)) = stack.last() {
        if at >= end {
            stack.pop();
            continue;
        }
        let damaged = ScanError::Damaged(at);
        let key = varint(file, &mut at).filter(|_| at <= end).ok_or(damaged.clone())?;
        let length = match key & 7 {
            0 => varint(file, &mut at).map(|_| 0),
            1 => Some(8),
            2 => varint(file, &mut at).and_then(|length| usize::try_from(length).ok()),
            5 => Some(4),
            _ => None,
        };
        let next = length.and_then(|length| at.checked_add(length)).filter(|&next| next <= end).ok_or(damaged)?;
        match message.field(key >> 3).filter(|_| key & 7 == 2) {
            Some(Message::Leaf) => {
                messages += 1;
                at = next;
            }
            Some(inner) => {
                messages += 1;
                let graphs = graphs + usize::from(matches!(inner, Message::Graph));
                if graphs > MOST_GRAPHS {
                    return Err(ScanError::Depth);
                }
                stack.push((inner, next, graphs));
            }
            None => at = next,
        }
        if messages > most {
            return Err(ScanError::Messages(most));
        }
    }
    Ok(())
}

/// A base-128 number of at most ten bytes.
fn varint(file: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for place in 0..10 {
        let byte = *file.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << (7 * place).min(63);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
