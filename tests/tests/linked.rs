//! Models as object files: linked into programs for this machine and for aarch64, and by the linkers of Android and Apple.

use edgecc_tests::report::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;

use edgecc::compile::CompileOptions;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::{Array, read_npz, write_npz};
use edgecc_tests::{binary, cross, python, run};
use object::{Object, ObjectSection, ObjectSymbol};

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The sample, and a network whose steps run in parallel, each with one input in its file.
fn models() -> [(PathBuf, Array); 2] {
    let digits = read_npz(&workspace("sample/digits-test.npz")).expect("the test split");
    let images = &digits.iter().find(|(name, _)| name == "image").expect("images").1;
    let bytes = images.bytes[..images.bytes.len() / images.extents[0]].to_vec();
    let digit = Array { extents: [&[1], &images.extents[1..]].concat(), bytes, ..images.clone() };
    let network = workspace("tests/models/mobilenet_small/opset17.onnx");
    let image = edgecc_tests::reference::read(&network.with_extension("npz")).inputs.remove(0);
    [(workspace("sample/digits.onnx"), digit), (network, image)]
}

/// A folder with `model.o`, `model.h` and `model.weights`.
fn build(model: &Path, target: &str, folder: &str) -> PathBuf {
    let folder = python::generated(folder);
    let object = folder.join("model.o");
    let arguments: [&std::ffi::OsStr; 7] = [
        model.as_ref(),
        "--target".as_ref(),
        target.as_ref(),
        "--emit".as_ref(),
        "obj".as_ref(),
        "-o".as_ref(),
        object.as_ref(),
    ];
    let output = binary::run(&arguments);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// Compiles the C program with the object of a folder; `None`, after a visible line, without the compiler.
fn compile_c(compiler: &str, folder: &Path) -> Option<PathBuf> {
    if Command::new(compiler).arg("--version").output().is_err() {
        skipped(&format!("no {compiler} for the program that links a model"));
        return None;
    }
    let program = folder.join("linked");
    let output = Command::new(compiler)
        .args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-I"])
        .args([folder, &workspace("tests/c/linked.c"), &folder.join("model.o")])
        .args([Path::new("-o"), &program])
        .output()
        .expect("the compiler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

/// Runs the C program, on a processor of the emulator if one is named; what it writes.
fn execute(
    program: &Path,
    processor: Option<&str>,
    weights: &str,
    input: &Array,
    threads: &str,
) -> Result<Vec<u8>, i32> {
    let folder = program.parent().expect("a folder");
    let [input_path, output_path, weights] = ["input.raw", "output.raw", weights].map(|name| folder.join(name));
    std::fs::write(&input_path, &input.bytes).expect("the input is written");
    let arguments = [weights.as_os_str(), input_path.as_ref(), output_path.as_ref(), threads.as_ref()];
    let output = match processor {
        Some(processor) => cross::emulate(processor, program, &arguments),
        None => Command::new(program).args(arguments).output().expect("the program starts"),
    };
    match output.status.code() {
        Some(0) => Ok(std::fs::read(output_path).expect("the output")),
        code => Err(code.unwrap_or(-1)),
    }
}

#[test]
fn a_linked_model_answers_as_its_artifact_does() {
    for (place, (model, input)) in models().into_iter().enumerate() {
        let folder = build(&model, "host", &format!("linked-host-{place}"));
        let Some(program) = compile_c("cc", &folder) else { return };
        let host = Architecture::host().expect("a host that code is emitted for");
        let inputs = std::slice::from_ref(&input);
        // The program for any processor of the architecture, which alone is linked.
        let compiled = run::compile_with(&model, host, inputs, |options| CompileOptions { linked: true, ..options });
        let artifact = compiled.expect("compiles").to_bytes().expect("an artifact");
        let expected = run::run_here(&artifact, inputs, 1).remove(0);
        for threads in ["1", "2", "3"] {
            let actual = execute(&program, None, "model.weights", &input, threads);
            assert!(actual.as_ref() == Ok(&expected), "{} on {threads} threads", model.display());
        }
        let mut weights = std::fs::read(folder.join("model.weights")).expect("weights");
        weights[12] ^= 1;
        std::fs::write(folder.join("other.weights"), weights).expect("written");
        assert_eq!(execute(&program, None, "other.weights", &input, "1"), Err(1));
    }
}

#[test]
fn a_linked_model_runs_on_aarch64_without_a_runtime() {
    if !cross::has_emulator() {
        return;
    }
    for (place, (model, input)) in models().into_iter().enumerate() {
        let folder = build(&model, "aarch64-unknown-linux-gnu", &format!("linked-aarch64-{place}"));
        let Some(program) = compile_c("aarch64-linux-gnu-gcc", &folder) else { return };
        let alone = execute(&program, Some("cortex-a72"), "model.weights", &input, "1").expect("runs");
        for (processor, threads) in [("cortex-a72", "2"), ("max", "1"), ("max", "3")] {
            let actual = execute(&program, Some(processor), "model.weights", &input, threads);
            assert!(actual.as_ref() == Ok(&alone), "{} on {processor}, {threads} threads", model.display());
        }
        let host = Architecture::host().expect("a host that code is emitted for");
        let inputs = std::slice::from_ref(&input);
        let artifact = run::compile_for(&model, host, inputs).expect("compiles").to_bytes().expect("an artifact");
        let expected = run::run_here(&artifact, inputs, 1).remove(0);
        let reference = Array { extents: vec![expected.len() / 4], bytes: expected, ..input.clone() };
        let agreement = run::agree(&alone, &reference, None, edgecc_device::agreement::Bound::FLOAT);
        assert!(agreement.cosine > 0.999_999, "{agreement:?}");
    }
}

#[test]
fn a_linked_model_and_the_runtime_agree_to_the_bit_on_aarch64() {
    let Some(runtime) = cross::device_program() else { return };
    for (place, (model, input)) in models().into_iter().enumerate() {
        let folder = build(&model, "aarch64-unknown-linux-gnu", &format!("linked-and-loaded-{place}"));
        let Some(program) = compile_c("aarch64-linux-gnu-gcc", &folder) else { return };
        let [artifact, given, answer] = ["model.bin", "input.npz", "output.npz"].map(|name| folder.join(name));
        let compiled = run::compile_for(&model, Architecture::Aarch64, std::slice::from_ref(&input)).expect("compiles");
        std::fs::write(&artifact, compiled.to_bytes().expect("an artifact")).expect("the artifact is written");
        write_npz(&given, &[(compiled.best.program.inputs[0].name.clone(), input.clone())])
            .expect("the input is written");
        let arguments = [
            "run".as_ref(),
            artifact.as_os_str(),
            "--input".as_ref(),
            given.as_ref(),
            "--output".as_ref(),
            answer.as_ref(),
        ];
        let ran = cross::emulate("cortex-a72", &runtime, &arguments);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let expected = read_npz(&answer).expect("an answer").remove(0).1.bytes;
        for threads in ["1", "3"] {
            let actual = execute(&program, Some("cortex-a72"), "model.weights", &input, threads);
            assert!(actual.as_ref() == Ok(&expected), "{} on {threads} threads", model.display());
        }
    }
}

#[test]
fn the_header_is_one_for_cpp_too() {
    let [(model, _), _] = models();
    let folder = build(&model, "host", "linked-cpp");
    if Command::new("c++").arg("--version").output().is_err() {
        skipped("no c++ for the header of a linked model");
        return;
    }
    let output = Command::new("c++")
        .args(["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", "c++"])
        .arg(folder.join("model.h"))
        .output()
        .expect("the compiler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let header = std::fs::read_to_string(folder.join("model.h")).expect("the header");
    assert!(header.contains("extern \"C\""));
    assert!(
        header.contains("/* input 0: image, f32[1x1x8x8], dense row-major, at a multiple of 4 bytes */"),
        "{header}"
    );
}

#[test]
fn an_object_does_not_take_the_names_of_its_neighbours() {
    let [(model, _), _] = models();
    let folder = python::generated("linked-names");
    for name in ["model.h", "model.weights", "model.H"] {
        let path = folder.join(name);
        let arguments = [model.as_os_str(), "--emit".as_ref(), "obj".as_ref(), "-o".as_ref(), path.as_ref()];
        assert_eq!(binary::run(&arguments).status.code(), Some(2), "{name}");
    }
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0);
}

#[test]
fn an_object_whose_header_cannot_be_written_is_not_written_either() {
    let [(model, _), _] = models();
    let folder = python::generated("linked-halfway");
    std::fs::create_dir_all(folder.join("model.h")).expect("a folder in the header's place");
    let path = folder.join("model.o");
    let arguments = [model.as_os_str(), "--emit".as_ref(), "obj".as_ref(), "-o".as_ref(), path.as_ref()];
    assert_eq!(binary::run(&arguments).status.code(), Some(4));
    let names = std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["model.h"]);
}

/// Undefined symbols and relocations of an object; both are to be none.
fn open_ends(object: &object::File<'_>) -> Vec<String> {
    let undefined = object.symbols().filter(|symbol| symbol.is_undefined() && symbol.name() != Ok(""));
    let relocated = object.sections().filter(|section| section.relocations().next().is_some());
    let mut found: Vec<String> = undefined.map(|symbol| format!("symbol {:?}", symbol.name())).collect();
    found.extend(relocated.map(|section| format!("relocations in {:?}", section.name())));
    found
}

/// The linker that comes with Rust.
fn linker(flavor: &str) -> Option<Command> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim()).join("lib/rustlib");
    let hosts = std::fs::read_dir(libraries).ok()?.flatten().map(|entry| entry.path().join("bin/rust-lld"));
    let Some(found) = hosts.into_iter().find(|path| path.exists()) else {
        skipped("no rust-lld to link for other systems");
        return None;
    };
    let mut command = Command::new(found);
    command.args(["-flavor", flavor]);
    Some(command)
}

fn links(mut command: Command) {
    let output = command.output().expect("the linker starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_object_for_android_links_into_a_library_of_16_kib_pages() {
    let [(model, _), _] = models();
    let folder = build(&model, "aarch64-linux-android", "linked-android");
    let bytes = std::fs::read(folder.join("model.o")).expect("the object");
    assert_eq!(open_ends(&object::File::parse(&*bytes).expect("ELF")), Vec::<String>::new());
    let Some(mut command) = linker("gnu") else { return };
    let library = folder.join("libmodel.so");
    command.args(["-shared", "-z", "max-page-size=16384", "-z", "text", "-z", "defs", "-o"]);
    command.args([&library, &folder.join("model.o")]);
    links(command);
    let bytes = std::fs::read(&library).expect("the library");
    let file = object::read::elf::ElfFile64::<object::Endianness>::parse(&*bytes).expect("ELF");
    let exported: Vec<_> = file.dynamic_symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(exported.contains(&"model_run") && exported.contains(&"model_arena_size"), "{exported:?}");
    use object::read::elf::ProgramHeader;
    let loads = file.elf_program_headers().iter().filter(|header| header.p_type(file.endian()) == object::elf::PT_LOAD);
    let alignments: Vec<u64> = loads.map(|header| header.p_align(file.endian())).collect();
    assert!(!alignments.is_empty() && alignments.iter().all(|&alignment| alignment == 16384), "{alignments:?}");
    assert!(file.section_by_name(".rela.dyn").is_none(), "relocations that the loader must write");
}

#[test]
fn objects_for_apple_systems_have_their_names_and_platforms() {
    let [(model, _), _] = models();
    let systems = [
        ("aarch64-apple-ios", object::macho::PLATFORM_IOS, "ios"),
        ("aarch64-apple-ios-sim", object::macho::PLATFORM_IOSSIMULATOR, "ios-simulator"),
        ("aarch64-apple-darwin", object::macho::PLATFORM_MACOS, "macos"),
    ];
    for (target, platform, name) in systems {
        let folder = build(&model, target, &format!("linked-{name}"));
        let bytes = std::fs::read(folder.join("model.o")).expect("the object");
        let file = object::read::macho::MachOFile64::<object::Endianness>::parse(&*bytes).expect("Mach-O");
        let mut commands = file.macho_load_commands().expect("load commands");
        let mut versions = Vec::new();
        while let Some(command) = commands.next().expect("a load command") {
            versions
                .extend(command.build_version().expect("a version").map(|version| version.platform.get(file.endian())));
        }
        assert_eq!(versions, [platform], "{target}");
        let file = object::File::parse(&*bytes).expect("Mach-O");
        let names: Vec<_> =
            file.symbols().filter(|symbol| symbol.is_global()).filter_map(|symbol| symbol.name().ok()).collect();
        assert!(names.contains(&"_model_run") && names.contains(&"_model_arena_size"), "{names:?}");
        assert_eq!(open_ends(&file), Vec::<String>::new());
        let Some(mut command) = linker("darwin") else { continue };
        command.args(["-arch", "arm64", "-platform_version", name, "14.0", "14.0", "-dylib", "-o"]);
        command.args([folder.join("libmodel.dylib"), folder.join("model.o")]);
        links(command);
    }
}

#[test]
fn two_objects_of_a_model_are_equal() {
    let [_, (model, _)] = models();
    let read = |folder: &str| {
        let folder = build(&model, "aarch64-linux-android", folder);
        ["model.o", "model.h", "model.weights"].map(|name| std::fs::read(folder.join(name)).expect("a file"))
    };
    assert!(read("linked-once") == read("linked-twice"));
}

#[test]
fn texts_of_kernels_are_written() {
    let [(model, _), _] = models();
    let text = |stage: &str| {
        let output = binary::run(&[
            model.as_os_str(),
            "--target".as_ref(),
            "aarch64".as_ref(),
            "--emit".as_ref(),
            stage.as_ref(),
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(text("clif").contains("function u0:0(i64, i64, i32, i32, i32) system_v {"));
    assert!(text("asm").contains("fmla v"));
    assert!(text("header").contains("int digits_run(const void *weights"));
}
