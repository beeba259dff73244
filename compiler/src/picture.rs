//! Pictures as inputs: resized to what the model takes and normalised.

use std::path::Path;

use edgecc_device::tensor_file::Array;
use edgecc_format::{ElementType, Port};

/// How samples 0..255 become elements: `(sample * scale - mean) / deviation`, per channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    /// Multiplied first.
    pub scale: f32,
    /// Subtracted; one for all channels or one for each.
    pub mean: Vec<f32>,
    /// Divided by; one for all channels or one for each.
    pub deviation: Vec<f32>,
    /// Blue first.
    pub bgr: bool,
}

impl Default for Normalisation {
    fn default() -> Self {
        Normalisation { scale: 1.0 / 255.0, mean: vec![0.0], deviation: vec![1.0], bgr: false }
    }
}

/// A picture that cannot be this input.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Not a picture that this tool reads.
    #[error("{path}: {source}")]
    Image {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: image::ImageError,
    },
    /// The input is no image.
    #[error(
        "input `{name}` of shape {extents:?} takes no picture: one of [1,C,H,W] or [1,H,W,C] with 1 or 3 channels does"
    )]
    Shape {
        /// The input's name.
        name: String,
        /// Its shape.
        extents: Vec<u64>,
    },
    /// The input's elements are no samples.
    #[error("input `{name}` of {element} takes no picture: f32 and u8 do")]
    Element {
        /// The input's name.
        name: String,
        /// Its element type.
        element: &'static str,
    },
    /// A list of per-channel figures of another length.
    #[error("{flag} has {count} figures for a picture of {channels} channels")]
    Figures {
        /// The flag.
        flag: &'static str,
        /// Figures given.
        count: usize,
        /// Channels.
        channels: usize,
    },
}

/// Order of the axes behind the batch.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    ChannelsFirst,
    ChannelsLast,
}

/// Reads a PNG or JPEG as the tensor that the input takes, resized to its height and width.
pub fn read(path: &Path, port: &Port, normalisation: &Normalisation) -> Result<Array, PictureError> {
    let (order, channels, height, width) = geometry(port)?;
    let picture = image::open(path).map_err(|source| PictureError::Image { path: path.into(), source })?;
    let filter = image::imageops::FilterType::Triangle;
    let samples: Vec<u8> = if channels == 1 {
        picture.resize_exact(width as u32, height as u32, filter).to_luma8().into_raw()
    } else {
        picture.resize_exact(width as u32, height as u32, filter).to_rgb8().into_raw()
    };
    let mean = figures("--mean", &normalisation.mean, channels)?;
    let deviation = figures("--std", &normalisation.deviation, channels)?;
    let element_type = ElementType::try_from(port.element_type).unwrap_or(ElementType::Unspecified);
    let mut bytes = Vec::with_capacity(samples.len() * 4);
    for position in 0..samples.len() {
        let (pixel, channel) = match order {
            Order::ChannelsFirst => (position % (height * width), position / (height * width)),
            Order::ChannelsLast => (position / channels, position % channels),
        };
        let source = if normalisation.bgr { channels - 1 - channel } else { channel };
        let sample = samples[pixel * channels + source];
        match element_type {
            ElementType::U8 => bytes.push(sample),
            ElementType::F32 => {
                let value = (sample as f32 * normalisation.scale - mean[channel]) / deviation[channel];
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            other => return Err(PictureError::Element { name: port.name.clone(), element: other.name() }),
        }
    }
    Ok(Array { element_type, extents: port.dims.iter().map(|dim| dim.value as usize).collect(), bytes })
}

fn geometry(port: &Port) -> Result<(Order, usize, usize, usize), PictureError> {
    let extents: Vec<u64> = port.dims.iter().map(|dim| dim.value).collect();
    match extents[..] {
        [1, c @ (1 | 3), h, w] => Ok((Order::ChannelsFirst, c as usize, h as usize, w as usize)),
        [1, h, w, c @ (1 | 3)] => Ok((Order::ChannelsLast, c as usize, h as usize, w as usize)),
        _ => Err(PictureError::Shape { name: port.name.clone(), extents }),
    }
}

/// One figure per channel.
fn figures(flag: &'static str, given: &[f32], channels: usize) -> Result<Vec<f32>, PictureError> {
    match given {
        [single] => Ok(vec![*single; channels]),
        list if list.len() == channels => Ok(list.to_vec()),
        list => Err(PictureError::Figures { flag, count: list.len(), channels }),
    }
}
