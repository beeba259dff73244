//! Elements in memory and in registers. Lanes are 32 bits wide: narrower integers are extended, truth values become masks,
//! binary16 and bfloat16 become f32.

use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use cranelift_frontend::FunctionBuilder;
use edgecc_ir::DType;

use crate::cpu::expr::{Shared, Width, emit_narrow, emit_widen, machine_type};
use crate::cpu::function::{access, lanes, offset};

/// Lanes of a vector.
pub(super) const LANES: i64 = 4;

/// Reads and writes elements of one type.
pub(super) struct Memory<'a, 'b> {
    pub b: &'a mut FunctionBuilder<'b>,
    pub shared: &'a mut Shared,
    pub dtype: DType,
}

impl Memory<'_, '_> {
    /// Loads the element at `address + at`.
    pub fn load(&mut self, address: Value, at: i64) -> Value {
        let (address, at) = near(self.b, address, at);
        let value = self.b.ins().load(stored_type(self.dtype), access(), address, at);
        if self.is_half() {
            let bits = self.b.ins().uextend(types::I32, value);
            return emit_widen(self.b, self.shared, self.dtype, &[bits], Width::One)[0];
        }
        value
    }

    /// Stores an element.
    pub fn store(&mut self, value: Value, address: Value, at: i64) {
        let (address, at) = near(self.b, address, at);
        let stored = if self.is_half() {
            let bits = emit_narrow(self.b, self.shared, self.dtype, &[value], Width::One)[0];
            self.b.ins().ireduce(types::I16, bits)
        } else {
            value
        };
        self.b.ins().store(access(), stored, address, at);
    }

    /// Loads four elements that lie `distance` elements apart.
    pub fn load_lanes(&mut self, address: Value, at: i64, distance: i64) -> Value {
        match distance {
            1 => self.load_neighbours(address, at),
            0 => {
                let one = self.load(address, at);
                self.spread(one)
            }
            _ => {
                let bytes = distance * self.dtype.size() as i64;
                let first = self.load(address, at);
                let start = self.spread(first);
                (1..LANES).fold(start, |vector, lane| {
                    let one = self.load(address, at + lane * bytes);
                    let one = self.lane_of(one);
                    self.b.ins().insertlane(vector, one, lane as u8)
                })
            }
        }
    }

    /// Stores four elements that lie `distance` elements apart; of lanes in one place the last one stays.
    pub fn store_lanes(&mut self, vector: Value, address: Value, at: i64, distance: i64) {
        if distance == 1 {
            return self.store_neighbours(vector, address, at);
        }
        let bytes = distance * self.dtype.size() as i64;
        // The first lane of floats is stored as it lies.
        let vector = match self.dtype {
            DType::I32 | DType::U32 => self.b.ins().bitcast(types::F32X4, lanes(), vector),
            _ => vector,
        };
        for lane in 0..LANES {
            let one = self.b.ins().extractlane(vector, lane as u8);
            let one = self.element_of(one);
            self.store(one, address, at + lane * bytes);
        }
    }

    /// Four lanes of one element.
    pub fn spread(&mut self, one: Value) -> Value {
        let one = self.lane_of(one);
        self.b.ins().splat(machine_type(self.dtype, Width::Four), one)
    }

    fn is_half(&self) -> bool {
        matches!(self.dtype, DType::F16 | DType::BF16)
    }

    /// An element as a lane.
    pub fn lane_of(&mut self, one: Value) -> Value {
        match self.dtype {
            DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::U32 => one,
            DType::I8 | DType::I16 => self.b.ins().sextend(types::I32, one),
            DType::Bool => {
                let wide = self.b.ins().uextend(types::I32, one);
                self.b.ins().ineg(wide)
            }
            DType::U8 | DType::U16 => self.b.ins().uextend(types::I32, one),
            // Has no lanes: see `has_lanes`.
            DType::U64 | DType::I64 | DType::F64 => one,
        }
    }

    /// The element in a lane.
    pub fn element_of(&mut self, lane: Value) -> Value {
        match self.dtype {
            DType::F32 | DType::F16 | DType::BF16 | DType::I32 | DType::U32 => lane,
            DType::I16 | DType::U16 => self.b.ins().ireduce(types::I16, lane),
            DType::I8 | DType::U8 => self.b.ins().ireduce(types::I8, lane),
            DType::Bool => {
                let narrow = self.b.ins().ireduce(types::I8, lane);
                self.b.ins().band_imm_u(narrow, 1)
            }
            // Has no lanes: see `has_lanes`.
            DType::U64 | DType::I64 | DType::F64 => lane,
        }
    }

    fn load_neighbours(&mut self, address: Value, at: i64) -> Value {
        let (address, at) = near(self.b, address, at);
        match self.dtype {
            DType::F32 | DType::I32 | DType::U32 => {
                self.b.ins().load(machine_type(self.dtype, Width::Four), access(), address, at)
            }
            DType::I16 => self.b.ins().sload16x4(access(), address, at),
            DType::U16 => self.b.ins().uload16x4(access(), address, at),
            DType::F16 | DType::BF16 => {
                let bits = self.b.ins().uload16x4(access(), address, at);
                emit_widen(self.b, self.shared, self.dtype, &[bits], Width::Four)[0]
            }
            DType::I8 | DType::U8 | DType::Bool => {
                let word = self.b.ins().load(types::I32, access(), address, at);
                self.widen_bytes(word)
            }
            // Has no lanes: see `has_lanes`.
            DType::U64 | DType::I64 | DType::F64 => address,
        }
    }

    /// The bytes of a word in lanes of their own.
    fn widen_bytes(&mut self, word: Value) -> Value {
        let bytes = self.b.ins().scalar_to_vector(types::I32X4, word);
        let bytes = self.b.ins().bitcast(types::I8X16, lanes(), bytes);
        if self.dtype == DType::I8 {
            let halves = self.b.ins().swiden_low(bytes);
            return self.b.ins().swiden_low(halves);
        }
        let halves = self.b.ins().uwiden_low(bytes);
        let words = self.b.ins().uwiden_low(halves);
        if self.dtype == DType::Bool { self.b.ins().ineg(words) } else { words }
    }

    fn store_neighbours(&mut self, vector: Value, address: Value, at: i64) {
        let (address, at) = near(self.b, address, at);
        let stored = match self.dtype {
            DType::F32 | DType::I32 | DType::U32 => vector,
            DType::I16 => {
                let halves = self.b.ins().snarrow(vector, vector);
                self.first_part(halves, types::I64)
            }
            DType::U16 => self.narrow_unsigned(vector),
            DType::F16 | DType::BF16 => {
                let bits = emit_narrow(self.b, self.shared, self.dtype, &[vector], Width::Four)[0];
                self.narrow_unsigned(bits)
            }
            DType::I8 => {
                let halves = self.b.ins().snarrow(vector, vector);
                let bytes = self.b.ins().snarrow(halves, halves);
                self.first_part(bytes, types::I32)
            }
            DType::U8 => self.narrow_bytes(vector),
            DType::Bool => {
                let ones = self.b.ins().ineg(vector);
                self.narrow_bytes(ones)
            }
            // Has no lanes: see `has_lanes`.
            DType::U64 | DType::I64 | DType::F64 => vector,
        };
        self.b.ins().store(access(), stored, address, at);
    }

    /// Lanes from 0 to 65535 as the halves of an i64.
    fn narrow_unsigned(&mut self, vector: Value) -> Value {
        let halves = self.b.ins().unarrow(vector, vector);
        self.first_part(halves, types::I64)
    }

    /// Lanes from 0 to 255 as the bytes of an i32.
    fn narrow_bytes(&mut self, vector: Value) -> Value {
        let halves = self.b.ins().snarrow(vector, vector);
        let bytes = self.b.ins().unarrow(halves, halves);
        self.first_part(bytes, types::I32)
    }

    fn first_part(&mut self, vector: Value, part: Type) -> Value {
        let lanes_of = if part == types::I64 { types::I64X2 } else { types::I32X4 };
        let parts = self.b.ins().bitcast(lanes_of, lanes(), vector);
        self.b.ins().extractlane(parts, 0)
    }
}

fn stored_type(dtype: DType) -> Type {
    match dtype {
        DType::F16 | DType::BF16 => types::I16,
        _ => machine_type(dtype, Width::One),
    }
}

fn near(b: &mut FunctionBuilder<'_>, address: Value, at: i64) -> (Value, Offset32) {
    match i32::try_from(at) {
        Ok(near) => (address, Offset32::new(near)),
        Err(_) => (offset(b, address, at), Offset32::new(0)),
    }
}
