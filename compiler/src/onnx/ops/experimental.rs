//! Operators that ONNX had on trial until operator set 10 and that old exporters wrote: Affine, Crop, ImageScaler.

use edgecc_ir::{BinaryOp, DType, Op, Tensor};

use super::Row;
use crate::onnx::context::{Context, Results, invalid};

pub(super) const TABLE: &[Row] = &[("Affine", 1, affine), ("Crop", 1, crop), ("ImageScaler", 1, image_scaler)];

/// `alpha * x + beta`.
fn affine(c: &mut Context<'_, '_>) -> Results {
    let (x, alpha, beta) = (c.input(0)?, c.float("alpha", 1.0)?, c.float("beta", 0.0)?);
    let result = c.map(&[x], |e, [x]| {
        let (alpha, beta) = (e.number(x, alpha as f64), e.number(x, beta as f64));
        let scaled = e.binary(BinaryOp::Mul, x, alpha);
        e.binary(BinaryOp::Add, scaled, beta)
    })?;
    Ok(vec![result])
}

/// `[N,C,H,W]` without `border` = left, top, right, bottom; with `scale` = height, width, these from left and top on.
fn crop(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let (shape, border) = (c.shape(x)?.extents(), c.ints("border")?.unwrap_or_default());
    let ([images, channels, height, width], [left, top, right, bottom]) = (&shape[..], &border[..]) else {
        return invalid(format!("takes [N,C,H,W] and four borders, got {} and {border:?}", c.ty(x)?));
    };
    let (rows, columns) = match c.ints("scale")?.as_deref() {
        Some(&[rows, columns]) => (Some(rows), Some(columns)),
        Some(other) => return invalid(format!("scale is {other:?}; height and width are expected")),
        None => {
            let left_over =
                |extent: usize, first: i64, last: i64| (extent as i64).checked_sub(first.checked_add(last)?);
            (left_over(*height, *top, *bottom), left_over(*width, *left, *right))
        }
    };
    let inside = |first: i64, count: Option<i64>, extent: usize| {
        let (first, count) = (usize::try_from(first).ok()?, usize::try_from(count?).ok()?);
        (first.checked_add(count)? <= extent).then_some((first, count))
    };
    let (Some((top, rows)), Some((left, columns))) = (inside(*top, rows, *height), inside(*left, columns, *width))
    else {
        return invalid(format!("border {border:?} and scale reach out of {}", c.ty(x)?));
    };
    let counts = vec![*images, *channels, rows, columns];
    Ok(vec![c.add(Op::Slice { starts: vec![0, 0, top, left], steps: vec![1; 4], counts }, &[x])?])
}

/// `x * scale + bias[channel]`.
fn image_scaler(c: &mut Context<'_, '_>) -> Results {
    let (x, scale) = (c.input(0)?, c.float("scale", 1.0)?);
    let bias = c.floats("bias")?.unwrap_or_default();
    if bias.len() != c.extent(x, 1)? {
        return invalid(format!("{} biases for {}", bias.len(), c.ty(x)?));
    }
    let (rank, dtype) = (c.rank(x)?, c.dtype(x)?);
    let bytes: Vec<u8> = bias.iter().flat_map(|value| value.to_le_bytes()).collect();
    let Ok(bias) = Tensor::dense(DType::F32, edgecc_ir::Shape::new(&[bias.len()]), bytes.into()) else {
        return invalid("its biases are no tensor");
    };
    let bias = c.constant(bias);
    let bias = c.per_channel(bias, rank)?;
    let bias = c.cast(bias, dtype)?;
    let result = c.map(&[x, bias], |e, [x, bias]| {
        let scale = e.number(x, scale as f64);
        let scaled = e.binary(BinaryOp::Mul, x, scale);
        e.binary(BinaryOp::Add, scaled, bias)
    })?;
    Ok(vec![result])
}

#[cfg(test)]
mod tests {
    use edgecc_ir::{DType, Shape, Tensor, eval};

    use crate::onnx::proto::{
        AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto,
        TensorTypeProto, TypeProto, ValueInfoProto,
    };
    use crate::onnx::{ImportOptions, Model, external, import, map};

    fn value(name: &str, extents: &[i64]) -> ValueInfoProto {
        let dim = extents.iter().map(|&extent| DimensionProto { dim_value: Some(extent), dim_param: None }).collect();
        let tensor = TensorTypeProto { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
        ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
    }

    /// Imports a model of one node at operator set 9 and evaluates it on 0, 1, 2 ...
    fn evaluate(operator: &str, attribute: Vec<AttributeProto>, extents: &[i64]) -> Vec<f32> {
        let node = NodeProto {
            input: vec!["x".into()],
            output: vec!["y".into()],
            op_type: operator.into(),
            attribute,
            ..NodeProto::default()
        };
        let graph = GraphProto {
            node: vec![node],
            input: vec![value("x", extents)],
            output: vec![value("y", extents)],
            ..GraphProto::default()
        };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 9 }];
        let proto = ModelProto { ir_version: 4, graph: Some(graph), opset_import, ..ModelProto::default() };
        let model = Model {
            proto,
            mapping: map::Mapping::default(),
            folder: external::Folder::of("model".as_ref()),
            path: "model".into(),
        };
        let options = ImportOptions { max_memory: 1 << 20, ..ImportOptions::default() };
        let graph = import(&model, &options).unwrap().graph;
        let shape = Shape::new(&extents.iter().map(|&extent| extent as usize).collect::<Vec<_>>());
        let count = shape.elements().unwrap();
        let bytes: Vec<u8> = (0..count).flat_map(|index| (index as f32).to_le_bytes()).collect();
        let input = Tensor::dense(DType::F32, shape, bytes.into()).unwrap();
        let outputs = eval::run(&graph, &[input]).unwrap();
        outputs[0].bytes().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    fn float(name: &str, f: f32) -> AttributeProto {
        AttributeProto { name: name.into(), f, r#type: 1, ..AttributeProto::default() }
    }

    fn ints(name: &str, ints: &[i64]) -> AttributeProto {
        AttributeProto { name: name.into(), ints: ints.to_vec(), r#type: 7, ..AttributeProto::default() }
    }

    #[test]
    fn affine_scales_and_moves() {
        assert_eq!(evaluate("Affine", vec![float("alpha", 2.0), float("beta", -1.0)], &[3]), [-1.0, 1.0, 3.0]);
    }

    #[test]
    fn crop_leaves_the_borders_out() {
        // Rows 0 1 2 3 / 4 5 6 7 / 8 9 10 11, without one row above and one column at the right.
        let border = ints("border", &[0, 1, 1, 0]);
        assert_eq!(evaluate("Crop", vec![border.clone()], &[1, 1, 3, 4]), [4.0, 5.0, 6.0, 8.0, 9.0, 10.0]);
        assert_eq!(evaluate("Crop", vec![border, ints("scale", &[1, 2])], &[1, 1, 3, 4]), [4.0, 5.0]);
    }

    #[test]
    fn image_scaler_moves_each_channel() {
        let bias =
            AttributeProto { name: "bias".into(), floats: vec![10.0, 20.0], r#type: 6, ..AttributeProto::default() };
        assert_eq!(evaluate("ImageScaler", vec![float("scale", 0.5), bias], &[1, 2, 1, 2]), [10.0, 10.5, 21.0, 21.5]);
    }
}
