//! Damaged and unfitting artifacts and inputs at `edgecc run`, `bench` and `inspect`: how each ends and what it says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edgecc_device::tensor_file::{Array, write_npz};
use edgecc_format::{ElementType, HEADER_BYTES, SECTION_ALIGNMENT};
use edgecc_tests::{binary, python};

/// Ends of the commands that this file sees.
const FAULTY: i32 = 1;
const USAGE: i32 = 2;
const FILE: i32 = 4;

/// A folder with the sample, an artifact of it for this machine and one for another.
fn folder(name: &str) -> PathBuf {
    let folder = python::generated(&format!("bad_artifacts-{name}"));
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample");
    for file in ["digits.onnx", "seven.png"] {
        std::fs::copy(sample.join(file), folder.join(file)).expect("a copy");
    }
    let other = if cfg!(target_arch = "aarch64") { "x86_64" } else { "aarch64" };
    for (target, artifact) in [("host", "here.bin"), (other, "other.bin")] {
        let output = edgecc(&folder, &format!("digits.onnx --target {target} -o {artifact}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    folder
}

fn edgecc(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(binary::edgecc());
    command.args(arguments.split_whitespace()).current_dir(folder).output().expect("edgecc starts")
}

/// Runs a command that must end with this code, say all of these words, and write no result.
fn fails(folder: &Path, arguments: &str, code: i32, words: &[&str]) {
    let output = edgecc(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
    assert!(output.stdout.is_empty(), "{arguments}: {}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(said.contains(word), "{arguments}: no `{word}` in: {said}");
    }
}

/// Writes a damaged copy of the artifact; every command must refuse it in these words and name the file.
fn refused(folder: &Path, damage: impl Fn(&mut Vec<u8>), words: &[&str]) {
    let mut bytes = std::fs::read(folder.join("here.bin")).expect("an artifact");
    damage(&mut bytes);
    std::fs::write(folder.join("damaged.bin"), bytes).expect("a damaged copy");
    for command in ["run damaged.bin --input seven.png", "bench damaged.bin", "inspect damaged.bin"] {
        fails(folder, command, FAULTY, &[words, &["damaged.bin"]].concat());
    }
}

/// Where the sections of the artifact start: manifest, code, weights, as the table says.
fn sections(folder: &Path) -> [usize; 3] {
    let bytes = std::fs::read(folder.join("here.bin")).expect("an artifact");
    [0, 1, 2].map(|row| {
        let at = HEADER_BYTES + row * 32 + 8;
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize
    })
}

#[test]
fn truncated_artifacts_are_refused() {
    let folder = folder("truncated");
    let [manifest, code, weights] = sections(&folder);
    for length in [HEADER_BYTES, manifest + 10, code + 10, weights + 10] {
        refused(&folder, |bytes| bytes.truncate(length), &["truncated", "compile it again"]);
    }
    refused(&folder, |bytes| bytes.truncate(bytes.len() - 1), &["truncated", "compile it again"]);
    refused(&folder, |bytes| bytes.truncate(20), &["truncated", "of 64 bytes"]);
    refused(&folder, |bytes| bytes.push(0), &["1 bytes after its end", "compile it again"]);
}

#[test]
fn corrupt_artifacts_are_refused() {
    let folder = folder("corrupt");
    let [manifest, code, weights] = sections(&folder);
    let again = "compile it again";
    refused(&folder, |bytes| bytes[40] ^= 1, &["corrupt", again]);
    refused(&folder, |bytes| bytes[HEADER_BYTES] ^= 2, &["section table", again]);
    refused(&folder, |bytes| bytes[manifest - 1] = 1, &["gap", again]);
    for place in [manifest, manifest + 100, code, code + 100] {
        refused(&folder, |bytes| bytes[place] ^= 0x10, &["corrupt", "manifest or code", again]);
    }
    for place in [weights, weights + 1000] {
        refused(&folder, |bytes| bytes[place] ^= 1, &["corrupt", "weights", again]);
    }
    // Neither an artifact nor a model.
    fails(&folder, "run seven.png", FAULTY, &["seven.png", "no ONNX"]);
    fails(&folder, "inspect seven.png", FAULTY, &["seven.png", "not an edgecc artifact"]);
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let folder = folder("flipped");
    let bytes = std::fs::read(folder.join("here.bin")).expect("an artifact");
    let step = SECTION_ALIGNMENT as usize / 8 + 13;
    for place in (0..bytes.len()).step_by(step) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        std::fs::write(folder.join("damaged.bin"), damaged).expect("a damaged copy");
        fails(&folder, "inspect damaged.bin", FAULTY, &["damaged.bin", "artifact"]);
    }
}

#[test]
fn artifacts_of_another_version_or_processor_are_refused() {
    let folder = folder("foreign");
    refused(&folder, |bytes| bytes[8] = 9, &["9.0", "compile again"]);
    for command in ["run other.bin --input seven.png", "bench other.bin"] {
        fails(&folder, command, FAULTY, &["other.bin", "compile with --target"]);
    }
    assert!(edgecc(&folder, "inspect other.bin").status.success());
}

fn write(folder: &Path, file: &str, name: &str, element_type: ElementType, extents: &[usize]) {
    let bytes = vec![0; extents.iter().product::<usize>() * element_type.size() as usize];
    let array = Array { element_type, extents: extents.to_vec(), bytes };
    write_npz(&folder.join(file), &[(name.to_string(), array)]).expect("an npz file");
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let folder = folder("inputs");
    let run = |input: &str, code: i32, words: &[&str]| {
        fails(&folder, &format!("run here.bin --input {input}"), code, words);
    };
    write(&folder, "name.npz", "picture", ElementType::F32, &[1, 1, 8, 8]);
    run("name.npz", USAGE, &["`picture`", "those of the model are image"]);
    write(&folder, "shape.npz", "image", ElementType::F32, &[1, 1, 9, 8]);
    run("shape.npz", USAGE, &["input `image` is f32[1x1x8x8]", "f32[1x1x9x8]"]);
    write(&folder, "type.npz", "image", ElementType::F64, &[1, 1, 8, 8]);
    run("type.npz", USAGE, &["input `image` is f32[1x1x8x8]", "f64[1x1x8x8]"]);
    fails(&folder, "run here.bin", USAGE, &["input `image` (f32[1x1x8x8]) is not given", "--input"]);

    run("nothing.npz", FILE, &["nothing.npz"]);
    run("nothing.npy", FILE, &["nothing.npy"]);
    run("nothing.png", FILE, &["nothing.png"]);
    std::fs::write(folder.join("text.png"), "no picture").expect("a file");
    run("text.png", FILE, &["text.png"]);
    std::fs::write(folder.join("text.npz"), "no archive").expect("a file");
    run("text.npz", FILE, &["text.npz"]);
    std::fs::write(folder.join("text.npy"), "no array").expect("a file");
    run("image=text.npy", FILE, &["text.npy"]);
    let picture = std::fs::read(folder.join("seven.png")).expect("a picture");
    std::fs::write(folder.join("half.png"), &picture[..picture.len() / 2]).expect("a file");
    run("half.png", FILE, &["half.png"]);
}

#[test]
fn missing_files_and_flags_are_named_and_nothing_is_left() {
    let folder = folder("files");
    for command in ["run", "bench", "inspect"] {
        fails(&folder, &format!("{command} nothing.bin"), FILE, &["nothing.bin"]);
        fails(&folder, &format!("{command} here.bin --nonsense"), USAGE, &["--nonsense"]);
        fails(&folder, command, USAGE, &["required"]);
    }
    fails(&folder, "run here.bin --input seven.png --threads none", USAGE, &["--threads"]);
    fails(&folder, "run here.bin --input seven.png --output nowhere/out.npz", FILE, &["nowhere/out.npz"]);
    fails(&folder, "digits.onnx -o nowhere/out.bin", FILE, &["nowhere/out.bin"]);
    fails(&folder, "digits.onnx -o /proc/out.bin", FILE, &["/proc/out.bin"]);
    fails(&folder, "digits.onnx -o .", FILE, &["directory"]);
    let left = |name: &String| name.ends_with(".part") || name.starts_with("out.");
    let entries = std::fs::read_dir(&folder).expect("a folder").flatten();
    let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(left), "{names:?}");
}
