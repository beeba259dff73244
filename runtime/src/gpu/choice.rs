//! The processor or the GPU, whichever answers sooner.

use std::time::{Duration, Instant};

use super::error::GpuError;
use super::session::GpuSession;
use crate::error::RunError;
use crate::session::Session;

/// A session on this machine's processor or on a GPU.
#[derive(Debug)]
pub enum AnySession {
    /// On the processor.
    Cpu(Box<Session>),
    /// On the GPU.
    Gpu(Box<GpuSession>),
}

/// What was timed, and the session that was faster.
#[derive(Debug)]
pub struct Fastest {
    /// The faster session.
    pub session: AnySession,
    /// A run on the processor.
    pub cpu: Duration,
    /// A run on the GPU, or why there is none.
    pub gpu: Result<Duration, GpuError>,
}

/// Times one run of each, on whatever the inputs hold, behind one that counts for nothing: the GPU's with upload and read-back.
/// What persists from run to run is set back. A GPU that fails is no choice, and the result tells why.
pub fn fastest(mut cpu: Session, gpu: Result<GpuSession, GpuError>) -> Result<Fastest, RunError> {
    let on_cpu = time(&mut || cpu.run())?;
    cpu.reset_state();
    let timed = gpu.and_then(|mut session| {
        let on_gpu = time(&mut || session.run())?;
        Ok((session, on_gpu))
    });
    Ok(match timed {
        Ok((session, on_gpu)) if on_gpu < on_cpu => {
            Fastest { session: AnySession::Gpu(Box::new(session)), cpu: on_cpu, gpu: Ok(on_gpu) }
        }
        Ok((_, on_gpu)) => Fastest { session: AnySession::Cpu(Box::new(cpu)), cpu: on_cpu, gpu: Ok(on_gpu) },
        Err(error) => Fastest { session: AnySession::Cpu(Box::new(cpu)), cpu: on_cpu, gpu: Err(error) },
    })
}

fn time<E>(run: &mut dyn FnMut() -> Result<(), E>) -> Result<Duration, E> {
    run()?;
    let start = Instant::now();
    run()?;
    Ok(start.elapsed())
}
