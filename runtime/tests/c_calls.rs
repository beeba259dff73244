//! The C functions, called as C calls them.
#![allow(unsafe_code)]

mod support;

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use edgecc_runtime::Buffer;
use edgecc_runtime::capi::*;
use support::{OFFSET, artifact, to_bytes, to_floats, weight};

const ELEMENTS: u64 = 20;

fn last_error() -> String {
    // SAFETY: the text lives until this thread's next failure.
    unsafe { CStr::from_ptr(edgecc_last_error()) }.to_string_lossy().into_owned()
}

fn model() -> *mut ModelHandle {
    let bytes = artifact(ELEMENTS);
    let mut model = null_mut();
    // SAFETY: the code is that of the tests' kernels.
    let status = unsafe { edgecc_model_from_bytes(bytes.as_ptr().cast(), bytes.len(), 0, &mut model) };
    assert_eq!(status, Status::Ok, "{}", last_error());
    model
}

fn buffer(bytes: &mut [u8]) -> Buffer {
    Buffer { data: bytes.as_mut_ptr(), bytes: bytes.len() }
}

#[test]
fn a_session_outlives_its_model_and_runs_on_the_callers_memory() {
    let model = model();
    let mut session = null_mut();
    let mut input = to_bytes((0..ELEMENTS).map(|index| index as f32));
    let (mut y, mut runs) = (vec![0u8; 80], vec![0u8; 80]);
    let (inputs, outputs) = ([buffer(&mut input)], [buffer(&mut y), buffer(&mut runs)]);
    // SAFETY: handles and buffers are those of this test.
    unsafe {
        assert_eq!(edgecc_session_create(model, 2, &mut session), Status::Ok);
        edgecc_model_free(model);
        assert_eq!(edgecc_session_run(session, inputs.as_ptr(), 1, outputs.as_ptr(), 2), Status::Ok);
        edgecc_session_cancel(session, true);
        assert_eq!(edgecc_session_run(session, inputs.as_ptr(), 1, outputs.as_ptr(), 2), Status::Cancelled);
        assert_eq!(last_error(), "the run was cancelled before step `add_0`");
        edgecc_session_cancel(session, false);
        edgecc_session_reset_state(session);
        assert_eq!(edgecc_session_run(session, inputs.as_ptr(), 1, outputs.as_ptr(), 2), Status::Ok);
        edgecc_session_free(session);
    }
    let expected: Vec<f32> =
        (0..ELEMENTS).map(|index| (index as f32 + weight(index)).powi(2) + OFFSET as f32).collect();
    assert_eq!(to_floats(&y), expected);
    assert_eq!(runs, 1u32.to_ne_bytes().repeat(20));
}

#[test]
fn sessions_share_a_pool_that_they_outlive() {
    let model = model();
    let (mut pool, mut sessions) = (null_mut(), [null_mut(); 2]);
    let mut input = to_bytes((0..ELEMENTS).map(|index| index as f32));
    let (mut y, mut runs) = (vec![0u8; 80], vec![0u8; 80]);
    let (inputs, outputs) = ([buffer(&mut input)], [buffer(&mut y), buffer(&mut runs)]);
    // SAFETY: handles and buffers are those of this test.
    unsafe {
        assert_eq!(edgecc_pool_create(0, &mut pool), Status::InvalidArgument);
        assert_eq!(edgecc_pool_create(edgecc_big_cores().max(2), &mut pool), Status::Ok, "{}", last_error());
        for session in &mut sessions {
            assert_eq!(edgecc_session_create_in(model, pool, session), Status::Ok, "{}", last_error());
        }
        assert_eq!(edgecc_session_create_in(model, null(), &mut null_mut()), Status::InvalidArgument);
        assert_eq!(last_error(), "`pool` is null");
        edgecc_pool_free(pool);
        edgecc_pool_free(null_mut());
        for session in sessions {
            assert_eq!(edgecc_session_run(session, inputs.as_ptr(), 1, outputs.as_ptr(), 2), Status::Ok);
            assert_eq!(runs, 1u32.to_ne_bytes().repeat(20), "each has a state of its own");
            edgecc_session_free(session);
        }
        edgecc_model_free(model);
    }
}

#[test]
fn ports_and_labels_are_described() {
    let model = model();
    let mut port = PortInfo { name: null(), element_type: 0, rank: 0, dims: null(), bytes: 0 };
    // SAFETY: the handle is alive until it is freed.
    unsafe {
        assert_eq!((edgecc_model_input_count(model), edgecc_model_output_count(model)), (1, 2));
        assert_eq!(edgecc_model_output(model, 1, &mut port), Status::Ok);
        assert_eq!(CStr::from_ptr(port.name), c"runs");
        assert_eq!((port.element_type, port.rank, port.bytes), (6, 2, 80));
        assert_eq!(std::slice::from_raw_parts(port.dims, 2), [1, 20]);
        assert_eq!(CStr::from_ptr(edgecc_model_label(model, 1)), c"second");
        assert!(edgecc_model_label(model, 2).is_null());
        assert_eq!(edgecc_model_input(model, 1, &mut port), Status::InvalidArgument);
        assert_eq!(last_error(), "there is no number 1");
        edgecc_model_free(model);
    }
}

#[test]
fn null_pointers_and_wrong_numbers_are_refused() {
    let model = model();
    let mut session = null_mut();
    // SAFETY: null is what is tested; the rest is this test's.
    unsafe {
        assert_eq!(edgecc_model_open(null(), 0, null_mut()), Status::InvalidArgument);
        assert_eq!(last_error(), "`path` is null");
        assert_eq!(edgecc_model_open(c"x".as_ptr(), 8, &mut null_mut()), Status::InvalidArgument);
        assert_eq!(edgecc_model_input_count(null()), 0);
        assert_eq!(edgecc_session_create(null(), 1, &mut session), Status::InvalidArgument);
        assert_eq!(edgecc_session_create(model, 0, &mut session), Status::InvalidArgument);
        assert_eq!(edgecc_session_create(model, 1, &mut session), Status::Ok);
        assert_eq!(edgecc_session_run(null_mut(), null(), 0, null(), 0), Status::InvalidArgument);
        assert_eq!(edgecc_session_run(session, null(), 1, null(), 2), Status::InvalidArgument);
        let empty = [Buffer { data: null_mut(), bytes: 80 }; 2];
        assert_eq!(edgecc_session_run(session, empty.as_ptr(), 1, empty.as_ptr(), 2), Status::InvalidArgument);
        assert_eq!(last_error(), "`data of a buffer` is null");
        edgecc_session_free(session);
        edgecc_session_free(null_mut());
        edgecc_model_free(model);
        edgecc_model_free(null_mut());
    }
}
