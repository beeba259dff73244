//! Networks that others trained, quantised on crops of real pictures and held to what they are for on other crops.

use std::path::Path;
use std::time::Instant;

use edgecc::calibrate::samples::{Samples, ports};
use edgecc::compile::{CompileOptions, modelled_costs, prepare};
use edgecc::names::layers;
use edgecc::picture::Normalisation;
use edgecc::quantize::{Limit, QuantizeOptions, Report, quantize};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::Array;
use edgecc_ir::Graph;
use edgecc_tests::crops::{Kind, crops};
use edgecc_tests::reference::{self, shared};
use edgecc_tests::report::say;
use edgecc_tests::run;

/// A model, its inputs and what it is for.
struct Case {
    name: &'static str,
    kind: Kind,
    /// `[1,C,H,W]` or `[1,H,W,C]`.
    extents: [usize; 4],
    scaling: Scaling,
    task: Task,
    /// Crops that calibrate, and others that test.
    crops: [usize; 2],
    /// What integers keep to on the crops that calibrate, with some layers in f32, so that they do what they are for on others.
    limit: Limit,
}

/// How samples 0..255 become numbers.
#[derive(Clone, Copy)]
struct Scaling {
    scale: f32,
    mean: [f32; 3],
    deviation: [f32; 3],
    bgr: bool,
}

const fn scaled(scale: f32, mean: f32) -> Scaling {
    Scaling { scale, mean: [mean; 3], deviation: [1.0; 3], bgr: false }
}

/// From 0 to 1.
const SHARES: Scaling = scaled(1.0 / 255.0, 0.0);
/// From -1 to 1.
const AROUND_ZERO: Scaling = scaled(1.0 / 127.5, 1.0);
const ULTRAFACE: Scaling = scaled(1.0 / 128.0, 127.0 / 128.0);
/// As they are, blue first.
const PLAIN_BGR: Scaling = Scaling { bgr: true, ..scaled(1.0, 0.0) };
const SQUEEZENET: Scaling = Scaling { mean: [103.939, 116.779, 123.68], ..PLAIN_BGR };
const TEXT: Scaling = Scaling { mean: [0.5; 3], deviation: [0.5; 3], bgr: true, ..SHARES };

/// What outputs mean.
enum Task {
    /// The first output is a row of scores of classes.
    Classes,
    /// The first output has a score for each class of each pixel, along this axis.
    Pixels(usize),
    /// Boxes with a score each, as a function of the outputs, and where the outputs have their numbers.
    Boxes(fn(&[Array]) -> Vec<Detection>, Regression),
    /// The first output is points in pixels, three numbers each.
    Landmarks,
    /// Numbers, whose channels lie along this axis.
    Numbers(usize),
}

/// Outputs whose first channels, along the last axis, are numbers.
#[derive(Clone, Copy)]
struct Regression {
    outputs: &'static [usize],
    channels: usize,
}

/// A box by its corners, in any unit.
#[derive(Clone, Copy, Debug)]
struct Detection {
    score: f64,
    corners: [f64; 4],
}

/// Of a hundred classes that are no ties one changes at most.
const FEW_CHANGE: Limit = Limit::Share(0.005);
const CLEAR: Limit = Limit::Decibels(31.0);
const VERY_CLEAR: Limit = Limit::Decibels(33.0);
/// Scores are within 0.02.
const SURE_SCORES: Limit = Limit::Decibels(34.0);
/// Of scores' logarithms, which are further from 0 the less they say.
const SURE_LOGARITHMS: Limit = Limit::Decibels(40.0);

const CLASSIFIER: Case = Case {
    name: "",
    kind: Kind::Scenes,
    extents: [1, 3, 224, 224],
    scaling: SHARES,
    task: Task::Classes,
    crops: [64, 200],
    limit: FEW_CHANGE,
};
const DETECTOR: Case = Case { kind: Kind::Faces, crops: [32, 64], limit: SURE_SCORES, ..CLASSIFIER };
const SEGMENTER: Case = Case { crops: [32, 32], limit: CLEAR, ..CLASSIFIER };

const CASES: &[Case] = &[
    Case { name: "squeezenet_fp16", scaling: SQUEEZENET, ..CLASSIFIER },
    Case { name: "mlperftiny_vww96_fp32", extents: [1, 96, 96, 3], ..CLASSIFIER },
    Case {
        name: "ch_ppocr_mobile_v2.0_cls_infer",
        kind: Kind::Text,
        extents: [1, 3, 48, 192],
        scaling: TEXT,
        crops: [256, 200],
        ..CLASSIFIER
    },
    Case {
        name: "portrait_mnv3_fp32",
        extents: [1, 256, 256, 3],
        task: Task::Pixels(3),
        limit: VERY_CLEAR,
        ..SEGMENTER
    },
    Case {
        name: "ultraface_slim320",
        extents: [1, 3, 240, 320],
        scaling: ULTRAFACE,
        task: Task::Boxes(ultraface_slim, Regression { outputs: &[1], channels: 4 }),
        ..DETECTOR
    },
    Case {
        name: "ultraface_rfb320",
        extents: [1, 3, 240, 320],
        scaling: ULTRAFACE,
        task: Task::Boxes(ultraface_rfb, Regression { outputs: &[1], channels: 4 }),
        limit: VERY_CLEAR,
        ..DETECTOR
    },
    Case {
        name: "yunet_n_dynamic",
        extents: [1, 3, 192, 256],
        scaling: PLAIN_BGR,
        task: Task::Boxes(yunet, Regression { outputs: &[6, 7, 8], channels: 4 }),
        limit: CLEAR,
        ..DETECTOR
    },
    Case {
        name: "blazeface_front_128",
        extents: [1, 128, 128, 3],
        scaling: AROUND_ZERO,
        task: Task::Boxes(blazeface, Regression { outputs: &[2, 3], channels: 16 }),
        limit: SURE_LOGARITHMS,
        ..DETECTOR
    },
    Case {
        name: "yolox_nano",
        kind: Kind::Scenes,
        extents: [1, 3, 416, 416],
        scaling: PLAIN_BGR,
        task: Task::Boxes(yolox, Regression { outputs: &[0], channels: 4 }),
        crops: [32, 32],
        limit: CLEAR,
    },
    Case {
        name: "mp_face_landmark",
        extents: [1, 3, 192, 192],
        scaling: AROUND_ZERO,
        task: Task::Landmarks,
        crops: [64, 64],
        limit: CLEAR,
        ..DETECTOR
    },
    Case {
        name: "bodypix_mobilenetv1_050_s16",
        extents: [1, 241, 321, 3],
        scaling: AROUND_ZERO,
        task: Task::Numbers(3),
        limit: VERY_CLEAR,
        ..SEGMENTER
    },
    Case {
        name: "super_resolution_10",
        extents: [1, 1, 224, 224],
        task: Task::Numbers(1),
        crops: [16, 8],
        ..SEGMENTER
    },
];

fn centred([x, y, width, height]: [f64; 4], score: f64) -> Detection {
    Detection { score, corners: [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0] }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Scores of no face and of a face, and corners in shares of the picture.
fn ultraface_rfb(outputs: &[Array]) -> Vec<Detection> {
    let (scores, boxes) = (outputs[0].to_f64(), outputs[1].to_f64());
    let detection = |(score, corners): (&[f64], &[f64])| Detection {
        score: score[1],
        corners: [corners[0], corners[1], corners[2], corners[3]],
    };
    scores.chunks(2).zip(boxes.chunks(4)).map(detection).collect()
}

/// The same with boxes as they differ from anchors.
fn ultraface_slim(outputs: &[Array]) -> Vec<Detection> {
    const SIZES: [&[f64]; 4] = [&[10.0, 16.0, 24.0], &[32.0, 48.0], &[64.0, 96.0], &[128.0, 192.0, 256.0]];
    let (scores, boxes) = (outputs[0].to_f64(), outputs[1].to_f64());
    let mut anchors = Vec::new();
    for (sizes, [columns, rows]) in SIZES.iter().zip([[40, 30], [20, 15], [10, 8], [5, 4]]) {
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let centre = [(column as f64 + 0.5) / columns as f64, (row as f64 + 0.5) / rows as f64];
            anchors.extend(sizes.iter().map(|size| [centre[0], centre[1], size / 320.0, size / 240.0]));
        }
    }
    assert_eq!(anchors.len() * 4, boxes.len());
    let detection = |((score, b), a): ((&[f64], &[f64]), &[f64; 4])| {
        let centre = [a[0] + b[0] * 0.1 * a[2], a[1] + b[1] * 0.1 * a[3]];
        centred([centre[0], centre[1], a[2] * (b[2] * 0.2).exp(), a[3] * (b[3] * 0.2).exp()], score[1])
    };
    scores.chunks(2).zip(boxes.chunks(4)).zip(&anchors).map(detection).collect()
}

/// Class, presence and box of three grids.
fn yunet(outputs: &[Array]) -> Vec<Detection> {
    let of_grid = |(place, stride): (usize, f64)| {
        let (class, presence) = (outputs[place].to_f64(), outputs[3 + place].to_f64());
        let boxes = outputs[6 + place].to_f64();
        let columns = (256.0 / stride) as usize;
        let detection = move |(cell, b): (usize, &[f64])| {
            let (column, row) = ((cell % columns) as f64, (cell / columns) as f64);
            let centre = [(column + b[0]) * stride, (row + b[1]) * stride];
            centred(
                [centre[0], centre[1], b[2].exp() * stride, b[3].exp() * stride],
                (class[cell] * presence[cell]).sqrt(),
            )
        };
        boxes.chunks(4).enumerate().map(detection).collect::<Vec<_>>()
    };
    [8.0, 16.0, 32.0].into_iter().enumerate().flat_map(of_grid).collect()
}

/// Two anchors in each of 16 x 16 cells, six in each of 8 x 8.
fn blazeface(outputs: &[Array]) -> Vec<Detection> {
    let of_grid = |(place, cells, anchors): (usize, usize, usize)| {
        let (scores, numbers) = (outputs[place].to_f64(), outputs[2 + place].to_f64());
        let detection = move |(anchor, n): (usize, &[f64])| {
            let cell = anchor / anchors;
            let centre = [cell % cells, cell / cells].map(|place| (place as f64 + 0.5) * 128.0 / cells as f64);
            centred([n[0] + centre[0], n[1] + centre[1], n[2], n[3]], sigmoid(scores[anchor]))
        };
        numbers.chunks(16).enumerate().map(detection).collect::<Vec<_>>()
    };
    [(0, 16, 2), (1, 8, 6)].into_iter().flat_map(of_grid).collect()
}

/// Box, presence and 80 classes of three grids.
fn yolox(outputs: &[Array]) -> Vec<Detection> {
    let cells = [8usize, 16, 32].into_iter().flat_map(|stride| {
        let columns = 416 / stride;
        (0..columns * columns).map(move |cell| [cell % columns, cell / columns, stride].map(|number| number as f64))
    });
    let detection = |([column, row, stride], n): ([f64; 3], &[f64])| {
        let class = n[5..].iter().copied().fold(0.0, f64::max);
        let size = [n[2].exp() * stride, n[3].exp() * stride];
        centred([(n[0] + column) * stride, (n[1] + row) * stride, size[0], size[1]], n[4] * class)
    };
    cells.zip(outputs[0].to_f64().chunks(85)).map(detection).collect()
}

fn overlap(a: &Detection, b: &Detection) -> f64 {
    let side =
        |axis: usize| (a.corners[axis + 2].min(b.corners[axis + 2]) - a.corners[axis].max(b.corners[axis])).max(0.0);
    let area = |x: &Detection| (x.corners[2] - x.corners[0]) * (x.corners[3] - x.corners[1]);
    let both = side(0) * side(1);
    both / (area(a) + area(b) - both)
}

/// The score from which on a box counts.
const SURE: f64 = 0.6;
/// What scores may be apart. Where a row's first two are no further from each other than twice that, it names no class.
const APART: f64 = 0.02;

/// What integers are held to, of one case.
#[derive(Debug, Default)]
struct Found {
    /// Share of the crops, or pixels, of the same class.
    same: Option<f64>,
    /// The same of those crops whose class is no tie, and how many these are.
    same_of_sure: Option<(f64, usize)>,
    /// Least overlap of the surest boxes, the largest difference of their scores, and how many there were.
    boxes: Option<(f64, f64, usize)>,
    /// Outputs with numbers beside scores, with the decibels of their worst channel.
    regression: Vec<(usize, f64)>,
    /// Mean distance of landmarks, and that of the worst crop.
    points: Option<[f64; 2]>,
    /// Decibels over the difference, of the worst channel of all outputs.
    worst_channel: f64,
}

fn largest(values: impl Iterator<Item = f64>) -> usize {
    values.enumerate().fold((0, f64::NEG_INFINITY), |best, (n, x)| if x > best.1 { (n, x) } else { best }).0
}

/// How far the first two of a row are apart.
fn margin(row: &[f64]) -> f64 {
    let first = largest(row.iter().copied());
    let others = row.iter().enumerate().filter(|(place, _)| *place != first);
    row[first] - others.fold(f64::NEG_INFINITY, |most, (_, &x)| most.max(x))
}

/// Decibels of each channel of an output over the difference, over all runs; the worst.
fn worst_channel(float: &[Vec<Array>], integer: &[Vec<Array>], output: usize, axis: usize) -> f64 {
    worst_of_first(usize::MAX, float, integer, output, axis)
}

/// Likewise, of the first channels.
fn worst_of_first(channels: usize, float: &[Vec<Array>], integer: &[Vec<Array>], output: usize, axis: usize) -> f64 {
    let extents = &float[0][output].extents;
    let axis = axis.min(extents.len() - 1);
    let inner: usize = extents[axis + 1..].iter().product();
    let mut energy = vec![[0.0; 2]; extents[axis]];
    for (a, b) in float.iter().zip(integer) {
        for (place, (x, y)) in a[output].to_f64().iter().zip(b[output].to_f64()).enumerate() {
            let own = &mut energy[place / inner % extents[axis]];
            *own = [own[0] + x * x, own[1] + (x - y) * (x - y)];
        }
    }
    let decibels = |[signal, noise]: &[f64; 2]| 10.0 * (signal.max(1e-30) / noise.max(1e-30)).log10();
    energy.iter().take(channels).filter(|energy| energy[0] > 0.0).map(decibels).fold(f64::INFINITY, f64::min)
}

fn compare(task: &Task, float: &[Vec<Array>], integer: &[Vec<Array>]) -> Found {
    let pairs = || float.iter().zip(integer);
    let mut found = Found::default();
    let axis = match task {
        Task::Pixels(axis) | Task::Numbers(axis) => *axis,
        Task::Landmarks => 1,
        Task::Classes | Task::Boxes(..) => usize::MAX,
    };
    let of_output = |output| worst_channel(float, integer, output, axis);
    found.worst_channel = (0..float[0].len()).map(of_output).fold(f64::INFINITY, f64::min);
    match task {
        Task::Classes => {
            let class = |outputs: &[Array]| largest(outputs[0].to_f64().into_iter());
            let is_same = |(a, b): &(&Vec<Array>, &Vec<Array>)| class(a) == class(b);
            let is_sure = |(a, _): &(&Vec<Array>, &Vec<Array>)| margin(&a[0].to_f64()) > 2.0 * APART;
            found.same = Some(pairs().filter(is_same).count() as f64 / float.len() as f64);
            let sure = pairs().filter(is_sure).count();
            let same = pairs().filter(is_sure).filter(is_same).count();
            found.same_of_sure = Some((same as f64 / sure.max(1) as f64, sure));
        }
        Task::Pixels(axis) => {
            let classes = float[0][0].extents[*axis];
            let (mut same, mut all) = (0, 0);
            for (a, b) in pairs() {
                let (a, b) = (a[0].to_f64(), b[0].to_f64());
                for (a, b) in a.chunks(classes).zip(b.chunks(classes)) {
                    same += (largest(a.iter().copied()) == largest(b.iter().copied())) as usize;
                    all += 1;
                }
            }
            found.same = Some(same as f64 / all as f64);
        }
        Task::Boxes(of, Regression { outputs, channels }) => {
            let of_output = |&output| (output, worst_of_first(*channels, float, integer, output, usize::MAX));
            found.regression = outputs.iter().map(of_output).collect();
            let (mut least, mut apart, mut count) = (1.0f64, 0.0f64, 0);
            for (a, b) in pairs() {
                let (a, b) = (of(a), of(b));
                let best = largest(a.iter().map(|detection| detection.score));
                if a[best].score > SURE {
                    least = least.min(overlap(&a[best], &b[best]));
                    apart = apart.max((a[best].score - b[best].score).abs());
                    count += 1;
                }
            }
            found.boxes = Some((least, apart, count));
        }
        Task::Landmarks => {
            let distance = |(a, b): (&Vec<Array>, &Vec<Array>)| {
                let (a, b) = (a[0].to_f64(), b[0].to_f64());
                let points = a.chunks(3).zip(b.chunks(3)).map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1]));
                points.sum::<f64>() / (a.len() / 3) as f64
            };
            let distances: Vec<f64> = pairs().map(distance).collect();
            let mean = distances.iter().sum::<f64>() / distances.len() as f64;
            found.points = Some([mean, distances.into_iter().fold(0.0, f64::max)]);
        }
        Task::Numbers(_) => {}
    }
    found
}

fn prepared(folder: &Path, case: &Case) -> (Graph, CompileOptions) {
    let model = folder.join(format!("models/{}.onnx", case.name));
    let names = edgecc::onnx::input_names(&edgecc::onnx::read(&model).expect("a model"));
    let options = run::options(Architecture::host().expect("a host"), &[(names[0].clone(), case.extents.to_vec())]);
    (prepare(&model, &options, &mut |_| {}).expect("a graph").0, options)
}

fn runs(graph: &Graph, case: &Case, seed: usize) -> Option<Vec<Vec<Array>>> {
    let Scaling { scale, mean, deviation, bgr } = case.scaling;
    let normalisation = Normalisation { scale, mean: mean.to_vec(), deviation: deviation.to_vec(), bgr };
    let size =
        if case.extents[3] <= 3 { [case.extents[1], case.extents[2]] } else { [case.extents[2], case.extents[3]] };
    let dtype = graph.ty(graph.inputs()[0]).dtype;
    let crops = crops(case.kind, case.crops[seed - 1], seed, size)?;
    Some(crops.inputs(dtype, &case.extents, &normalisation).into_iter().map(|input| vec![input]).collect())
}

fn quantised(graph: &Graph, case: &Case, how: &QuantizeOptions) -> Option<(Graph, Report)> {
    let options = run::options(Architecture::Aarch64, &[]);
    let samples = Samples { ports: ports(graph), runs: runs(graph, case, 1)? };
    let mut integers = graph.clone();
    let report = quantize(&mut integers, &options, how, &samples, 2, &mut |_| {}).expect("a quantised network");
    Some((integers, report))
}

/// On a phone.
fn cycles(graph: &Graph) -> f64 {
    let costs = modelled_costs(graph, &run::options(Architecture::Aarch64, &[])).expect("cycles");
    costs.iter().map(|(_, cost)| cost.cycles).sum()
}

fn row(case: &Case, found: &Found, report: &Report, how: &str) -> String {
    let mut text =
        format!("{:32} {how:10} {:3} layers, {:2} in f32", case.name, report.layers.len(), report.float.len());
    let wide = report.layers.iter().filter(|layer| layer.bits > 8).count();
    text += &format!(", {wide:2} of 16 bits");
    text += &format!(" ({:.0} % of the multiply-adds)", report.float_share * 100.0);
    text += &format!(", worst channel {:5.1} dB", found.worst_channel);
    if let Some(same) = found.same {
        text += &format!(", same class {:.2} %", same * 100.0);
    }
    if let Some((same, sure)) = found.same_of_sure {
        text += &format!(", {:.2} % of the {sure} that are no ties", same * 100.0);
    }
    if let Some((least, apart, count)) = found.boxes {
        text += &format!(", boxes overlap by {least:.3}, scores within {apart:.4} ({count})");
        let decibels: Vec<String> = found.regression.iter().map(|(_, decibels)| format!("{decibels:.1}")).collect();
        text += &format!(", their numbers {} dB", decibels.join(", "));
    }
    if let Some([mean, worst]) = found.points {
        text += &format!(", points within {mean:.3} px, of the worst crop {worst:.3}");
    }
    text
}

/// Whether no layer that makes an output directly reads 8 bits.
fn has_more_bits(graph: &Graph, report: &Report, output: usize) -> bool {
    let layers = layers(graph);
    let mut open = vec![graph.outputs()[output].node];
    while let Some(id) = open.pop() {
        match graph.op(id).epilogue() {
            Some(_) if report.decided.integers.contains(&layers.name(id)) => return false,
            Some(_) => {}
            None => open.extend(graph.operands(id)),
        }
    }
    true
}

/// The bars that are missed.
fn missed(task: &Task, found: &Found, has_more_bits: impl Fn(usize) -> bool) -> Vec<String> {
    let mut missed = Vec::new();
    let mut hold = |is_kept: bool, what: &str| (!is_kept).then(|| missed.push(what.to_string()));
    if let Some(same) = found.same_of_sure.map(|(same, _)| same).or(found.same) {
        hold(same >= 0.99, "another class");
    }
    if let Some((least, apart, _)) = found.boxes {
        hold(least >= 0.95, "boxes elsewhere");
        hold(apart <= APART, "other scores");
    }
    if let Some([mean, _]) = found.points {
        hold(mean <= 0.5, "landmarks elsewhere");
    }
    for &(output, decibels) in &found.regression {
        hold(decibels >= 30.0 || has_more_bits(output), "noisy numbers");
    }
    if matches!(task, Task::Numbers(_)) {
        hold(found.worst_channel >= 30.0, "a noisy channel");
    }
    missed
}

/// The classes of the pictures that lie beside the project: a cat and an espresso.
fn assert_pictures(folder: &Path, graph: &Graph, options: &CompileOptions) {
    for (picture, class) in [("chelsea", 285), ("coffee", 967)] {
        let reference = reference::read(&folder.join(format!("io/squeezenet_fp16.real_{picture}.npz")));
        let answers = run::answers(graph, options, &[reference.inputs]);
        assert_eq!(largest(answers[0][0].to_f64().into_iter()), class, "{picture}");
    }
}

/// `EDGECC_NETWORK=part of a name` for one of them, `EDGECC_REPORT=1` for all of the reports, `EDGECC_MAX_DROP=30dB` for another limit.
#[test]
#[ignore = "minutes"]
fn networks_do_by_integers_what_they_are_for() {
    let Some(folder) = shared("models") else { return };
    let only = std::env::var("EDGECC_NETWORK").unwrap_or_default();
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        let (graph, options) = prepared(&folder, case);
        let Some(tests) = runs(&graph, case, 2) else { return };
        let float = run::answers(&graph, &options, &tests);
        let plain = QuantizeOptions { plain: true, ..QuantizeOptions::default() };
        let told = std::env::var("EDGECC_MAX_DROP").ok();
        let limit = told.map_or(case.limit, |text| text.parse().expect("a limit"));
        let automatic = QuantizeOptions { only_faster: true, ..QuantizeOptions::default() };
        let mixed = QuantizeOptions { max_drop: Some(limit), ..automatic.clone() };
        let mut plain_quality = f64::NEG_INFINITY;
        for (name, how) in [("plain", plain), ("automatic", automatic), ("mixed", mixed)] {
            let tell_shares = std::env::var_os("EDGECC_REPORT").is_some() && name == "automatic";
            let how = QuantizeOptions { tell_shares, ..how };
            let started = Instant::now();
            let Some((integers, report)) = quantised(&graph, case, &how) else { return };
            let spent = started.elapsed().as_secs_f64();
            let found = compare(&case.task, &float, &run::answers(&integers, &options, &tests));
            let share = cycles(&integers) / cycles(&graph);
            say(&format!("{}, {share:.2} of the modelled cycles, {spent:.0} s", row(case, &found, &report, name)));
            if std::env::var_os("EDGECC_REPORT").is_some() {
                say(&report.to_string());
            }
            if name == "mixed" {
                let missed = missed(&case.task, &found, |output| has_more_bits(&graph, &report, output));
                assert_eq!(missed, [""; 0], "{}", case.name);
                assert!(found.worst_channel >= plain_quality, "{} is worse than by extremes", case.name);
            } else if name == "plain" {
                plain_quality = found.worst_channel;
            }
            if case.name.starts_with("squeezenet") && name != "plain" {
                assert_pictures(&folder, &integers, &options);
            }
        }
    }
}
