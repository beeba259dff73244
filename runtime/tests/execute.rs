//! Loads and runs a small model of hand-made kernels.
#![allow(unsafe_code)]

mod support;

use edgecc_runtime::sharing::Sharing;
use edgecc_runtime::{
    ElementType, FormatError, LoadError, LoadOptions, Model, Pool, PoolOptions, ProgramChoice, RunError, Session,
    SessionError, SessionOptions, Verify,
};
use support::{OFFSET, TemporaryFile, artifact, to_bytes, to_floats, weight};

const FULL: LoadOptions = LoadOptions { verify: Verify::Full, program: ProgramChoice::MostAble };

fn load(bytes: &[u8]) -> Result<Model, LoadError> {
    // SAFETY: the code is that of the tests' kernels.
    unsafe { Model::from_bytes(bytes, FULL) }
}

fn session(elements: u64, threads: usize) -> Session {
    load(&artifact(elements)).expect("loads").session(SessionOptions { threads }).expect("starts")
}

fn input(index: u64) -> f32 {
    (index % 17) as f32
}

fn expected(elements: u64) -> Vec<f32> {
    (0..elements).map(|index| (input(index) + weight(index)).powi(2) + OFFSET as f32).collect()
}

fn assert_send_sync<T: Send + Sync>() {}
fn assert_send<T: Send>() {}

#[test]
fn models_are_shared_and_sessions_move_between_threads() {
    assert_send_sync::<Model>();
    assert_send::<Session>();
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for elements in [1, 7, 8, 100, 4099] {
        for threads in [1, 2, 4, 7] {
            let mut session = session(elements, threads);
            session.set_input("x", &to_bytes((0..elements).map(input))).expect("fits");
            for run in 1..=20u32 {
                session.run().expect("runs");
                assert_eq!(to_floats(session.output(0)), expected(elements), "{elements} elements, {threads} threads");
                let runs = run.to_ne_bytes().repeat(elements as usize);
                assert_eq!(session.output(1), runs, "{elements} elements, {threads} threads, run {run}");
            }
        }
    }
}

#[test]
fn a_mapped_file_runs_like_its_bytes() {
    let file = TemporaryFile::new("mapped.bin", &artifact(50));
    // SAFETY: the code is that of the tests' kernels, and the file stays as it is.
    let model = unsafe { Model::open(&file.0, FULL) }.expect("loads");
    let mut session = model.session(SessionOptions::default()).expect("starts");
    drop(model);
    session.input_mut(0).copy_from_slice(&to_bytes((0..50).map(input)));
    session.run().expect("runs");
    assert_eq!(to_floats(session.output_by_name("y").expect("exists")), expected(50));
}

#[test]
fn a_run_may_use_the_callers_memory_at_any_address() {
    let mut session = session(40, 2);
    let mut bytes = vec![0; 1];
    bytes.extend(to_bytes((0..40).map(input)));
    let (mut y, mut runs) = (vec![0u8; 161], vec![0u8; 160]);
    session.run_with(&[&bytes[1..]], &mut [&mut y[1..], &mut runs]).expect("runs");
    assert_eq!(to_floats(&y[1..]), expected(40));
    assert_eq!(runs, 1u32.to_ne_bytes().repeat(40));
    assert!(to_floats(session.output(0)).iter().all(|&value| value == 0.0), "the session's own outputs are untouched");
}

#[test]
fn sessions_of_one_model_run_at_the_same_time() {
    let model = load(&artifact(300)).expect("loads");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut session = model.session(SessionOptions { threads: 2 }).expect("starts");
            scope.spawn(move || {
                session.set_input("x", &to_bytes((0..300).map(input))).expect("fits");
                for _ in 0..50 {
                    session.run().expect("runs");
                    assert_eq!(to_floats(session.output(0)), expected(300));
                }
            });
        }
    });
}

#[test]
fn sessions_share_a_pool() {
    for sharing in [Sharing::Stealing, Sharing::Fixed] {
        let pool = Pool::new(PoolOptions { threads: 3, sharing }).expect("starts");
        std::thread::scope(|scope| {
            for elements in [300, 301, 4099] {
                let mut session = load(&artifact(elements)).expect("loads").session_in(&pool).expect("fits");
                scope.spawn(move || {
                    session.set_input("x", &to_bytes((0..elements).map(input))).expect("fits");
                    for run in 1..=200u32 {
                        session.run().expect("runs");
                        assert_eq!(to_floats(session.output(0)), expected(elements), "{elements} elements");
                        assert_eq!(session.output(1), run.to_ne_bytes().repeat(elements as usize));
                    }
                });
            }
        });
        assert_eq!(pool.threads(), 3);
    }
}

#[test]
fn workers_that_fell_asleep_wake_up() {
    let mut session = session(5000, 3);
    session.set_input("x", &to_bytes((0..5000).map(input))).expect("fits");
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        session.run().expect("runs");
        assert_eq!(to_floats(session.output(0)), expected(5000));
    }
}

#[test]
fn state_persists_until_it_is_reset() {
    let mut session = session(3, 1);
    for run in [1u32, 2] {
        session.run().expect("runs");
        assert_eq!(session.output(1), run.to_ne_bytes().repeat(3));
    }
    session.reset_state();
    session.run().expect("runs");
    assert_eq!(session.output(1), 1u32.to_ne_bytes().repeat(3));
}

#[test]
fn a_raised_flag_cancels_until_it_is_lowered() {
    let mut session = session(3, 1);
    session.cancel_flag().raise();
    let error = session.run().expect_err("cancelled");
    assert!(matches!(&error, RunError::Cancelled { step } if step == "add_0"), "{error}");
    session.cancel_flag().lower();
    session.run().expect("runs");
}

#[test]
fn a_profile_has_every_step_once() {
    let mut session = session(1000, 2);
    let mut steps = Vec::new();
    session.run_profiled(|step, _nanoseconds| steps.push(step)).expect("runs");
    assert_eq!(steps, [0, 1, 2]);
}

#[test]
fn the_manifest_tells_inputs_outputs_and_labels() {
    let model = load(&artifact(5)).expect("loads");
    let ports: Vec<String> = model.inputs().iter().chain(model.outputs()).map(ToString::to_string).collect();
    assert_eq!(ports, ["x: f32[1x5]", "y: f32[1x5]", "runs: u32[1x5]"]);
    assert_eq!(model.labels(), ["first", "second"]);
}

#[test]
fn wrong_names_sizes_types_and_numbers_are_named() {
    let mut session = session(5, 1);
    let text = |result: Result<(), RunError>| result.expect_err("refused").to_string();
    assert_eq!(text(session.set_input("z", &[])), "the model has no input `z`; it has x: f32[1x5]");
    assert_eq!(text(session.set_input("x", &[0; 8])), "input `x: f32[1x5]` has 20 bytes; 8 were given");
    assert_eq!(
        text(session.set_tensor("x", ElementType::I32, &[1, 5], &[0; 20])),
        "input `x: f32[1x5]` cannot take a tensor i32[1x5]"
    );
    assert_eq!(
        text(session.set_tensor("x", ElementType::F32, &[5], &[0; 20])),
        "input `x: f32[1x5]` cannot take a tensor f32[5]"
    );
    session.set_tensor("x", ElementType::F32, &[1, 5], &[0; 20]).expect("fits");
    assert_eq!(text(session.run_with(&[], &mut [])), "the model has 1 inputs; 0 is not possible");
    let outputs = &mut [&mut [0u8; 20][..], &mut [0u8; 19]];
    assert_eq!(text(session.run_with(&[&[0; 20]], outputs)), "output `runs: u32[1x5]` has 20 bytes; 19 were given");
    assert!(session.input_mut(1).is_empty() && session.output(2).is_empty());
}

#[test]
fn each_way_to_fail_a_load_has_its_own_error() {
    let bytes = artifact(5);
    let damaged = |index: usize| {
        let mut bytes = bytes.clone();
        bytes[index] ^= 1;
        load(&bytes).expect_err("damaged")
    };
    assert!(matches!(damaged(0), LoadError::Format(FormatError::NotAnArtifact)));
    assert!(matches!(damaged(8), LoadError::Format(FormatError::Version { .. })));
    assert!(matches!(damaged(2 * 16384), LoadError::Format(FormatError::Corrupt)));
    assert!(matches!(damaged(3 * 16384), LoadError::Format(FormatError::WeightsCorrupt)));
    let truncated = load(&bytes[..bytes.len() - 1]).expect_err("truncated");
    assert!(matches!(truncated, LoadError::Format(FormatError::Truncated { .. })));
    // SAFETY: nothing there is executed.
    let open = |path: &std::path::Path| unsafe { Model::open(path, FULL) }.expect_err("no artifact");
    assert!(matches!(open(std::path::Path::new("/nonexistent")), LoadError::Io { .. }));
    assert!(matches!(open(std::path::Path::new("/")), LoadError::Io { .. } | LoadError::Format(_)));
    let empty = TemporaryFile::new("empty.bin", &[]);
    assert!(matches!(open(&empty.0), LoadError::Format(FormatError::NotAnArtifact)));
}

#[test]
fn other_processors_are_refused() {
    let of = |change: &dyn Fn(&mut edgecc_format::Program)| {
        let mut manifest = support::manifest(5);
        change(&mut manifest.programs[0]);
        load(&support::artifact_of(manifest, &support::code().0, 5, &[])).expect_err("refused")
    };
    let error = of(&|program| program.required_features = vec!["telepathy".into()]);
    assert!(matches!(&error, LoadError::Features { missing } if missing == "telepathy"), "{error}");
    let error = of(&|program| program.architecture = "riscv64".into());
    assert!(matches!(&error, LoadError::Architecture { found, .. } if found.starts_with("riscv64")), "{error}");
    let error = of(&|program| program.abi = "other".into());
    assert!(matches!(error, LoadError::Architecture { .. }), "{error}");
}

#[test]
fn absurd_sessions_are_refused() {
    let model = load(&artifact(5)).expect("loads");
    for threads in [0, 257] {
        let error = model.session(SessionOptions { threads }).expect_err("refused");
        assert!(matches!(error, SessionError::ThreadCount { .. }), "{error}");
    }
    let refused = |change: &dyn Fn(&mut edgecc_format::Program)| {
        let mut manifest = support::manifest(5);
        change(&mut manifest.programs[0]);
        let model = load(&support::artifact_of(manifest, &support::code().0, 5, &[])).expect("loads");
        let error = model.session(SessionOptions { threads: 4 }).expect_err("refused");
        assert!(matches!(error, SessionError::Memory { .. }), "{error}");
    };
    refused(&|program| program.arena_bytes = u64::MAX);
    refused(&|program| program.state_bytes = 1 << 60);
    refused(&|program| program.scratch_bytes_per_worker = u64::MAX - 5);
}
