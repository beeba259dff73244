//! Attributes of a node, read as the type that the operator takes: another type is an error, not a default.

use edgecc_ir::Tensor;

use super::context::{Context, Imported, invalid};
use super::proto::{AttributeProto, GraphProto};
use super::tensor;

/// Types of attributes that are read, as `AttributeProto.AttributeType` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Float = 1,
    Int = 2,
    Text = 3,
    Tensor = 4,
    Graph = 5,
    Floats = 6,
    Ints = 7,
    Texts = 8,
}

/// What a number of `AttributeProto.AttributeType` is called.
fn type_name(number: i32) -> &'static str {
    match number {
        1 => "a float",
        2 => "an integer",
        3 => "a string",
        4 => "a tensor",
        5 => "a graph",
        6 => "a list of floats",
        7 => "a list of integers",
        8 => "a list of strings",
        9 => "a list of tensors",
        10 => "a list of graphs",
        _ => "of an unknown type",
    }
}

impl<'a> Context<'a, '_> {
    /// The attribute of a name, which must be of this type. Old files leave the type out.
    fn attribute(&self, name: &str, kind: Kind) -> Imported<Option<&'a AttributeProto>> {
        match self.node.attribute.iter().find(|attribute| attribute.name == name) {
            Some(found) if found.r#type != 0 && found.r#type != kind as i32 => {
                let (found, expected) = (type_name(found.r#type), type_name(kind as i32));
                invalid(format!("attribute `{name}` is {found}, {expected} is expected"))
            }
            found => Ok(found),
        }
    }

    pub(super) fn given_int(&self, name: &str) -> Imported<Option<i64>> {
        Ok(self.attribute(name, Kind::Int)?.map(|attribute| attribute.i))
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Imported<i64> {
        Ok(self.given_int(name)?.unwrap_or(default))
    }

    pub(super) fn given_float(&self, name: &str) -> Imported<Option<f32>> {
        Ok(self.attribute(name, Kind::Float)?.map(|attribute| attribute.f))
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Imported<f32> {
        Ok(self.given_float(name)?.unwrap_or(default))
    }

    pub(super) fn ints(&self, name: &str) -> Imported<Option<Vec<i64>>> {
        Ok(self.attribute(name, Kind::Ints)?.map(|attribute| attribute.ints.clone()))
    }

    pub(super) fn floats(&self, name: &str) -> Imported<Option<Vec<f32>>> {
        Ok(self.attribute(name, Kind::Floats)?.map(|attribute| attribute.floats.clone()))
    }

    pub(super) fn text(&self, name: &str, default: &str) -> Imported<String> {
        let found = self.attribute(name, Kind::Text)?;
        Ok(found.map_or(default.into(), |attribute| String::from_utf8_lossy(&attribute.s).into_owned()))
    }

    pub(super) fn texts(&self, name: &str) -> Imported<Vec<String>> {
        let found = self.attribute(name, Kind::Texts)?;
        let text = |text: &bytes::Bytes| String::from_utf8_lossy(text).into_owned();
        Ok(found.map_or(Vec::new(), |attribute| attribute.strings.iter().map(text).collect()))
    }

    pub(super) fn tensor(&self, name: &str) -> Imported<Option<Tensor>> {
        let Some(proto) = self.attribute(name, Kind::Tensor)?.and_then(|attribute| attribute.t.as_deref()) else {
            return Ok(None);
        };
        let value = tensor::read(proto, &self.importer.model.folder)?;
        self.check_size(&value.ty())?;
        Ok(Some(value))
    }

    pub(super) fn subgraph(&self, name: &str) -> Imported<&'a GraphProto> {
        match self.attribute(name, Kind::Graph)?.and_then(|attribute| attribute.g.as_deref()) {
            Some(graph) => Ok(graph),
            None => invalid(format!("has no `{name}`")),
        }
    }
}
