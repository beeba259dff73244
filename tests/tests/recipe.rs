//! Recipes: what was decided compiles again to the same bytes, may be edited, and is refused line by line where it is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edgecc::calibrate::observe::{Observer, Range};
use edgecc::quantize::Limit;
use edgecc::recipe::{LayerPrecision, LayerRule, Prune, Quantize, RangeRule, Read, Recipe, SamplesRule, Width};
use edgecc_tests::{binary, python};

/// A fresh folder with the sample in it.
fn folder(name: &str) -> PathBuf {
    let folder = python::generated(&format!("recipe-{name}"));
    std::fs::remove_dir_all(&folder).expect("an old folder goes");
    std::fs::create_dir_all(&folder).expect("a new folder");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    for file in ["digits.onnx", "seven.png", "three.png", "nine.png"] {
        std::fs::copy(sample.join(file), folder.join(file)).expect("a copy");
    }
    folder
}

fn edgecc(folder: &Path, arguments: &str) -> Output {
    let words = format!("digits.onnx --dim N=1 --target aarch64 {arguments}");
    Command::new(binary::edgecc()).args(words.split_whitespace()).current_dir(folder).output().expect("edgecc starts")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Compiles twice: by flags with a recipe written, and by that recipe. Gives its text.
fn twice(folder: &Path, flags: &str, again: &str) -> String {
    let first = edgecc(folder, &format!("{flags} --write-recipe edgecc.toml -o first.bin"));
    assert!(first.status.success(), "{}", errors(&first));
    let second = edgecc(folder, &format!("{again} --recipe edgecc.toml --write-recipe second.toml -o second.bin"));
    assert!(second.status.success(), "{}", errors(&second));
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file");
    assert!(read("first.bin") == read("second.bin"), "the recipe compiles to other bytes");
    assert_eq!(read("edgecc.toml"), read("second.toml"));
    String::from_utf8(read("edgecc.toml")).expect("text")
}

const DATA: &str = "--data seven.png --data three.png";

#[test]
fn a_recipe_compiles_to_the_same_bytes() {
    let folder = folder("again");
    let flags = "--prune 0.4 --prune-keep conv3 --quantize int8 --quantize-keep head";
    let text = twice(&folder, &format!("{flags} {DATA}"), DATA);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("cli"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("recipe", text));
}

#[test]
fn a_search_is_not_repeated() {
    let folder = folder("search");
    let text = twice(&folder, &format!("--quantize int8 --max-drop 0 {DATA}"), DATA);
    assert!(text.contains("precision = \"fp32\"") || !text.contains("max-drop"), "{text}");
}

#[test]
fn the_precision_of_every_layer_is_told() {
    let folder = folder("mixed");
    let start = "precision = \"fp16\"\n[quantize]\nonly-faster = false\n[layers]\nhead = { precision = \"float\" }\nconv3 = { precision = \"int16\" }\n";
    std::fs::write(folder.join("start.toml"), start).expect("a file");
    let text = twice(&folder, &format!("--recipe start.toml {DATA}"), DATA);
    let told =
        ["head = { precision = \"fp16\" }", "conv6 = { precision = \"int8\" }", "conv3 = { precision = \"int16\" }"];
    assert!(told.iter().all(|line| text.contains(line)), "{text}");
}

#[test]
fn weights_alone_and_made_up_samples_need_no_data() {
    let folder = folder("made-up");
    twice(&folder, "--prune 0.4 --quantize int8", "");
}

#[test]
fn a_recipe_that_decides_everything_needs_no_samples() {
    let folder = folder("decided");
    let start = "[quantize]\ncorrect-biases = false\n[layers]\nconv3 = { precision = \"int16\" }\n";
    std::fs::write(folder.join("start.toml"), start).expect("a file");
    let text = twice(&folder, &format!("--recipe start.toml {DATA}"), "");
    // Nor where a range is edited.
    let (before, after) = text.split_once("image = { low = 0.0, high = ").expect("the input's range");
    let after = after.split_once(',').expect("more fields").1;
    std::fs::write(folder.join("edited.toml"), format!("{before}image = {{ low = 0.0, high = 1.5,{after}"))
        .expect("a file");
    let edited = edgecc(&folder, "--recipe edited.toml -o edited.bin");
    assert!(edited.status.success(), "{}", errors(&edited));
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file");
    assert!(read("first.bin") != read("edited.bin"));
}

#[test]
fn other_samples_than_decided_are_refused() {
    let folder = folder("others");
    let text = twice(&folder, &format!("--prune 0.4 --quantize int8 {DATA}"), DATA);
    assert!(text.contains("[samples]\ndigest = "), "{text}");
    let others = edgecc(&folder, "--recipe edgecc.toml --data nine.png -o x.bin");
    assert!(errors(&others).contains("edgecc.toml: was decided on other samples, of digest "), "{}", errors(&others));
    let none = edgecc(&folder, "--recipe edgecc.toml -o x.bin");
    assert!(errors(&none).contains("edgecc.toml: needs the samples that it was decided on"), "{}", errors(&none));
    assert_eq!((others.status.code(), none.status.code()), (Some(2), Some(2)));
}

#[test]
fn what_is_wrong_is_told_by_line() {
    let folder = folder("wrong");
    let cases = [
        ("[quantize]\nwidth = 8\n", "line 2: unknown field `width`"),
        ("precision = \"fp17\"\n", "line 1: unknown variant `fp17`"),
        ("[prune]\nfraction = 1.5\n", "line 2: 1.5 is no share: a number from 0 to 1"),
        ("[prune]\nmultiple = 0\n", "line 2: 0 is no multiple: a number above 0"),
        (
            "[quantize]\n[layers]\nconv0 = { precision = \"int8\" }\nnowhere = { precision = \"float\" }\n",
            "line 4: no layer comes from a node named `nowhere`",
        ),
        (
            "[quantize]\n[ranges]\n\"conv0#9\" = { low = 0.0, high = 1.0 }\n",
            "line 3: no value of numbers comes from a node named `conv0#9`",
        ),
        (
            "[quantize]\n[ranges]\nconv0 = { low = 0.5, high = 1.0 }\n",
            "line 3: a range goes from at most 0 to at least 0",
        ),
        ("[quantize]\n[ranges]\nconv0 = { low = 0.0 }\n", "line 3: a range is `low` and `high`, or an `observer`"),
        (
            "[layers]\nconv0 = { precision = \"int8\" }\n",
            "line 2: the rule of `conv0` is for [quantize], which the recipe does not have",
        ),
        (
            "[layers]\nconv0 = { prune = 0.5 }\n",
            "line 2: the rule of `conv0` is for [prune], which the recipe does not have",
        ),
        ("precision = \n", "line 1: "),
        (
            "precision = \"fp16\"\n[quantize]\n[layers]\nconv0 = { precision = \"fp32\" }\n",
            "line 4: `conv0` has another precision than the recipe, which is of all numbers",
        ),
        (
            "[quantize]\nmax-drop = \"30 loud\"\n",
            "line 2: `30 loud` is no largest drop: 0.5%, 0.005, cosine=0.999 or 30dB",
        ),
    ];
    for (text, message) in cases {
        std::fs::write(folder.join("wrong.toml"), text).expect("a file");
        let output = edgecc(&folder, "--recipe wrong.toml -o x.bin");
        let said = errors(&output);
        assert!(said.contains(&format!("error: wrong.toml: {message}")), "{text}\n{said}");
        assert_eq!(output.status.code(), Some(2), "{said}");
    }
}

#[test]
fn layers_lose_the_share_that_a_recipe_says() {
    let folder = folder("shares");
    let recipe =
        "[prune]\nfraction = 0.9\nmultiple = 4\n[layers]\nconv6 = { prune = 0.5 }\nconv13 = { prune-at-most = 0.25 }\n";
    std::fs::write(folder.join("shares.toml"), recipe).expect("a file");
    let said = errors(&edgecc(&folder, "--recipe shares.toml -o x.bin"));
    assert!(said.contains("32 -> 16") && said.contains("64 -> 48"), "{said}");
}

#[test]
fn what_is_written_reads_as_the_same_recipe() {
    let rule = |precision, prune, prune_at_most| LayerRule { precision, prune, prune_at_most };
    let range = Range { low: -0.1, high: 1.0 / 3.0, observer: Observer::SquaredError };
    let layers = [
        ("a/b.c:0", rule(Some(LayerPrecision::Float), None, Some(0.25))),
        ("quote \" and \\", rule(None, Some(0.5), None)),
        ("ü\n", rule(Some(LayerPrecision::Int8), Some(0.0), None)),
    ];
    let recipe = Recipe {
        precision: Width::Fp16,
        prune: Some(Prune { fraction: 0.3, ..toml_default() }),
        quantize: Some(Quantize {
            observer: Some(Observer::MovingAverage),
            max_drop: Some(Limit::Decibels(30.5)),
            ..Quantize::default()
        }),
        samples: Some(SamplesRule { digest: "00ff".into() }),
        layers: layers.into_iter().map(|(name, rule)| (name.to_string(), rule)).collect(),
        ranges: [
            ("x".to_string(), RangeRule::Decided(range)),
            ("y#2".to_string(), RangeRule::By { observer: Observer::MinMax }),
        ]
        .into(),
    };
    let text = recipe.to_text().expect("a text");
    assert_eq!(Read::parse(&text).expect("the same recipe").recipe, recipe, "{text}");
}

/// Pruning as an empty table has it.
fn toml_default() -> Prune {
    Read::parse("[prune]\n").expect("a recipe").recipe.prune.expect("pruning")
}
