//! The operands of a step as a shader binds them.
//!
//! Every operand is a binding of its own at a multiple of 256 bytes, with the rest of its offset in the shader's text: steps
//! that differ in nothing but where their operands lie then share a shader, which one arena with constant offsets would not
//! allow. Operands that share memory (a step in place, parts of a concat) share a binding, as WebGPU demands where one of
//! them is written; so do all operands in the arena where there would be more than eight bindings.

use edgecc_ir::DType;

use super::bounds::Run;
use super::functions::Function;
use super::value::{Kind, Width, kind};
use super::writer::Writer;
use crate::cpu::isa::Halves;
use crate::kernel::Access;
use crate::plan::Plan;
use crate::program::{Operand, Program, StorageKind};
use crate::view::StorageId;

/// Bindings start at multiples of this in their memory, in bytes: WebGPU's default limit.
pub const OFFSET_ALIGNMENT: usize = edgecc_format::BINDING_ALIGNMENT as usize;
/// The most bindings of a shader: WebGPU's default limit.
pub const MOST_BINDINGS: usize = edgecc_format::MAX_BINDINGS;

/// The memory that a binding is a run of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Region {
    /// Input `n`.
    Input(usize),
    /// Output `n`.
    Output(usize),
    /// A constant, by its storage.
    Constant(StorageId),
    /// The arena.
    Arena,
}

/// A run of memory that a shader sees as one buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The memory.
    pub region: Region,
    /// First byte in it, a multiple of [`OFFSET_ALIGNMENT`].
    pub offset: usize,
    /// Bytes.
    pub length: usize,
    /// What the step does with it.
    pub access: Access,
}

/// How a kernel uses an operand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// The type of its elements.
    pub(super) dtype: DType,
    /// Whether elements are written.
    pub(super) writes: bool,
    /// Whether four neighbours are accessed as one, from positions that are multiples of four.
    pub(super) quads: bool,
    /// Whether every write is one of four neighbours.
    pub(super) writes_quads: bool,
}

impl Use {
    pub(super) fn read(dtype: DType, quads: bool) -> Use {
        Use { dtype, writes: false, quads, writes_quads: false }
    }

    pub(super) fn write(dtype: DType, quads: bool) -> Use {
        Use { dtype, writes: true, quads, writes_quads: quads }
    }
}

/// What a binding is an array of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Floats,
    /// Four floats.
    Quads,
    /// Four halves, or their bits.
    HalfQuads,
    /// Four halves of WGSL's own type, which an adapter has to have.
    Halves,
    /// Four times 32 bits.
    WordQuads,
    /// Four integers of 8 bits, in one word that is written whole.
    ByteQuads,
    /// 32 bits.
    Words,
    /// 32 bits of which invocations write parts.
    Shared,
}

/// An operand as the text of a shader reaches it.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    binding: usize,
    form: Form,
    dtype: DType,
    /// Elements from the binding's first to the operand's.
    start: usize,
}

/// The bindings of a step, and its operands in them.
pub(super) struct Bindings {
    pub(super) list: Vec<Binding>,
    forms: Vec<Form>,
    pub(super) operands: Vec<Bound>,
    /// The operands in each binding.
    pub(super) runs: Vec<Vec<Run>>,
}

impl Bindings {
    /// Binds the operands of a step that uses them as `uses` says, halves as numbers of their own or as bits.
    pub(super) fn of(program: &Program, plan: &Plan, operands: &[Operand], uses: &[Use], halves: Halves) -> Bindings {
        let runs: Vec<Binding> = operands.iter().map(|operand| run(program, plan, operand)).collect();
        let mut owners = join(&runs, |a, b| a.overlaps(b));
        if count(&owners) > MOST_BINDINGS {
            owners = join(&runs, |a, b| a.region == b.region && (a.region == Region::Arena || a.overlaps(b)));
        }
        let mut list: Vec<Binding> = Vec::new();
        let mut forms = Vec::new();
        let mut held = Vec::new();
        let mut places = vec![0; runs.len()];
        for place in 0..runs.len() {
            // What is empty is never reached.
            let is_member = |other: &usize| owners[*other] == place && operands[*other].length > 0;
            let members: Vec<usize> = (0..runs.len()).filter(is_member).collect();
            if members.is_empty() {
                continue;
            }
            members.iter().for_each(|&member| places[member] = list.len());
            list.push(
                members.iter().map(|&member| &runs[member]).fold(runs[members[0]].clone(), |all, run| all.with(run)),
            );
            let starts = |member: usize| start(program, plan, &operands[member]) / uses[member].dtype.size();
            forms.push(form(members.iter().map(|&member| (uses[member], starts(member))), halves));
            let first = list.last().map_or(0, |bound: &Binding| bound.offset);
            let held_by = |&member: &usize| {
                let begin = start(program, plan, &operands[member]) - first;
                Run { begin, end: begin + operands[member].length, is_written: uses[member].writes }
            };
            held.push(members.iter().map(held_by).collect());
        }
        let bound = (0..runs.len()).map(|place| {
            let (binding, dtype) = (places[place], uses[place].dtype);
            let first = list.get(binding).filter(|_| operands[place].length > 0).map_or(0, |bound| bound.offset);
            let bytes = start(program, plan, &operands[place]) - first;
            let form = forms.get(binding).copied().unwrap_or(Form::Words);
            Bound { binding, form, dtype, start: bytes / dtype.size() }
        });
        Bindings { operands: bound.collect(), list, forms, runs: held }
    }

    /// The declarations.
    pub(super) fn text(&self) -> String {
        let declaration = |(place, (binding, form)): (usize, (&Binding, &Form))| {
            let element = match form {
                Form::Floats => "f32",
                Form::Quads => "vec4<f32>",
                Form::HalfQuads => "vec2<u32>",
                Form::Halves => "vec4<f16>",
                Form::WordQuads => "vec4<u32>",
                Form::Words | Form::ByteQuads => "u32",
                Form::Shared => "atomic<u32>",
            };
            let access = if binding.is_read_only() { "read" } else { "read_write" };
            format!("@group(0) @binding({place}) var<storage, {access}> b{place}: array<{element}>;\n")
        };
        self.list.iter().zip(&self.forms).enumerate().map(declaration).collect()
    }

    /// Whether halves are bound as numbers.
    pub(super) fn have_halves(&self) -> bool {
        self.forms.contains(&Form::Halves)
    }
}

impl Binding {
    /// Whether its memory is bound for reading alone: whatever a step only reads of memory that others write is bound for
    /// writing too, since a buffer has one use in a dispatch.
    pub fn is_read_only(&self) -> bool {
        matches!(self.region, Region::Input(_) | Region::Constant(_))
    }

    fn overlaps(&self, other: &Binding) -> bool {
        let ends = [self, other].map(|run| run.offset + run.length.next_multiple_of(OFFSET_ALIGNMENT));
        self.region == other.region && self.offset < ends[1] && other.offset < ends[0]
    }

    fn with(self, other: &Binding) -> Binding {
        let offset = self.offset.min(other.offset);
        let end = (self.offset + self.length).max(other.offset + other.length);
        let access = if self.access == other.access { self.access } else { Access::ReadWrite };
        Binding { offset, length: end - offset, access, ..self }
    }
}

/// The distinct regions that an operand list cannot do without.
pub(super) fn fewest_bindings(program: &Program, operands: &[Operand]) -> usize {
    let mut regions: Vec<Region> = operands.iter().map(|operand| region(program, operand)).collect();
    regions.sort_unstable();
    regions.dedup();
    regions.len()
}

fn region(program: &Program, operand: &Operand) -> Region {
    match program.storages[operand.storage.0 as usize].kind {
        StorageKind::Input(n) => Region::Input(n),
        StorageKind::Output(n) => Region::Output(n),
        StorageKind::Constant(_) => Region::Constant(operand.storage),
        StorageKind::Arena => Region::Arena,
    }
}

/// The first byte of an operand in its region.
fn start(program: &Program, plan: &Plan, operand: &Operand) -> usize {
    match region(program, operand) {
        Region::Arena => plan.offsets[operand.storage.0 as usize] + operand.offset,
        Region::Input(_) | Region::Output(_) | Region::Constant(_) => operand.offset,
    }
}

/// The aligned run of memory that holds an operand.
fn run(program: &Program, plan: &Plan, operand: &Operand) -> Binding {
    let (region, start) = (region(program, operand), start(program, plan, operand));
    let offset = start / OFFSET_ALIGNMENT * OFFSET_ALIGNMENT;
    Binding { region, offset, length: start + operand.length - offset, access: operand.access }
}

/// For each run the first one that it is joined with, directly or through others.
fn join(runs: &[Binding], together: impl Fn(&Binding, &Binding) -> bool) -> Vec<usize> {
    let mut owners: Vec<usize> = (0..runs.len()).collect();
    let mut joined = runs.to_vec();
    loop {
        let owned = |place: usize| owners[place] == place;
        let pair = (0..runs.len())
            .flat_map(|a| (a + 1..runs.len()).map(move |b| (a, b)))
            .find(|&(a, b)| owned(a) && owned(b) && together(&joined[a], &joined[b]));
        let Some((a, b)) = pair else { return owners };
        joined[a] = joined[a].clone().with(&joined[b]);
        owners.iter_mut().filter(|owner| **owner == b).for_each(|owner| *owner = a);
    }
}

fn count(owners: &[usize]) -> usize {
    owners.iter().enumerate().filter(|&(place, &owner)| place == owner).count()
}

/// What a binding is an array of, from its operands' uses and starts in elements.
fn form(uses: impl Iterator<Item = (Use, usize)> + Clone, halves: Halves) -> Form {
    let is_narrow = |(each, _): (Use, usize)| each.writes && each.dtype.size() < 4;
    let takes_quads = |(each, start): (Use, usize)| {
        let aligned = start.is_multiple_of(4);
        if each.writes { each.writes_quads && aligned } else { !each.quads || aligned }
    };
    let is_all = |dtype: DType| uses.clone().all(|(each, _)| each.dtype == dtype);
    let quads = uses.clone().any(|(each, _)| each.quads) && uses.clone().all(takes_quads);
    if is_all(DType::F32) {
        return if quads { Form::Quads } else { Form::Floats };
    }
    if quads && halves == Halves::Native && is_all(DType::F16) {
        return Form::Halves;
    }
    if quads && uses.clone().all(|(each, _)| matches!(each.dtype, DType::F16 | DType::U16)) {
        return Form::HalfQuads;
    }
    if quads && uses.clone().all(|(each, _)| each.dtype.size() == 4) {
        return Form::WordQuads;
    }
    if quads && uses.clone().all(|(each, _)| matches!(each.dtype, DType::I8 | DType::U8)) {
        return Form::ByteQuads;
    }
    if uses.clone().any(is_narrow) { Form::Shared } else { Form::Words }
}

impl Bound {
    fn at(&self, index: &str) -> String {
        if self.start == 0 { index.into() } else { format!("{index} + {}", self.start) }
    }

    /// The element at a position.
    pub(super) fn load(&self, out: &mut Writer, index: &str) -> String {
        let (buffer, at) = (self.binding, self.at(index));
        match self.form {
            Form::Floats => return out.value(format!("b{buffer}[{at}]")),
            Form::Quads => {
                let at = out.value(&at);
                return out.value(format!("b{buffer}[{at} >> 2u][{at} & 3]"));
            }
            Form::HalfQuads => {
                let at = out.value(&at);
                let word = format!("b{buffer}[{at} >> 2u][({at} >> 1u) & 1]");
                return out.value(match self.dtype {
                    DType::U16 => format!("({word} >> (u32({at} & 1) * 16u)) & 0xffffu"),
                    _ => format!("unpack2x16float({word})[{at} & 1]"),
                });
            }
            Form::Halves => {
                let at = out.value(&at);
                return out.value(format!("f32(b{buffer}[{at} >> 2u][{at} & 3])"));
            }
            Form::WordQuads => {
                let at = out.value(&at);
                return out.value(self.of_words(&format!("b{buffer}[{at} >> 2u][{at} & 3]"), Width::One));
            }
            Form::Words | Form::ByteQuads | Form::Shared => {}
        }
        let word = |at: &str| match self.form {
            Form::Shared => format!("atomicLoad(&b{buffer}[{at}])"),
            _ => format!("b{buffer}[{at}]"),
        };
        let text = match self.dtype.size() {
            1 => {
                let at = out.value(&at);
                let byte = out.value(format!("({} >> (u32({at} & 3) * 8u)) & 0xffu", word(&format!("{at} >> 2u"))));
                match self.dtype {
                    DType::I8 => format!("bitcast<i32>({byte} << 24u) >> 24u"),
                    DType::Bool => format!("{byte} != 0u"),
                    _ => byte,
                }
            }
            2 => {
                let at = out.value(&at);
                let half = out.value(format!("({} >> (u32({at} & 1) * 16u)) & 0xffffu", word(&format!("{at} >> 1u"))));
                match self.dtype {
                    DType::I16 => format!("bitcast<i32>({half} << 16u) >> 16u"),
                    DType::F16 => format!("unpack2x16float({half}).x"),
                    _ => half,
                }
            }
            4 => self.of_words(&word(&at), Width::One),
            _ => {
                let at = out.value(format!("2 * ({at})"));
                let (low, high) = (word(&at), word(&format!("{at} + 1")));
                match self.dtype {
                    DType::I64 => out.call(Function::Narrow, Width::One, &format!("{low}, {high}")),
                    _ => format!("vec2<u32>({low}, {high})"),
                }
            }
        };
        out.value(text)
    }

    /// Elements of 32 bits of their words.
    fn of_words(&self, words: &str, width: Width) -> String {
        match kind(self.dtype).filter(|kind| *kind != Kind::Unsigned) {
            Some(kind) => format!("bitcast<{}>({words})", kind.name(width)),
            None => words.into(),
        }
    }

    /// Writes the element at a position.
    pub(super) fn store(&self, out: &mut Writer, index: &str, value: &str) {
        let (buffer, at) = (self.binding, self.at(index));
        if self.form == Form::Floats {
            return out.line(format!("b{buffer}[{at}] = {value};"));
        }
        match self.dtype.size() {
            1 | 2 => {
                let bits = match self.dtype {
                    DType::Bool => format!("select(0u, 1u, {value})"),
                    DType::F16 => format!("pack2x16float(vec2<f32>({value}, 0.0f))"),
                    _ => format!("u32({value})"),
                };
                self.store_part(out, &at, &bits);
            }
            4 => {
                let word = if kind(self.dtype) == Some(Kind::Unsigned) {
                    value.into()
                } else {
                    format!("bitcast<u32>({value})")
                };
                match self.form {
                    Form::Shared => out.line(format!("atomicStore(&b{buffer}[{at}], {word});")),
                    _ => out.line(format!("b{buffer}[{at}] = {word};")),
                }
            }
            _ => {
                let at = out.value(format!("2 * ({at})"));
                let words = match self.dtype {
                    DType::I64 => [format!("bitcast<u32>({value})"), format!("bitcast<u32>({value} >> 31u)")],
                    _ => [format!("{value}.x"), format!("{value}.y")],
                };
                out.line(format!("b{buffer}[{at}] = {};", words[0]));
                out.line(format!("b{buffer}[{at} + 1] = {};", words[1]));
            }
        }
    }

    /// Writes a part of a word whose other parts other invocations may write at the same time.
    fn store_part(&self, out: &mut Writer, at: &str, bits: &str) {
        let (per_word, mask) = if self.dtype.size() == 1 { (4, "0xffu") } else { (2, "0xffffu") };
        let at = out.value(at);
        let shift = out.value(format!("u32({at} & {}) * {}u", per_word - 1, 32 / per_word));
        let word = format!("&b{}[{at} / {per_word}]", self.binding);
        out.line(format!("atomicAnd({word}, ~({mask} << {shift}));"));
        out.line(format!("atomicOr({word}, ({bits} & {mask}) << {shift});"));
    }

    /// Elements `4 * quad` to `4 * quad + 3`.
    pub(super) fn load_quad(&self, out: &mut Writer, quad: &str) -> String {
        match self.form {
            Form::Quads => out.value(self.quad(quad)),
            Form::HalfQuads => {
                let words = out.value(self.quad(quad));
                out.value(match self.dtype {
                    DType::U16 => {
                        let halves = ["x", "y"].map(|n| format!("{words}.{n} & 0xffffu, {words}.{n} >> 16u"));
                        format!("vec4<u32>({})", halves.join(", "))
                    }
                    _ => format!("vec4<f32>(unpack2x16float({words}.x), unpack2x16float({words}.y))"),
                })
            }
            Form::Halves => out.value(format!("vec4<f32>({})", self.quad(quad))),
            Form::WordQuads => out.value(self.of_words(&self.quad(quad), Width::Four)),
            Form::ByteQuads => {
                let unpack = if self.dtype == DType::I8 { "unpack4xI8" } else { "unpack4xU8" };
                out.value(format!("{unpack}({})", self.quad(quad)))
            }
            Form::Floats | Form::Words | Form::Shared => {
                let first = out.value(format!("({quad}) * 4"));
                self.load_four(out, [0, 1, 2, 3].map(|n| format!("{first} + {n}")))
            }
        }
    }

    /// Whether elements are halves of WGSL's own type, four at once.
    pub(super) fn holds_halves(&self) -> bool {
        self.form == Form::Halves
    }

    /// Elements `4 * quad` to `4 * quad + 3` of such halves, as they are.
    pub(super) fn load_halves(&self, out: &mut Writer, quad: &str) -> String {
        out.value(self.quad(quad))
    }

    fn quad(&self, quad: &str) -> String {
        match self.start / 4 {
            0 => format!("b{}[{quad}]", self.binding),
            start => format!("b{}[{quad} + {start}]", self.binding),
        }
    }

    /// The elements at four positions.
    pub(super) fn load_four(&self, out: &mut Writer, positions: [String; 4]) -> String {
        let parts = positions.map(|position| self.load(out, &position));
        self.four(out, &parts.join(", "))
    }

    /// The element at a position, four times.
    pub(super) fn load_splat(&self, out: &mut Writer, index: &str) -> String {
        let single = self.load(out, index);
        self.four(out, &single)
    }

    fn four(&self, out: &mut Writer, parts: &str) -> String {
        let name = kind(self.dtype).unwrap_or(Kind::Float).name(Width::Four);
        out.value(format!("{name}({parts})"))
    }

    /// Elements `4 * quad` to `4 * quad + 3` of 8 bits as they lie in a word.
    pub(super) fn load_packed(&self, out: &mut Writer, quad: &str) -> String {
        match self.form {
            Form::ByteQuads => out.value(self.quad(quad)),
            _ => {
                let four = self.load_quad(out, quad);
                out.value(format!("pack4xI8({four})"))
            }
        }
    }

    /// Writes elements `4 * quad` to `4 * quad + 3`.
    pub(super) fn store_quad(&self, out: &mut Writer, quad: &str, value: &str) {
        match self.form {
            Form::Quads => out.line(format!("{} = {value};", self.quad(quad))),
            Form::HalfQuads => {
                let words = match self.dtype {
                    DType::U16 => format!("{value}.xz | ({value}.yw << vec2<u32>(16u))"),
                    _ => format!("vec2<u32>(pack2x16float({value}.xy), pack2x16float({value}.zw))"),
                };
                out.line(format!("{} = {words};", self.quad(quad)));
            }
            Form::Halves => out.line(format!("{} = vec4<f16>({value});", self.quad(quad))),
            Form::WordQuads => out.line(format!("{} = bitcast<vec4<u32>>({value});", self.quad(quad))),
            Form::ByteQuads => {
                let pack = if self.dtype == DType::I8 { "pack4xI8" } else { "pack4xU8" };
                out.line(format!("{} = {pack}({value});", self.quad(quad)));
            }
            Form::Floats | Form::Words | Form::Shared => {
                let first = out.value(format!("({quad}) * 4"));
                (0..4).for_each(|n| self.store(out, &format!("{first} + {n}"), &format!("{value}[{n}]")));
            }
        }
    }
}
