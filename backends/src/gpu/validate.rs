//! Shaders are validated before anything is written: naga parses them, validates them with no capability but one that WGSL
//! always has and those that they enable, and writes them as SPIR-V and as Metal's language.

use naga::back::{msl, spv};
use naga::front::wgsl;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

use super::bounds::Parsed;

/// What shaders may ask for: `unpack2x16float` and `pack2x16float`, which are WGSL's own.
const CAPABILITIES: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// A shader as naga knows it, or why it is none, in naga's words.
pub(super) fn validate(text: &str) -> Result<Parsed, String> {
    let module = wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let enabled = if enables_halves(text) { Capabilities::SHADER_FLOAT16 } else { Capabilities::empty() };
    let mut validator = Validator::new(ValidationFlags::all(), CAPABILITIES | enabled);
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(text))?;
    write_spirv(&module, &info)?;
    write_metal(&module, &info)?;
    Ok(Parsed { module, info })
}

/// What a shader begins with that has numbers of 16 bits.
pub(super) const ENABLE_HALVES: &str = "enable f16;\n";

/// Whether a shader has them.
pub(super) fn enables_halves(text: &str) -> bool {
    text.starts_with(ENABLE_HALVES)
}

fn write_spirv(module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    spv::write_vec(module, info, &spv::Options::default(), None).map(|_| ()).map_err(|error| error.to_string())
}

fn write_metal(module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    let options = msl::Options { fake_missing_bindings: true, ..msl::Options::default() };
    msl::write_string(module, info, &options, &msl::PipelineOptions::default())
        .map(|_| ())
        .map_err(|error| error.to_string())
}
