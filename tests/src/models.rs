//! The float models without recurrent operators, and what each is held to.

use std::path::{Path, PathBuf};

use edgecc_device::agreement::Bound;

/// A model with one run of it by onnxruntime.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The model's name.
    pub name: &'static str,
    /// What the name of the reference has behind the model's: nothing for seeded noise, or the real input.
    pub variant: &'static str,
    /// The axis of channels; the last one if `None`.
    pub channel: Option<usize>,
}

/// The least cosine of an output computed with halves with that of single precision. On noise, of which these models make
/// nothing sure, the worst is 0.99943, where sums are halves too.
pub const LEAST_COSINE_OF_HALVES: f64 = 0.999;

const fn noise(name: &'static str) -> Row {
    Row { name, variant: "", channel: None }
}

const fn real(name: &'static str, variant: &'static str) -> Row {
    Row { name, variant, channel: None }
}

/// One row a model.
pub const MODELS: [Row; 22] = [
    noise("mnist_cntk"),
    noise("mnist_burn"),
    noise("squeezenet_fp16"),
    noise("bodypix_mobilenetv1_050_s16"),
    noise("deeplab_dm05_513"),
    noise("portrait_mnv3_fp32"),
    noise("yolox_nano"),
    noise("fastestdet"),
    noise("ultraface_slim320"),
    noise("ultraface_rfb320"),
    noise("yunet_n_dynamic"),
    noise("blazeface_front_128"),
    noise("mp_face_landmark"),
    noise("super_resolution_10"),
    noise("ch_ppocr_mobile_v2.0_cls_infer"),
    // On noise onnxruntime itself leaves the bound between its optimisation levels.
    Row { name: "ch_PP-OCRv4_det_infer", variant: ".real_page", channel: Some(1) },
    noise("ch_PP-OCRv4_rec_infer"),
    noise("mlperftiny_kws_dscnn_fp32"),
    noise("mlperftiny_vww96_fp32"),
    noise("dtln_2"),
    noise("dnsmos_model_v8"),
    noise("magika_v3_3"),
];

/// The same models on real pictures.
pub const PICTURES: [Row; 6] = [
    real("squeezenet_fp16", ".real_chelsea"),
    real("squeezenet_fp16", ".real_coffee"),
    real("bodypix_mobilenetv1_050_s16", ".real_astronaut"),
    real("ultraface_slim320", ".real_astronaut"),
    real("yunet_n_dynamic", ".real_astronaut"),
    real("blazeface_front_128", ".real_astronaut"),
];

/// Models whose values are integers: as other tools quantised them.
pub const QUANTIZED: [Row; 6] = [
    noise("mlperftiny_kws_dscnn_int8"),
    noise("mlperftiny_vww96_int8"),
    noise("ultraface_slim320_qdq_u8s8_pc"),
    real("ultraface_slim320_qdq_u8s8_pc", ".real_astronaut"),
    noise("super_resolution_10_qop_u8"),
    noise("tract_qlstm"),
];

impl Row {
    /// The model's file in the folder of models.
    pub fn model(&self, folder: &Path) -> PathBuf {
        folder.join(format!("models/{}.onnx", self.name))
    }

    /// The file with inputs and outputs.
    pub fn reference(&self, folder: &Path) -> PathBuf {
        folder.join(format!("io/{}.npz", self.title()))
    }

    /// The reference's name.
    pub fn title(&self) -> String {
        format!("{}{}", self.name, self.variant)
    }

    /// What the outputs are held to; half precision has 11 bits.
    pub fn bound(&self) -> Bound {
        if self.name.ends_with("fp16") { Bound { relative: 1e-2, of_channel: 1e-2 } } else { Bound::FLOAT }
    }
}
