//! What is wrong with a model, for the person who has it.

use std::path::PathBuf;

use edgecc_ir::TensorType;

use super::scan::ScanError;

/// A model that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A file that is not decoded.
    #[error("{path} {source}")]
    Scan {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ScanError,
    },
    /// A file that does not decode.
    #[error("{path} is no ONNX model: {what}")]
    Decode {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The graph as a whole.
    #[error("{0}")]
    Model(String),
    /// A flag that does not fit the model.
    #[error("{0}")]
    Flag(String),
    /// Inputs whose shapes are not known, each with what would fix it, and operators that nothing would.
    #[error("inputs of unknown shape:{}{}", rows("", .inputs), rows("\nnot supported:", .operators))]
    OpenShapes {
        /// Inputs, with flags.
        inputs: Vec<String>,
        /// Operators outside of the tables, with their counts.
        operators: Vec<String>,
    },
    /// One node.
    #[error("node {node} ({operator}): {what}")]
    Node {
        /// The node's name, or its operator and number.
        node: String,
        /// Its operator.
        operator: String,
        /// What is wrong.
        what: String,
    },
    /// One tensor.
    #[error("tensor `{tensor}`: {what}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        what: String,
    },
    /// A tensor above the limit.
    #[error("{what}: {ty} is above the limit of {limit} bytes for one tensor (--max-memory)")]
    Limit {
        /// The node or input.
        what: String,
        /// Its type.
        ty: TensorType,
        /// The limit.
        limit: usize,
    },
    /// An operator set that came after this compiler.
    #[error(
        "operator set {version} is newer than {newest}, the newest that is known; export the model for an older one, or convert it \
         with onnx.version_converter"
    )]
    NewerOpset {
        /// The model's.
        version: i64,
        /// The newest known.
        newest: i64,
    },
    /// Everything that is not supported, in one list.
    #[error("not supported:\n{}", .0.iter().map(|row| format!("  {row}")).collect::<Vec<_>>().join("\n"))]
    Unsupported(Vec<Unsupported>),
}

/// A title and a line for each row; nothing without rows.
fn rows(title: &str, rows: &[String]) -> String {
    if rows.is_empty() { String::new() } else { format!("{title}\n  {}", rows.join("\n  ")) }
}

/// Nodes that are not supported for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Domain and operator.
    pub operator: String,
    /// The reason, and what would help.
    pub reason: String,
    /// The nodes' names.
    pub nodes: Vec<String>,
}

/// Most nodes that are named of one kind.
const NAMED: usize = 5;

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named: Vec<&str> = self.nodes.iter().take(NAMED).map(String::as_str).collect();
        let more = if self.nodes.len() > NAMED { ", .." } else { "" };
        write!(f, "{} ({} nodes: {}{more}): {}", self.operator, self.nodes.len(), named.join(", "), self.reason)
    }
}

impl ImportError {
    /// Whether the file could not be read.
    pub fn is_io(&self) -> bool {
        matches!(self, ImportError::Io { .. })
    }

    /// Whether a flag is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, ImportError::Flag(_))
    }

    /// Whether a limit was hit.
    pub fn is_limit(&self) -> bool {
        match self {
            ImportError::Limit { .. } => true,
            ImportError::Scan { source, .. } => matches!(source, ScanError::Messages(_) | ScanError::Depth),
            _ => false,
        }
    }
}
