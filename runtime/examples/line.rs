//! Takes part in measurements of several runtimes side by side:
//!
//! `line ARTIFACT INPUT.f32 OUTPUT.f32 SHAPE THREADS [fixed] [least]`
//!
//! Loads the artifact, runs it once on the input (raw little-endian f32), writes the first output and prints
//! `load SECONDS`, the time from the load to the first answer. Then it runs once for every line of standard input and
//! prints the seconds of each. On aarch64 every such run stands between two `orr x27, x27, x27`, by which a plugin of
//! the emulator counts its instructions. With `fixed`, every thread computes its own share of a step and nothing else;
//! with `least`, the program for the least able processors runs.
#![allow(unsafe_code)]

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use edgecc_runtime::sharing::Sharing;
use edgecc_runtime::{LoadOptions, Model, Pool, PoolOptions, Port, ProgramChoice};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [artifact, input, output, shape, threads, rest @ ..] = arguments.as_slice() else {
        return Err("usage: line ARTIFACT INPUT.f32 OUTPUT.f32 SHAPE THREADS [fixed] [least]".into());
    };
    let has = |word: &str| rest.iter().any(|other| other == word);
    let sharing = if has("fixed") { Sharing::Fixed } else { Sharing::Stealing };
    let program = if has("least") { ProgramChoice::LeastAble } else { ProgramChoice::MostAble };
    let (input, threads) = (std::fs::read(input)?, threads.parse()?);
    let start = Instant::now();
    // SAFETY: whoever measures an artifact has made it, and does not change it meanwhile.
    let model = unsafe { Model::open(artifact, LoadOptions { program, ..LoadOptions::default() }) }?;
    let port = model.inputs().first().ok_or("the model has no input")?;
    check_shape(port, shape)?;
    let mut session = model.session_in(&Pool::new(PoolOptions { threads, sharing })?)?;
    session.set_input(&port.name, &input)?;
    session.run()?;
    println!("load {:.6}", start.elapsed().as_secs_f64());
    std::fs::write(output, session.output(0))?;
    for line in stdin().lock().lines() {
        line?;
        let start = Instant::now();
        mark();
        session.run()?;
        mark();
        let seconds = start.elapsed().as_secs_f64();
        println!("{seconds:.6}");
        stdout().flush()?;
    }
    Ok(())
}

/// The shape is given for runtimes that need it; ours must be the same. Extents are separated by `x` or `,`.
fn check_shape(port: &Port, shape: &str) -> Result<(), Box<dyn Error>> {
    let given: Result<Vec<u64>, _> = shape.split(['x', ',']).map(str::parse).collect();
    if port.dims.iter().map(|dim| dim.capacity()).eq(given?) {
        Ok(())
    } else {
        Err(format!("the model takes {port}, not {shape}").into())
    }
}

#[cfg(target_arch = "aarch64")]
fn mark() {
    // SAFETY: the register keeps its value.
    unsafe { std::arch::asm!("orr x27, x27, x27", options(nostack, preserves_flags)) }
}

#[cfg(not(target_arch = "aarch64"))]
fn mark() {}
