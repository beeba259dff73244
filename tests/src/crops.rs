//! Crops of real pictures as inputs of models.

use std::path::Path;

use edgecc::picture::Normalisation;
use edgecc_device::tensor_file::{Array, read_npz};
use edgecc_ir::{DType, Scalar};

use crate::python::{generated, python, tool};
use crate::reference::shared;

/// What crops show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Parts of photographs.
    Scenes,
    /// Faces.
    Faces,
    /// Parts of printed pages.
    Text,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Scenes => "scenes",
            Kind::Faces => "faces",
            Kind::Text => "text",
        }
    }
}

/// Pictures, red first, samples 0..255.
pub struct Crops {
    /// `[count,3,height,width]`.
    pub images: Array,
}

/// `count` crops from a seed, cut once and kept in the build's folder. `None`, after a visible line, without Python or pictures.
pub fn crops(kind: Kind, count: usize, seed: usize, [height, width]: [usize; 2]) -> Option<Crops> {
    let file = generated("crops").join(format!("{}-{count}-{seed}-{height}x{width}.npz", kind.name()));
    if !file.exists() {
        let folder = shared("models")?.join("data");
        let numbers = [count, seed, height, width].map(|number| number.to_string());
        let [count, seed, height, width] = &numbers;
        let words = [&*folder.to_string_lossy(), kind.name(), count, seed, height, width, &file.to_string_lossy()];
        tool(&python()?, "crops.py", &words);
    }
    Some(Crops { images: array(&file, "images") })
}

fn array(file: &Path, name: &str) -> Array {
    let arrays = read_npz(file).expect("arrays");
    arrays.into_iter().find(|(found, _)| found == name).expect("the array").1
}

impl Crops {
    /// The crops as inputs of these extents, `[1,C,H,W]` or `[1,H,W,C]`, of three channels or the mean of them.
    pub fn inputs(&self, dtype: DType, extents: &[usize], normalisation: &Normalisation) -> Vec<Array> {
        let channels_last = extents[3] <= 3;
        let channels = if channels_last { extents[3] } else { extents[1] };
        let pixels = self.images.extents[2] * self.images.extents[3];
        let samples: Vec<f32> = self.images.to_f64().iter().map(|&sample| sample as f32).collect();
        let figure = |list: &[f32], channel: usize| *list.get(channel).unwrap_or(&list[0]);
        let input = |image: &[f32]| {
            let element = |place: usize| {
                let (pixel, channel) =
                    if channels_last { (place / channels, place % channels) } else { (place % pixels, place / pixels) };
                let of = |channel: usize| image[channel * pixels + pixel];
                let sample = match (channels, normalisation.bgr) {
                    (1, _) => (of(0) + of(1) + of(2)) / 3.0,
                    (_, true) => of(2 - channel),
                    (_, false) => of(channel),
                };
                let (mean, deviation) = (&normalisation.mean, &normalisation.deviation);
                let value = (sample * normalisation.scale - figure(mean, channel)) / figure(deviation, channel);
                Scalar::from_f64(dtype, value as f64).to_le_bytes().into_iter().take(dtype.size())
            };
            let bytes = (0..channels * pixels).flat_map(element).collect();
            let element_type = edgecc_backends::artifact::element_type(dtype);
            Array { element_type, extents: extents.to_vec(), bytes }
        };
        samples.chunks(3 * pixels).map(input).collect()
    }
}
