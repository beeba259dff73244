//! What C holds by opaque pointers.

use std::ffi::{CString, c_char};

use super::status::Failure;
#[cfg(feature = "gpu")]
use crate::gpu::{GpuSession, ShaderModel};
use crate::{Buffer, CancelFlag, Model, Pool, Port, Session};

/// `edgecc_model`: a loaded model and its ports as C reads them.
pub struct ModelHandle {
    /// The program for this processor; none of an artifact that has shaders alone for this machine.
    pub(super) processor: Option<Model>,
    #[cfg(feature = "gpu")]
    pub(super) shaders: Option<ShaderModel>,
    pub(super) inputs: Vec<PortText>,
    pub(super) outputs: Vec<PortText>,
    pub(super) labels: Vec<CString>,
}

/// `edgecc_pool`: threads for sessions.
pub struct PoolHandle {
    pub(super) pool: Pool,
}

/// `edgecc_session`: a session and the flag that may be raised while it runs.
pub struct SessionHandle {
    pub(super) runner: Runner,
    pub(super) cancel: CancelFlag,
}

/// What runs a session.
pub(super) enum Runner {
    Processor(Box<Session>),
    /// With the adapter's name.
    #[cfg(feature = "gpu")]
    Gpu(Box<GpuSession>, CString),
}

/// `edgecc_port`: an input or output, valid as long as its model.
#[repr(C)]
pub struct PortInfo {
    /// UTF-8, ends with a zero byte.
    pub name: *const c_char,
    /// An `EDGECC_F32` or other constant.
    pub element_type: u32,
    /// Number of dimensions.
    pub rank: u32,
    /// Outermost dimension first; the bound where an extent is known at run time.
    pub dims: *const u64,
    /// Bytes of the dense row-major tensor.
    pub bytes: usize,
}

/// What a [`PortInfo`] points to.
pub(super) struct PortText {
    pub(super) name: CString,
    pub(super) element_type: u32,
    pub(super) dims: Vec<u64>,
    pub(super) bytes: usize,
}

impl ModelHandle {
    pub(super) fn of_processor(model: Model) -> Result<ModelHandle, Failure> {
        let ports = ModelHandle::of_ports(model.inputs(), model.outputs(), model.labels())?;
        Ok(ModelHandle { processor: Some(model), ..ports })
    }

    /// No program yet, but what all programs have in common.
    pub(super) fn of_ports(inputs: &[Port], outputs: &[Port], labels: &[String]) -> Result<ModelHandle, Failure> {
        let ports = |ports: &[Port]| ports.iter().map(PortText::new).collect::<Result<_, _>>();
        Ok(ModelHandle {
            processor: None,
            #[cfg(feature = "gpu")]
            shaders: None,
            inputs: ports(inputs)?,
            outputs: ports(outputs)?,
            labels: labels.iter().map(|label| text(label)).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn processor(&self) -> Result<&Model, Failure> {
        self.processor.as_ref().ok_or(Failure::ShadersAlone)
    }
}

impl SessionHandle {
    pub(super) fn on_processor(session: Session) -> SessionHandle {
        SessionHandle { cancel: session.cancel_flag(), runner: Runner::Processor(Box::new(session)) }
    }
}

impl Runner {
    /// # Safety
    /// Every buffer is valid for its bytes until the call returns: inputs for reads, outputs for reads and writes by this
    /// call alone.
    #[allow(unsafe_code)]
    pub(super) unsafe fn run(
        &mut self,
        inputs: &[Buffer],
        outputs: &[Buffer],
        #[allow(unused_variables)] cancel: &CancelFlag,
    ) -> Result<(), Failure> {
        match self {
            // SAFETY: as the caller says.
            Runner::Processor(session) => Ok(unsafe { session.run_on(inputs, outputs) }?),
            #[cfg(feature = "gpu")]
            // SAFETY: as the caller says.
            Runner::Gpu(session, _) => unsafe { super::gpu::run(session, inputs, outputs, cancel) },
        }
    }

    pub(super) fn reset_state(&mut self) {
        match self {
            Runner::Processor(session) => session.reset_state(),
            // Programs of shaders have no state.
            #[cfg(feature = "gpu")]
            Runner::Gpu(..) => {}
        }
    }
}

impl PortText {
    fn new(port: &Port) -> Result<PortText, Failure> {
        Ok(PortText {
            name: text(&port.name)?,
            element_type: port.element_type as u32,
            dims: port.dims.iter().map(|dim| dim.capacity()).collect(),
            bytes: port.bytes().unwrap_or(0) as usize,
        })
    }
}

pub(super) fn text(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure::NotText)
}
