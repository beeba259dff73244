//! What can be wrong with an artifact.

use thiserror::Error;

/// Why bytes were refused as an artifact. None of these is the caller's fault: the file is not one, is not whole, or
/// was written by something else.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormatError {
    /// The first bytes are not the magic number.
    #[error("not an edgecc artifact: the file does not start with its magic number")]
    NotAnArtifact,
    /// Written in another major version of the format.
    #[error("artifact format {major}.{minor} cannot be read by this runtime, which reads {expected}.x: compile again")]
    Version {
        /// The major version of the file.
        major: u16,
        /// The minor version of the file.
        minor: u16,
        /// The major version that this crate reads.
        expected: u16,
    },
    /// The file ends early.
    #[error("the artifact is truncated, {actual} of {expected} bytes are there: copy or compile it again")]
    Truncated {
        /// Bytes that the header announces, at least.
        expected: u64,
        /// Bytes of the file.
        actual: u64,
    },
    /// The file goes on after its end.
    #[error("the artifact has {extra} bytes after its end: copy or compile it again")]
    TrailingBytes {
        /// Bytes beyond the announced length.
        extra: u64,
    },
    /// The section table breaks a rule.
    #[error("the artifact's section table is broken, {0}: copy or compile it again")]
    SectionTable(&'static str),
    /// The digest of header, section table, manifest and code differs.
    #[error(
        "the artifact is corrupt, header, manifest or code do not have the recorded hash: copy or compile it again"
    )]
    Corrupt,
    /// A gap between sections is not zero.
    #[error("the artifact is corrupt, the gap before offset {before} is not zero: copy or compile it again")]
    Padding {
        /// Where the gap ends.
        before: u64,
    },
    /// The hash of the weights differs.
    #[error("the artifact is corrupt, its weights do not have the recorded hash: copy or compile it again")]
    WeightsCorrupt,
    /// The manifest is not a protobuf message of the schema.
    #[error("the artifact's manifest cannot be decoded: {0}")]
    Manifest(String),
    /// The manifest is larger than any real one.
    #[error("the artifact's manifest has {bytes} bytes; at most {limit} are read")]
    ManifestSize {
        /// Bytes of the manifest section.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// A field of the manifest has a value outside its range.
    #[error("the artifact's manifest is invalid: {place}: {problem}")]
    Invalid {
        /// The program, step, port or constant.
        place: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A reference leaves what it refers to.
    #[error(
        "the artifact's manifest is invalid: {place}: bytes {offset}..+{length} leave the {size} bytes of {target}"
    )]
    OutOfBounds {
        /// The step, kernel, program or constant that refers.
        place: String,
        /// What it refers to.
        target: String,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Bytes that there are.
        size: u64,
    },
}

/// Why an artifact was not written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The contents would be refused at load.
    #[error("the artifact would not load: {0}")]
    Invalid(#[from] FormatError),
    /// The programs of the manifest and the code differ in number.
    #[error("{programs} programs but code for {codes}")]
    Programs {
        /// Programs of the manifest.
        programs: usize,
        /// Pieces of code.
        codes: usize,
    },
    /// Writing failed.
    #[error("cannot write the artifact: {0}")]
    Io(#[from] std::io::Error),
}
