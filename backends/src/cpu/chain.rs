//! Emission of chains: a stub that finds the address of the code, the stages' kernels, and a function that walks the bands and
//! calls them.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, InstBuilder, SigRef, Signature, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_frontend::FunctionBuilder;

use super::contraction::{EmittedKernel, split};
use super::entry::{STUB_BYTES, check_reach, stub};
use super::function::{
    EmitError, access, branch, compile_function, constant, counted_loop, kernel_signature, load, offset, operand_base,
    scale, store,
};
use super::isa::CpuTarget;
use super::program::emit_kernel;
use crate::chain::{Chain, Place, Span, Stage, Strip};
use crate::contraction::Footprint;

/// Emits a chain. Its operands: those of its stages in their order, without what passes between them; the table of spans;
/// scratch.
pub fn emit_chain(target: &CpuTarget, name: &str, chain: &Chain) -> Result<EmittedKernel, EmitError> {
    let mut footprints = vec![Footprint::default(); chain.table_operand()];
    footprints.push(Footprint::leading(chain.table().len() as i64));
    footprints.push(Footprint::leading(chain.scratch));
    let mut code = vec![0; STUB_BYTES];
    let (mut listing, mut encoded, mut starts) = (String::new(), true, Vec::new());
    for (number, stage) in chain.stages.iter().enumerate() {
        let name = format!("{name}.{number}");
        let kernel = emit_kernel(target, &name, &stage.source)?;
        check_stage(&name, chain, stage, &kernel, &mut footprints)?;
        starts.push(code.len());
        code.extend_from_slice(&kernel.code);
        code.resize(code.len().next_multiple_of(STUB_BYTES), 0);
        listing.push_str(&kernel.listing);
        encoded &= kernel.encoded;
    }
    check_reach(target.architecture, code.len())?;
    let branch_to = stub(target.architecture, code.len());
    code[..branch_to.len()].copy_from_slice(&branch_to);
    let mut signature = kernel_signature();
    signature.params.push(AbiParam::new(types::I64));
    let driver = Driver { chain, starts };
    let driver = compile_function(target, name, signature, |b, parameters| driver.emit(b, parameters))?;
    code.extend_from_slice(&driver.bytes);
    listing.push_str(&driver.listing);
    Ok(EmittedKernel { code, listing, encoded, units: chain.units(), footprints })
}

/// A stage's units are those that the spans count, and what it touches lies within what it is given: of a strip within the
/// whole value that the strip is a part of. Adds the footprints of the chain's own operands.
fn check_stage(
    name: &str,
    chain: &Chain,
    stage: &Stage,
    kernel: &EmittedKernel,
    footprints: &mut [Footprint],
) -> Result<(), EmitError> {
    let refuse = |reason: String| Err(EmitError::Unsupported { kernel: name.to_owned(), reason });
    if kernel.units != chain.images * stage.units {
        return refuse(format!("{} units instead of {} for each image", kernel.units, stage.units));
    }
    if kernel.footprints.len() > stage.operands.len() {
        return refuse(format!("{} operands instead of {}", stage.operands.len(), kernel.footprints.len()));
    }
    for (place, &footprint) in stage.operands.iter().zip(&kernel.footprints) {
        let bytes = match *place {
            Place::Operand(number) => {
                footprints[number] = footprint;
                continue;
            }
            Place::Strip(of) => chain.stages[of].strip.map_or(0, |strip| strip.image_bytes * chain.images),
            Place::Scratch => chain.scratch - chain.stage_scratch,
        };
        if footprint.begin < 0 || footprint.end > bytes {
            return refuse(format!("{place:?} has {bytes} bytes, the kernel touches up to {}", footprint.end));
        }
    }
    Ok(())
}

/// Bytes that are copied at once.
const PIECE: i64 = 64;
const VECTOR: Type = types::I8X16;

/// The function that calls the stages.
struct Driver<'a> {
    chain: &'a Chain,
    /// Where each stage's kernel begins, counted from the stub.
    starts: Vec<usize>,
}

/// A band at work.
struct Band {
    image: Value,
    /// The address of its spans in the table.
    spans: Value,
    /// Whether the call, or the image, begins with it.
    is_first: Value,
}

/// What does not change from band to band.
struct Parameters {
    args: Value,
    worker: Value,
    code: Value,
    /// The stages' tables of operand addresses.
    bases: Vec<Value>,
    scratch: Value,
    signature: SigRef,
}

impl Driver<'_> {
    fn emit(&self, b: &mut FunctionBuilder<'_>, parameters: &[Value]) -> Result<(), EmitError> {
        let &[bases, args, begin, end, worker, code] = parameters else { return Ok(()) };
        let [begin, end] = [begin, end].map(|n| b.ins().uextend(types::I64, n));
        let table_operand = self.chain.table_operand();
        let [table, scratch] = [table_operand, table_operand + 1].map(|operand| operand_base(b, bases, operand));
        let signature: Signature = kernel_signature();
        let signature = b.import_signature(signature);
        let bases = self.bind(b, bases, scratch);
        let fixed = Parameters { args, worker, code, bases, scratch, signature };
        let bands = self.chain.bands.len() as i64;
        counted_loop(b, begin, end, 1, |b, unit| {
            let (image, number) = split(b, unit, bands);
            let number = number.unwrap_or_else(|| constant(b, 0));
            let bytes = scale(b, number, self.band_bytes());
            let spans = b.ins().iadd(table, bytes);
            let starts_call = b.ins().icmp(IntCC::Equal, unit, begin);
            let starts_image = b.ins().icmp_imm_s(IntCC::Equal, number, 0);
            let is_first = b.ins().bor(starts_call, starts_image);
            let band = Band { image, spans, is_first };
            self.place_strips(b, &fixed, &band);
            for stage in 0..self.chain.stages.len() {
                self.call(b, &fixed, &band, stage);
            }
            let next = offset(b, unit, 1);
            let goes_on = b.ins().icmp(IntCC::SignedLessThan, next, end);
            let within_image = b.ins().icmp_imm_s(IntCC::SignedLessThan, number, bands - 1);
            let keeps_rows = b.ins().band(goes_on, within_image);
            when(b, keeps_rows, |b| self.move_strips(b, &fixed, &band))
        })?;
        b.ins().return_(&[]);
        Ok(())
    }

    /// Bytes of a band's spans.
    fn band_bytes(&self) -> i64 {
        self.chain.stages.len() as i64 * Span::BYTES
    }

    /// Makes each stage's table of operand addresses, but for strips.
    fn bind(&self, b: &mut FunctionBuilder<'_>, bases: Value, scratch: Value) -> Vec<Value> {
        let tables = self.chain.stages.iter().map(|stage| {
            let bytes = stage.operands.len() as u32 * 8;
            let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3));
            let table = b.ins().stack_addr(types::I64, slot, 0);
            for (number, place) in stage.operands.iter().enumerate() {
                let address = match *place {
                    Place::Operand(operand) => operand_base(b, bases, operand),
                    Place::Scratch => offset(b, scratch, self.chain.stage_scratch),
                    Place::Strip(_) => continue,
                };
                store(b, address, table, number as i32 * 8);
            }
            table
        });
        tables.collect()
    }

    fn strips(&self) -> impl Iterator<Item = (usize, Strip)> {
        self.chain.stages.iter().enumerate().filter_map(|(number, stage)| Some((number, stage.strip?)))
    }

    /// Tells the stages where their values would begin if they lay whole in memory.
    fn place_strips(&self, b: &mut FunctionBuilder<'_>, fixed: &Parameters, band: &Band) {
        for (of, strip) in self.strips() {
            let front = number(b, band.spans, of, Span::FRONT);
            let before = scale(b, front, strip.unit_bytes);
            let images = scale(b, band.image, strip.image_bytes);
            let begin = offset(b, fixed.scratch, strip.offset);
            let begin = b.ins().isub(begin, before);
            let begin = b.ins().isub(begin, images);
            for (stage, &table) in self.chain.stages.iter().zip(&fixed.bases) {
                let places = stage.operands.iter().enumerate().filter(|&(_, place)| *place == Place::Strip(of));
                places.for_each(|(operand, _)| store(b, begin, table, operand as i32 * 8));
            }
        }
    }

    /// Calls a stage for what the band needs and is not there.
    fn call(&self, b: &mut FunctionBuilder<'_>, fixed: &Parameters, band: &Band, stage: usize) {
        let [first, begin, end] =
            [Span::FIRST, Span::BEGIN, Span::END].map(|field| number(b, band.spans, stage, field));
        let begin = b.ins().select(band.is_first, first, begin);
        let images = scale(b, band.image, self.chain.stages[stage].units);
        let range = [begin, end].map(|unit| {
            let unit = b.ins().iadd(unit, images);
            b.ins().ireduce(types::I32, unit)
        });
        let kernel = offset(b, fixed.code, self.starts[stage] as i64);
        let arguments = [fixed.bases[stage], fixed.args, range[0], range[1], fixed.worker];
        b.ins().call_indirect(fixed.signature, kernel, &arguments);
    }

    /// Moves the rows that the next band still needs to the front of each strip, where it begins at another row.
    fn move_strips(&self, b: &mut FunctionBuilder<'_>, fixed: &Parameters, band: &Band) -> Result<(), EmitError> {
        let next = offset(b, band.spans, self.band_bytes());
        for (of, strip) in self.strips() {
            let [front, end] = [Span::FRONT, Span::END].map(|field| number(b, band.spans, of, field));
            let next_front = number(b, next, of, Span::FRONT);
            let moved = b.ins().isub(next_front, front);
            let kept = b.ins().isub(end, next_front);
            let bytes = scale(b, kept, strip.unit_bytes);
            let to = offset(b, fixed.scratch, strip.offset);
            let distance = scale(b, moved, strip.unit_bytes);
            let from = b.ins().iadd(to, distance);
            when(b, moved, |b| copy(b, from, to, bytes))?;
        }
        Ok(())
    }
}

/// A field of a stage's span.
fn number(b: &mut FunctionBuilder<'_>, spans: Value, stage: usize, field: i64) -> Value {
    let at = stage as i64 * Span::BYTES + field;
    b.ins().uload32(access(), spans, at as i32)
}

/// Copies bytes to a lower address, piece by piece upwards; the last piece may reach beyond them.
fn copy(b: &mut FunctionBuilder<'_>, from: Value, to: Value, bytes: Value) -> Result<(), EmitError> {
    let none = constant(b, 0);
    counted_loop(b, none, bytes, PIECE, |b, at| {
        let [from, to] = [from, to].map(|address| b.ins().iadd(address, at));
        let vectors = [0, 16, 32, 48].map(|place| (place, load(b, VECTOR, from, place)));
        vectors.into_iter().for_each(|(place, vector)| store(b, vector, to, place as i32));
        Ok(())
    })
}

/// Runs the body where a value is not 0.
fn when(
    b: &mut FunctionBuilder<'_>,
    condition: Value,
    body: impl FnOnce(&mut FunctionBuilder<'_>) -> Result<(), EmitError>,
) -> Result<(), EmitError> {
    let (then, exit) = (b.create_block(), b.create_block());
    branch(b, condition, then, exit);
    b.switch_to_block(then);
    body(b)?;
    b.ins().jump(exit, &[]);
    b.switch_to_block(exit);
    Ok(())
}
