//! Tables of 256 bytes, as sixteen constants of which each gives the bytes that it has.

use cranelift_codegen::ir::{ConstantData, InstBuilder, Value, types};
use edgecc_ir::DType;

use super::{Emission, Width};
use crate::cpu::function::lanes as lane_flags;

/// Bytes of a vector.
const PART: usize = 16;

impl Emission<'_, '_> {
    /// For each number of 8 bits the byte of a table that has its bits as place, as a number of a type.
    pub(super) fn look_up(&mut self, dtype: DType, table: &[u8; 256], numbers: &[Value]) -> Vec<Value> {
        numbers.iter().map(|&number| self.look_up_one(dtype, table, number)).collect()
    }

    fn look_up_one(&mut self, dtype: DType, table: &[u8; 256], number: Value) -> Value {
        // Bytes above the first of a lane are anything, and go.
        let mut places = match self.width {
            Width::One => self.b.ins().splat(types::I8X16, number),
            Width::Four => self.b.ins().bitcast(types::I8X16, lane_flags(), number),
        };
        let part = self.b.ins().iconst(types::I8, PART as i64);
        let part = self.b.ins().splat(types::I8X16, part);
        let mut found = None;
        for bytes in table.chunks_exact(PART) {
            let constant = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
            let bytes = self.b.ins().vconst(types::I8X16, constant);
            let own = self.b.ins().swizzle(bytes, places);
            found = Some(found.map_or(own, |found| self.b.ins().bor(found, own)));
            places = self.b.ins().isub(places, part);
        }
        let found = found.unwrap_or(places);
        match self.width {
            Width::One => self.b.ins().extractlane(found, 0),
            Width::Four => {
                let words = self.b.ins().bitcast(types::I32X4, lane_flags(), found);
                self.wrapped(dtype, vec![words]).swap_remove(0)
            }
        }
    }
}
