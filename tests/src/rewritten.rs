//! Artifacts of one program that tests change.

use edgecc_format::{ConstantPool, Contents, Manifest, View, read};

/// The artifact with another manifest and other code, over the same weights.
pub fn rewritten(artifact: &[u8], change: impl FnOnce(&mut Manifest, &mut Vec<u8>)) -> Vec<u8> {
    let View { mut manifest, code, weights } = read(artifact).expect("an artifact");
    let mut pool = ConstantPool::new();
    for constant in &manifest.constants {
        pool.add(&weights[constant.offset as usize..(constant.offset + constant.length) as usize]);
    }
    let mut code = code.to_vec();
    change(&mut manifest, &mut code);
    let mut bytes = Vec::new();
    Contents { manifest, code: vec![&code], weights: &pool }.write(&mut bytes).expect("an artifact");
    bytes
}
