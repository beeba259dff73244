//! WGSL to SPIR-V, as drivers get it of shaders that check nothing: `cargo run -p edgecc-backends --example spirv -- FILE.wgsl..`
//! writes `FILE.spv` beside each.

use naga::back::spv::{Options, WriterFlags, write_vec};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let unchecked = BoundsCheckPolicy::Unchecked;
    let bounds_check_policies =
        BoundsCheckPolicies { index: unchecked, buffer: unchecked, image_load: unchecked, binding_array: unchecked };
    let options = Options {
        flags: WriterFlags::empty(),
        bounds_check_policies,
        force_loop_bounding: false,
        ..Options::default()
    };
    for path in std::env::args_os().skip(1).map(std::path::PathBuf::from) {
        let module = naga::front::wgsl::parse_str(&std::fs::read_to_string(&path)?)?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module)?;
        let words = write_vec(&module, &info, &options, None)?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::fs::write(path.with_extension("spv"), bytes)?;
    }
    Ok(())
}
