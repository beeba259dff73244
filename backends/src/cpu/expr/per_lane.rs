//! Lanes one by one, for what has no vector instruction.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use edgecc_ir::DType;

use super::{Emission, Width, machine_type};
use crate::cpu::function::EmitError;

/// Lanes of a vector.
const LANES: u8 = 4;

impl Emission<'_, '_> {
    /// Takes vectors apart, computes each lane as one element and puts the results together.
    pub(super) fn per_lane(
        &mut self,
        arguments: &[(DType, &[Value])],
        result: DType,
        mut compute: impl FnMut(&mut Emission<'_, '_>, &[Vec<Value>]) -> Result<Vec<Value>, EmitError>,
    ) -> Result<Vec<Value>, EmitError> {
        let items = arguments[0].1.len();
        let mut vectors: Vec<Option<Value>> = vec![None; items];
        for lane in 0..LANES {
            let lanes: Vec<Vec<Value>> = arguments
                .iter()
                .map(|&(dtype, vectors)| vectors.iter().map(|&vector| self.take(dtype, vector, lane)).collect())
                .collect();
            let mut one = Emission { b: self.b, shared: self.shared, width: Width::One };
            let values = compute(&mut one, &lanes)?;
            for (vector, value) in vectors.iter_mut().zip(values) {
                *vector = Some(self.put(result, *vector, value, lane));
            }
        }
        Ok(vectors.into_iter().flatten().collect())
    }

    /// One lane as an element.
    fn take(&mut self, dtype: DType, vector: Value, lane: u8) -> Value {
        let value = self.b.ins().extractlane(vector, lane);
        let kind = machine_type(dtype, Width::One);
        if kind == types::F32 || kind == types::I32 {
            return value;
        }
        let narrow = self.b.ins().ireduce(kind, value);
        if dtype == DType::Bool { self.b.ins().band_imm_u(narrow, 1) } else { narrow }
    }

    fn put(&mut self, dtype: DType, vector: Option<Value>, value: Value, lane: u8) -> Value {
        let kind = machine_type(dtype, Width::One);
        let value = match dtype {
            _ if kind == types::F32 || kind == types::I32 => value,
            DType::Bool => {
                let wide = self.b.ins().uextend(types::I32, value);
                self.b.ins().ineg(wide)
            }
            _ if dtype.is_signed_integer() => self.b.ins().sextend(types::I32, value),
            _ => self.b.ins().uextend(types::I32, value),
        };
        match vector {
            None => self.b.ins().splat(machine_type(dtype, Width::Four), value),
            Some(vector) => self.b.ins().insertlane(vector, value, lane),
        }
    }
}
