//! Artifacts written and read back; every kind of damage and every reference out of bounds is refused.

use edgecc_format::{
    ABI_SYSTEM_V, ABI_WEBGPU, ARCHITECTURE_WGSL, Access, BufferKind, BufferRef, Call, ConstantPool, Contents, Dim,
    ElementType, FormatError, Kernel, MAJOR, Manifest, Port, Program, Step, WriteError, decode_manifest, read,
    step::Action, verify_weights,
};

const CODE: [u8; 48] = [0xc3; 48];

fn port(name: &str, dims: &[u64]) -> Port {
    let dims = dims.iter().map(|&value| Dim::fixed(value)).collect();
    Port { name: name.into(), element_type: ElementType::F32 as i32, dims }
}

fn buffer(kind: BufferKind, offset: u64, length: u64, access: Access) -> BufferRef {
    BufferRef { kind: kind as i32, index: 0, offset, length, access: access as i32 }
}

/// One input of 6 f32, one output of 6 f32, 128 bytes of arena, one step.
fn manifest() -> Manifest {
    let call = Call {
        kernel: 1,
        buffers: vec![
            buffer(BufferKind::Input, 0, 24, Access::Read),
            buffer(BufferKind::Weights, 64, 24, Access::Read),
            buffer(BufferKind::Arena, 64, 64, Access::ReadWrite),
            buffer(BufferKind::Output, 0, 24, Access::Write),
        ],
        args: vec![7, 9],
        range: 6,
        grain: 2,
        name: "add".into(),
        origins: vec!["Add_0".into()],
        macs: 6,
        bytes: 72,
        groups: Vec::new(),
    };
    let program = Program {
        architecture: "x86_64".into(),
        abi: ABI_SYSTEM_V.into(),
        required_features: vec!["fma".into()],
        rank: 1,
        arena_bytes: 128,
        kernels: vec![
            Kernel { name: "first".into(), offset: 0, length: 16, encoded: false, bounded: false },
            Kernel { name: "second".into(), offset: 32, length: 16, encoded: false, bounded: false },
        ],
        steps: vec![Step { action: Some(Action::Call(call)) }],
        ..Program::default()
    };
    Manifest {
        producer: "test 1".into(),
        model_name: "tiny".into(),
        inputs: vec![port("x", &[1, 2, 3])],
        outputs: vec![port("y", &[6])],
        labels: vec!["cat".into()],
        programs: vec![program],
        ..Manifest::default()
    }
}

fn try_write(manifest: Manifest) -> Result<Vec<u8>, WriteError> {
    let mut pool = ConstantPool::new();
    pool.add(vec![1u8; 24]);
    pool.add(vec![2u8; 24]);
    let mut bytes = Vec::new();
    let written = Contents { manifest, code: vec![&CODE], weights: &pool }.write(&mut bytes)?;
    assert_eq!(written, bytes.len() as u64);
    Ok(bytes)
}

fn artifact() -> Vec<u8> {
    try_write(manifest()).expect("the contents are valid")
}

fn read_whole(bytes: &[u8]) -> Result<Manifest, FormatError> {
    let view = read(bytes)?;
    verify_weights(&view.manifest, view.weights)?;
    Ok(view.manifest)
}

/// The error that a manifest changed by `change` is refused with, by the writer.
fn refusal(change: impl FnOnce(&mut Manifest)) -> FormatError {
    let mut manifest = manifest();
    change(&mut manifest);
    match try_write(manifest) {
        Err(WriteError::Invalid(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn call(manifest: &mut Manifest) -> &mut Call {
    match &mut manifest.programs[0].steps[0].action {
        Some(Action::Call(call)) => call,
        None => panic!("the first step is a call"),
    }
}

#[test]
fn what_is_written_is_read() {
    let bytes = artifact();
    let view = read(&bytes).expect("valid");
    assert_eq!(view.code, CODE);
    assert_eq!(view.weights.len(), 88);
    assert_eq!((view.weights[0], view.weights[24], view.weights[64]), (1, 0, 2));
    assert_eq!(view.weights.as_ptr().addr() - bytes.as_ptr().addr(), 3 * 16384);
    let mut expected = manifest();
    expected.programs[0].code_length = 48;
    expected.weights_bytes = 88;
    expected.weights_hash = blake3::hash(view.weights).as_bytes().to_vec();
    expected.constants = view.manifest.constants.clone();
    assert_eq!(view.manifest, expected);
}

#[test]
fn equal_contents_give_equal_bytes() {
    assert_eq!(artifact(), artifact());
}

#[test]
fn the_pool_keeps_each_content_once() {
    let mut pool = ConstantPool::new();
    let offsets = [&[1u8; 10][..], &[2; 70], &[1; 10], &[1; 11]].map(|bytes| pool.add(bytes));
    assert_eq!(offsets, [0, 64, 0, 192]);
    assert_eq!((pool.bytes(), pool.constants().len()), (203, 3));
}

/// The manifest with its program as one of shaders.
fn shaders(manifest: &mut Manifest) {
    let program = &mut manifest.programs[0];
    (program.architecture, program.abi) = (ARCHITECTURE_WGSL.into(), ABI_WEBGPU.into());
    program.arena_bytes = 1024;
    let call = call(manifest);
    call.groups = vec![4, 1, 1];
    call.buffers[2].offset = 256;
}

#[test]
fn calls_of_shaders_keep_to_the_limits_of_webgpu() {
    let mut valid = manifest();
    shaders(&mut valid);
    try_write(valid).expect("a program of shaders");
    type Change = fn(&mut Call);
    let refused: [(Change, &str); 8] = [
        (|call| call.groups = vec![4, 1], "1 to 65535 groups"),
        (|call| call.groups[1] = 0, "1 to 65535 groups"),
        (|call| call.groups[2] = 65536, "1 to 65535 groups"),
        (|call| call.buffers = vec![call.buffers[0].clone(); 9], "at most 8 buffers"),
        (|call| call.buffers[2].offset = 64, "a multiple of 256"),
        (|call| call.buffers[1].length = 0, "is empty"),
        (|call| call.buffers[2].kind = BufferKind::Scratch as i32, "scratch"),
        (|call| call.buffers.push(buffer(BufferKind::Arena, 256, 300, Access::Read)), "binds twice"),
    ];
    for (change, what) in refused {
        let error = refusal(|manifest| {
            shaders(manifest);
            change(call(manifest));
        });
        assert!(error.to_string().contains(what), "{error}");
    }
    let error = refusal(|manifest| call(manifest).groups = vec![1, 1, 1]);
    assert!(error.to_string().contains("no shader"), "{error}");
}

#[test]
fn programs_share_one_pool_and_start_at_multiples_of_64() {
    let mut two = manifest();
    two.programs.push(two.programs[0].clone());
    let pool_bytes = [2u8; 88];
    let mut pool = ConstantPool::new();
    pool.add(&pool_bytes[..]);
    let mut bytes = Vec::new();
    Contents { manifest: two, code: vec![&CODE, &CODE], weights: &pool }.write(&mut bytes).expect("valid");
    let view = read(&bytes).expect("valid");
    let offsets: Vec<u64> = view.manifest.programs.iter().map(|program| program.code_offset).collect();
    assert_eq!((offsets, view.code.len()), (vec![0, 64], 112));
}

#[test]
fn every_flipped_bit_is_found() {
    let mut bytes = artifact();
    for index in 0..bytes.len() {
        for bit in 0..8 {
            bytes[index] ^= 1 << bit;
            assert!(read_whole(&bytes).is_err(), "bit {bit} of byte {index}");
            bytes[index] ^= 1 << bit;
        }
    }
    assert!(read_whole(&bytes).is_ok());
}

#[test]
fn every_truncation_is_found() {
    let bytes = artifact();
    for length in 1..bytes.len() {
        let error = read(&bytes[..length]).expect_err("truncated");
        assert!(matches!(error, FormatError::Truncated { .. }), "{length} bytes: {error}");
    }
    assert_eq!(read(&[]).expect_err("empty"), FormatError::NotAnArtifact);
}

#[test]
fn each_kind_of_damage_has_its_own_error() {
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = artifact();
        change(&mut bytes);
        read_whole(&bytes).expect_err("damaged")
    };
    assert_eq!(damage(&|bytes| bytes[0] = b'X'), FormatError::NotAnArtifact);
    let version = FormatError::Version { major: 2, minor: 0, expected: MAJOR };
    assert_eq!(damage(&|bytes| bytes[8] = 2), version);
    assert_eq!(damage(&|bytes| bytes.push(0)), FormatError::TrailingBytes { extra: 1 });
    assert_eq!(damage(&|bytes| bytes[40] ^= 1), FormatError::Corrupt);
    assert_eq!(damage(&|bytes| bytes[16384] ^= 1), FormatError::Corrupt);
    assert_eq!(damage(&|bytes| bytes[2 * 16384] ^= 1), FormatError::Corrupt);
    assert_eq!(damage(&|bytes| bytes[3 * 16384 - 1] = 1), FormatError::Padding { before: 3 * 16384 });
    assert_eq!(damage(&|bytes| bytes[3 * 16384] ^= 1), FormatError::WeightsCorrupt);
    for byte in [16, 64, 72, 88, 144] {
        let error = damage(&|bytes| bytes[byte] ^= 1);
        assert!(matches!(error, FormatError::SectionTable(_)), "byte {byte}: {error}");
    }
}

#[test]
fn lengths_that_overflow_are_refused() {
    let mut bytes = artifact();
    for row in [64, 96, 128] {
        bytes[row + 16..row + 24].fill(0xff);
        assert!(matches!(read(&bytes), Err(FormatError::SectionTable(_))));
    }
}

#[test]
fn references_out_of_bounds_are_refused() {
    let out_of_bounds = |change: &dyn Fn(&mut Manifest)| {
        let error = refusal(change);
        assert!(matches!(error, FormatError::OutOfBounds { .. }), "{error}");
        error.to_string()
    };
    let text = out_of_bounds(&|manifest| call(manifest).buffers[0].length = 25);
    assert!(text.ends_with("step 0 `add`: bytes 0..+25 leave the 24 bytes of the input"), "{text}");
    out_of_bounds(&|manifest| call(manifest).buffers[1].offset = 65);
    out_of_bounds(&|manifest| call(manifest).buffers[2].offset = u64::MAX);
    out_of_bounds(&|manifest| manifest.outputs[0] = port("y", &[5]));
    out_of_bounds(&|manifest| manifest.programs[0].kernels[1].length = 17);
    out_of_bounds(&|manifest| manifest.programs[0].arena_bytes = 127);
    for kind in [BufferKind::State, BufferKind::Scratch] {
        out_of_bounds(&|manifest| call(manifest).buffers[2].kind = kind as i32);
    }
}

#[test]
fn values_outside_their_range_are_refused() {
    let invalid = |change: &dyn Fn(&mut Manifest), expected: &str| {
        let text = refusal(change).to_string();
        assert!(text.contains(expected), "{text}");
    };
    invalid(&|manifest| call(manifest).kernel = 2, "a kernel that does not exist");
    invalid(&|manifest| call(manifest).grain = 0, "grain");
    invalid(&|manifest| call(manifest).buffers = vec![call(manifest).buffers[0].clone(); 65], "more than 64");
    invalid(&|manifest| call(manifest).buffers[0].index = 1, "input or output that does not exist");
    invalid(&|manifest| call(manifest).buffers[0].kind = 77, "no known kind");
    invalid(&|manifest| call(manifest).buffers[0].access = 0, "no known access");
    invalid(&|manifest| call(manifest).buffers[0].access = Access::Write as i32, "writes to weights or to an input");
    invalid(&|manifest| manifest.programs[0].kernels[1].offset = 8, "multiple of 16");
    invalid(&|manifest| manifest.programs[0].steps[0].action = None, "update the runtime");
    invalid(&|manifest| manifest.inputs[0] = port("x", &[1 << 40, 1 << 40]), "overflows");
    invalid(&|manifest| manifest.inputs[0].element_type = 99, "type is unknown");
}

/// Bytes of a manifest with random damage decode to an error or a checked manifest, without a panic.
#[test]
fn damaged_manifests_never_panic() {
    let bytes = artifact();
    let view = read(&bytes).expect("valid");
    let original = prost::Message::encode_to_vec(&view.manifest);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut damaged = original.clone();
        for _ in 0..3 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let index = (state >> 8) as usize % damaged.len();
            damaged[index] = state as u8;
        }
        refused += usize::from(decode_manifest(&damaged, 48, 88).is_err());
    }
    assert!(refused > 1000, "{refused} refused");
}
