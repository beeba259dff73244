//! Times a network on one thread and on several, in turns, and compares the shortest runs:
//!
//! `cargo run --release -p edgecc-tests --example scaling -- MODEL.onnx [THREADS [ROUNDS]]`
#![allow(unsafe_code)]

use std::path::Path;
use std::time::Instant;

use edgecc_backends::cpu::isa::Architecture;
use edgecc_runtime::{LoadOptions, Model, Session, SessionOptions};
use edgecc_tests::run;

/// Runs of one turn: the first finds another core's caches.
const RUNS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(model) = arguments.first() else {
        eprintln!("usage: scaling MODEL.onnx [THREADS [ROUNDS]]");
        std::process::exit(2);
    };
    let number = |place: usize, default| arguments.get(place).map_or(default, |text| text.parse().expect("a number"));
    let (threads, rounds) = (number(1, 2), number(2, 20));
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = run::compile_for(Path::new(model), host, &[]).expect("the model compiles");
    let artifact = compiled.to_bytes().expect("an artifact");
    // SAFETY: the bytes come from the compiler in this process.
    let model = unsafe { Model::from_bytes(&artifact, LoadOptions::default()) }.expect("an artifact of this machine");
    let mut sessions = [1, threads].map(|threads| model.session(SessionOptions { threads }).expect("a session"));
    let mut times = [f64::INFINITY; 2];
    for _ in 0..rounds {
        for (session, time) in sessions.iter_mut().zip(&mut times) {
            *time = (0..RUNS).map(|_| milliseconds(session)).fold(*time, f64::min);
        }
    }
    let [alone, together] = times;
    println!("1 thread {alone:.3} ms, {threads} threads {together:.3} ms: {:.2} times as fast", alone / together);
}

fn milliseconds(session: &mut Session) -> f64 {
    let start = Instant::now();
    session.run().expect("a run");
    start.elapsed().as_secs_f64() * 1e3
}
