//! Weights of Winograd's products from those of direct sums, in each inference: where weights may not grow, an artifact holds the
//! latter, `[panel][tap][k][channel]`, and a step makes `[point][panel][k][channel]` of them.

use edgecc_ir::{BinaryOp, DType, Expr, NodeId, Scalar, Shape, TensorType};

use super::builder::Builder;
use super::contraction::{Weights, to_bytes};
use super::{Call, Lowering};
use crate::contraction::ContractionSpec;
use crate::kernel::{Access, Index, Local, LoopMode, Stmt, Var};
use crate::pack::{PackedLayout, pack_weights};
use crate::program::Operand;
use crate::view::{StorageId, View};
use crate::winograd::Axis;

/// Channels of an iteration.
const LANES: i64 = 4;

/// Whether a step can read the weights: panels are all as wide.
pub(super) fn fits(lowering: &Lowering<'_>, direct: &ContractionSpec) -> bool {
    layout_of_direct(lowering, direct).last_channels() == 0
}

/// Where weights lie for direct sums, as another program may pack them.
fn layout_of_direct(lowering: &Lowering<'_>, direct: &ContractionSpec) -> PackedLayout {
    PackedLayout::of(direct, &lowering.schedules(direct)[0])
}

/// Adds the step; the weights of the products as their operand. `weights` are `[n][k][tap]`.
pub(super) fn transform(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    axes: [Axis; 2],
    weights: &Weights<'_>,
    [direct, products]: [&ContractionSpec; 2],
) -> Operand {
    let from = layout_of_direct(lowering, direct);
    let to = PackedLayout::of(products, &lowering.schedule(products));
    let place = |tap: i64, k: i64, n: i64| ((n * from.depth + k) * from.taps + tap) as usize;
    let packed = pack_weights(&from, |_, tap, k, n| weights.at(place(tap, k, n)));
    let source = lowering.constant(to_bytes(from.element, packed));
    let storage = lowering.untyped(to.bytes() as usize);
    let view = |storage: StorageId, layout: &PackedLayout| {
        let elements = layout.bytes() / layout.element.bytes();
        View::dense(storage, &TensorType::new(layout.element.dtype(), Shape::new(&[elements as usize])))
    };
    let mut builder = Builder::new();
    let read = builder.reads(&view(source, &from));
    let written = builder.writes(&view(storage, &to));
    let [k, vector, lane] = [(); 3].map(|()| builder.var());
    let body = builder.block(|builder| {
        // Counted in vectors, as panels of either layout divide them.
        let place = Index::Var(Var(0)).times(to.panel / LANES).plus(Index::Var(vector));
        let (panel, within) = (place.clone().floor_div(from.panel / LANES), place.modulo(from.panel / LANES));
        let first = panel.times(from.panel_elements()).plus(within.times(LANES)).plus(Index::Var(lane));
        let at = |tap: i64| {
            let row = Index::Var(k).times(from.panel);
            first.clone().plus(row).plus(Index::Constant(tap * from.depth * from.panel))
        };
        let taps: Vec<Local> = (0..from.taps).map(|tap| builder.load(read, at(tap))).collect();
        let results = at_points(builder, axes, &taps);
        let first = Index::Var(Var(0)).times(to.panel_elements()).plus(Index::Var(k).times(to.panel));
        let first = first.plus(Index::Var(vector).times(LANES)).plus(Index::Var(lane));
        for (point, result) in results.into_iter().enumerate() {
            let at = first.clone().plus(Index::Constant(point as i64 * to.matrix_elements()));
            builder.store(written, at, result);
        }
    });
    let around = |var: Var, extent: i64, mode: LoopMode, body: Vec<Stmt>| {
        vec![Stmt::For { var, begin: Index::Constant(0), end: Index::Constant(extent), mode, body }]
    };
    let body = around(lane, LANES, LoopMode::Lanes, body);
    let body = around(vector, to.panel / LANES, LoopMode::Serial, body);
    let body = around(k, to.depth, LoopMode::Serial, body);
    let call = Call { part: Some("weights"), ..Call::default() };
    builder.push(lowering, id, to.panels() as usize, body, call);
    lowering.whole(storage, Access::Read)
}

/// A filter of row-major taps at all points, row-major.
fn at_points(builder: &mut Builder, axes: [Axis; 2], taps: &[Local]) -> Vec<Local> {
    let [rows, columns] = axes.map(Axis::weights);
    let width = axes[1].taps as usize;
    rows.iter()
        .flat_map(|row| {
            let down: Vec<Local> = (0..width)
                .map(|column| combination(builder, row, taps[column..].iter().step_by(width).copied()))
                .collect();
            columns.iter().map(|column| combination(builder, column, down.iter().copied())).collect::<Vec<_>>()
        })
        .collect()
}

/// The sum of values times factors, of which not all are zero.
fn combination(builder: &mut Builder, factors: &[f64], values: impl Iterator<Item = Local>) -> Local {
    let terms: Vec<(f64, Local)> = factors.iter().copied().zip(values).filter(|(factor, _)| *factor != 0.0).collect();
    let mut expr = Expr::new();
    let products: Vec<_> = (0..)
        .zip(&terms)
        .map(|(n, &(factor, _))| {
            let value = expr.arg(n, DType::F32);
            if factor == 1.0 {
                return value;
            }
            let factor = expr.constant(Scalar::from_f64(DType::F32, factor));
            expr.binary(BinaryOp::Mul, value, factor)
        })
        .collect();
    let sum = products.into_iter().reduce(|sum, product| expr.binary(BinaryOp::Add, sum, product));
    let expr = match sum {
        Some(sum) => expr.with_root(sum),
        None => expr,
    };
    builder.apply(expr, &terms.iter().map(|(_, value)| *value).collect::<Vec<_>>())
}
