//! Reference inputs and outputs that lie beside the project.

use crate::report::skipped;
use std::path::{Path, PathBuf};

use edgecc_device::tensor_file::{Array, read_npz};

/// The folder of shared test material: `EDGECC_SHARED`, or `../shared` beside the workspace. `None`, after a visible line,
/// where there is none.
pub fn shared(what: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("EDGECC_SHARED").map_or(beside, PathBuf::from).join(what);
    if folder.exists() {
        return Some(folder);
    }
    skipped(&format!("no {what} in the shared test material (set EDGECC_SHARED)"));
    None
}

/// Inputs and outputs of one run, in graph order.
pub struct Reference {
    /// `in_0`, `in_1`, ..
    pub inputs: Vec<Array>,
    /// `out_0`, `out_1`, ..
    pub outputs: Vec<Array>,
}

/// Reads `in_N` and `out_N` of a file.
pub fn read(path: &Path) -> Reference {
    let arrays = read_npz(path).expect("a reference file");
    let numbered = |prefix: &str| {
        (0..)
            .map_while(|n| {
                arrays.iter().find(|(name, _)| *name == format!("{prefix}{n}")).map(|(_, array)| array.clone())
            })
            .collect()
    };
    Reference { inputs: numbered("in_"), outputs: numbered("out_") }
}
