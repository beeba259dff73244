//! Object files for apps that link a model: one code symbol, the entry, the arena's size, and a C header beside it.

use std::fmt::Write;

use object::write::{MachOBuildVersion, Object, Symbol, SymbolSection};
use object::{BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope, macho};

use super::entry::{Binding, emit_entry};
use super::function::{EmitError, FunctionCode, compile_function};
use super::isa::{Architecture, CpuTarget};
use super::program::Emitted;
use crate::plan::Plan;
use crate::program::{Port, Program};
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, types};
use cranelift_codegen::isa::CallConv;

/// The system whose linker takes the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Linux and Android: ELF.
    Elf,
    /// Apple's systems: Mach-O.
    MachO(ApplePlatform),
}

/// The platform in LC_BUILD_VERSION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplePlatform {
    /// A Mac.
    MacOs,
    /// An iPhone or iPad.
    Ios,
    /// The simulator of one.
    IosSimulator,
}

/// Magic at the start of a weights file.
pub const WEIGHTS_MAGIC: [u8; 8] = *b"EDGECCW\x01";
/// Bytes of a weights file before the first constant: seal, then zeros.
pub const WEIGHTS_HEADER: u64 = 64;

/// What binds code and weights: magic, then 24 bytes of the weights' hash.
pub fn seal(weights_hash: &[u8; 32]) -> [u8; 32] {
    let mut seal = [0; 32];
    seal[..8].copy_from_slice(&WEIGHTS_MAGIC);
    seal[8..].copy_from_slice(&weights_hash[..24]);
    seal
}

/// A model as a linker takes it.
pub struct Linkable<'a> {
    /// Prefix of every symbol: a C identifier.
    pub name: &'a str,
    /// The program.
    pub program: &'a Program,
    /// Its memory.
    pub plan: &'a Plan,
    /// Its code.
    pub emitted: &'a Emitted,
    /// Offset of each constant storage in the weights, behind the header.
    pub constants: &'a [u64],
    /// Hash of the weights behind the header.
    pub weights_hash: [u8; 32],
    /// Bytes of the weights behind the header.
    pub weights_bytes: u64,
}

impl Linkable<'_> {
    /// Bytes that the app hands over as arena: scratch lies behind the planned part.
    pub fn arena_bytes(&self) -> usize {
        self.plan.arena_bytes + self.program.steps.iter().map(|step| step.scratch).max().unwrap_or(0)
    }

    /// The object file: `NAME_run` and `NAME_arena_size`, no relocation, no undefined symbol.
    pub fn object(&self, target: &CpuTarget, system: System) -> Result<Vec<u8>, EmitError> {
        let binding = Binding { constants: self.constants, seal: seal(&self.weights_hash), header: WEIGHTS_HEADER };
        let mut code = emit_entry(target, self.program, self.plan, self.emitted, &binding)?;
        code.resize(code.len().next_multiple_of(64), 0);
        let size_at = code.len();
        code.extend_from_slice(&arena_size(target, self.arena_bytes())?.bytes);
        let format = match system {
            System::Elf => BinaryFormat::Elf,
            System::MachO(_) => BinaryFormat::MachO,
        };
        let architecture = match target.architecture {
            Architecture::Aarch64 => object::Architecture::Aarch64,
            Architecture::X86_64 => object::Architecture::X86_64,
        };
        let mut object = Object::new(format, architecture, Endianness::Little);
        if let System::MachO(platform) = system {
            object.set_macho_build_version(build_version(platform));
        }
        let text = object.section_id(object::write::StandardSection::Text);
        object.append_section_data(text, &code, 64);
        if system == System::Elf {
            // An absent note would ask the linker for an executable stack.
            object.add_section(Vec::new(), b".note.GNU-stack".to_vec(), SectionKind::Other);
        }
        for (suffix, at, size) in [("run", 0, size_at), ("arena_size", size_at, code.len() - size_at)] {
            object.add_symbol(Symbol {
                name: format!("{}_{suffix}", self.name).into_bytes(),
                value: at as u64,
                size: size as u64,
                kind: SymbolKind::Text,
                scope: SymbolScope::Dynamic,
                weak: false,
                section: SymbolSection::Section(text),
                flags: SymbolFlags::None,
            });
        }
        object.write().map_err(|error| EmitError::Function { kernel: "object".into(), reason: error.to_string() })
    }

    /// The C header.
    pub fn header(&self, architecture: Architecture) -> String {
        let name = self.name;
        let upper = name.to_uppercase();
        let mut text = format!(
            "/* {name}: a model compiled to code{}.\n   Link its object file and hand over the bytes of its weights. */\n\
             #ifndef {upper}_H\n#define {upper}_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n\
             #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n",
            processor(architecture)
        );
        for (kind, ports) in [("INPUT", &self.program.inputs), ("OUTPUT", &self.program.outputs)] {
            for (index, port) in ports.iter().enumerate() {
                let bytes = port.ty.bytes().unwrap_or(0);
                let _ = writeln!(
                    text,
                    "/* {} {index}: {} */\n#define {upper}_{kind}_{index}_BYTES {bytes}u",
                    kind.to_lowercase(),
                    describe(port)
                );
            }
        }
        let _ = writeln!(text, "#define {upper}_WEIGHTS_BYTES {}u", WEIGHTS_HEADER + self.weights_bytes);
        let _ = write!(
            text,
            "\ntypedef void (*{name}_kernel)(uint8_t *const *bases, const uint32_t *args, uint32_t begin, uint32_t end, uint32_t worker);\n\n\
             /* Runs kernel(bases, args, begin, end, worker) on pieces that cover 0..range once, each but the last a multiple\n   \
             of grain long, on any threads, and returns when all are done. */\n\
             typedef struct {{\n  void (*run)(void *context, {name}_kernel kernel, uint8_t *const *bases, const uint32_t *args, uint32_t range, uint32_t grain);\n  \
             void *context;\n}} {name}_parallel;\n\n\
             /* Bytes of the arena. */\nsize_t {name}_arena_size(void);\n\n\
             /* One inference. weights: all bytes of the file of weights, at a multiple of 64. arena: {name}_arena_size() bytes at a\n   \
             multiple of 64, for one run at a time. inputs, outputs: the tensors above in their order. parallel: NULL to run on\n   \
             the caller's thread. Returns 0, or 1 where the weights are not those that this code was compiled with. */\n\
             int {name}_run(const void *weights, void *arena, const void *const *inputs, void *const *outputs, const {name}_parallel *parallel);\n\n\
             #ifdef __cplusplus\n}}\n#endif\n\n#endif\n"
        );
        text
    }
}

/// What the code needs of a processor.
fn processor(architecture: Architecture) -> String {
    match architecture.required_features() {
        [] => format!(" for {}", architecture.name()),
        features => format!(" for {} with {}", architecture.name(), features.join(", ")),
    }
}

fn describe(port: &Port) -> String {
    let name = in_comment(&port.name);
    format!("{name}, {}, dense row-major, at a multiple of {} bytes", port.ty, port.ty.dtype.size())
}

/// A model's name for something, as it may stand in a comment of C: neither the start nor the end of one, on one line.
fn in_comment(name: &str) -> String {
    let line: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.replace("*/", "* /").replace("/*", "/ *")
}

fn arena_size(target: &CpuTarget, bytes: usize) -> Result<FunctionCode, EmitError> {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.returns.push(AbiParam::new(types::I64));
    compile_function(target, "arena_size", signature, |b, _| {
        let size = b.ins().iconst(types::I64, bytes as i64);
        b.ins().return_(&[size]);
        Ok(())
    })
}

/// The oldest systems that the object asks for: macOS 11, iOS 14.
fn build_version(platform: ApplePlatform) -> MachOBuildVersion {
    let (platform, minos) = match platform {
        ApplePlatform::MacOs => (macho::PLATFORM_MACOS, 11 << 16),
        ApplePlatform::Ios => (macho::PLATFORM_IOS, 14 << 16),
        ApplePlatform::IosSimulator => (macho::PLATFORM_IOSSIMULATOR, 14 << 16),
    };
    let mut version = MachOBuildVersion::default();
    version.platform = platform;
    version.minos = minos;
    version.sdk = minos;
    version
}

#[cfg(test)]
mod tests {
    use super::in_comment;

    #[test]
    fn names_stay_inside_their_comment() {
        let names = ["image", "a*/b", "a/*b", "/*/", "**//", "a\\\nb"];
        assert_eq!(names.map(in_comment), ["image", "a* /b", "a/ *b", "/ * /", "** //", "a\\ b"]);
    }
}
