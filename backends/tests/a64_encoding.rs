//! Each instruction of our encoder of aarch64, as GNU's assembler encodes its text.

use std::process::Command;

use edgecc_backends::cpu::a64::{
    Access, After, Arrangement, ByLane, Cond, Float, Half, Instruction, Integer, Lanes, LanesOne, Narrowing, Two, V,
    Widening, Width, X,
};

fn samples() -> Vec<Instruction> {
    use Instruction as I;
    let (a, b, c, sp) = (X(3), X(17), X(30), X(31));
    let (v, w, u) = (V(5), V(18), V(31));
    let mut samples = vec![
        I::BtiC,
        I::Ret,
        I::MovZ(a, 513, 2),
        I::MovK(b, 65535, 3),
        I::MovN(c, 77, 0),
        I::Mov(a, c),
        I::MovW(b, a),
        I::AddImmediate(a, sp, 4095, false),
        I::AddImmediate(sp, sp, 16, true),
        I::SubImmediate(b, a, 77, true),
        I::SubsImmediate(X(31), a, 1),
        I::Add(a, b, c),
        I::Sub(c, b, a),
        I::MultiplyAdd(a, b, c, X(31)),
        I::MultiplySubtract(a, b, c, X(7)),
        I::Divide(a, b, c),
        I::Compare(a, b),
        I::Zero(w),
        I::Widen(v, u, Half::Lower),
        I::Widen(w, v, Half::Upper),
        I::Narrow(v, u, Half::Lower),
        I::Narrow(w, v, Half::Upper),
    ];
    for cond in [Cond::Equal, Cond::NotEqual, Cond::HigherSame, Cond::Lower, Cond::Less, Cond::GreaterEqual] {
        samples.push(I::Choose(a, b, c, cond));
    }
    for access in [Access::Load, Access::Store] {
        samples.extend([
            I::Word(access, a, sp, 264),
            I::Words(access, X(19), X(20), sp, 80),
            I::Words(access, X(19), X(20), b, -512),
            I::Doubles(access, V(8), V(9), sp, 96),
            I::Vectors(access, v, w, a, -1024),
            I::Vectors(access, v, w, a, 1008),
            I::VectorsPost(access, v, w, a, 32),
        ]);
        samples.extend((0..4).map(|lane| I::Lane(access, Arrangement::S4, w, lane, b)));
        samples.extend((0..8).map(|lane| I::Lane(access, Arrangement::H8, w, lane, b)));
        for (width, offsets) in [
            (Width::B, [-256, 255, 4095]),
            (Width::H, [-256, 255, 8190]),
            (Width::S, [-256, 255, 16380]),
            (Width::D, [-8, 17, 32760]),
            (Width::Q, [-16, 8, 65520]),
        ] {
            samples.extend(offsets.map(|offset| I::Vector(access, width, v, sp, offset)));
            samples.extend([-256, 255].map(|offset| I::VectorPost(access, width, u, a, offset)));
        }
        for (ways, of) in (2..=4).flat_map(|ways| [(ways, Arrangement::S4), (ways, Arrangement::H8)]) {
            samples.push(I::Structures(access, of, V(30), ways, a));
            for (lane, after) in [(0, After::Past), (1, After::Stay), (2, After::By(b)), (3, After::By(c))] {
                samples.push(I::StructureLane(access, of, v, ways, lane, sp, after));
            }
        }
        for count in 1..=4 {
            for after in [After::Stay, After::Past, After::By(c)] {
                samples.push(I::Multiple(access, V(30), count, a, after));
            }
        }
    }
    for of in [Arrangement::S4, Arrangement::H8] {
        samples.extend(arithmetic(of));
    }
    samples.push(I::ByLane(ByLane::MultiplyAdd, Arrangement::S4, v, w, u, 3));
    samples.extend(integers().into_iter().map(I::Integer));
    samples
}

/// What works on narrow integers.
fn integers() -> Vec<Integer> {
    let (v, w, u) = (V(5), V(18), V(31));
    let twos = [
        Two::Dot,
        Two::MatrixProduct,
        Two::AddPairs,
        Two::AddHalves,
        Two::SubtractBytes,
        Two::Maximum,
        Two::Minimum,
        Two::MaximumUnsigned,
        Two::MinimumUnsigned,
    ];
    let mut samples: Vec<Integer> = twos.into_iter().map(|op| Integer::Two(op, v, w, u)).collect();
    samples.extend((0..4).map(|lane| Integer::DotByLane(w, u, V(17 + lane), lane)));
    samples.extend([1, 8, 63].map(|by| Integer::ShiftRight(u, v, by)));
    samples.extend([1, 24, 32].map(|by| Integer::ShiftWordsRight(u, v, by)));
    samples.extend([0, 4, 7].map(|by| Integer::ShiftBytesLeft(u, v, by)));
    samples.extend([true, false].map(|extends| Integer::LookUp(extends, v, w, u)));
    for (access, ways) in
        [Access::Load, Access::Store].into_iter().flat_map(|access| [2, 3, 4].map(|ways| (access, ways)))
    {
        samples.push(Integer::Structures(access, v, ways, X(9)));
        samples.push(Integer::StructureOfBytes(access, w, ways, X(10)));
    }
    samples.extend([true, false].map(|adds| Integer::PairsOfHalves(adds, v, u)));
    samples.extend([Width::B, Width::H, Width::S, Width::D].map(|width| Integer::SpreadPost(width, w, X(17))));
    for half in [Half::Lower, Half::Upper] {
        samples.extend([true, false].map(|adds| Integer::Product(adds, v, u, w, half)));
        samples.push(Integer::AddProductOfHalves(w, v, u, half));
        samples.extend([Width::B, Width::H, Width::S, Width::D].map(|width| Integer::Zip(width, half, u, v, w)));
        let narrowings = [Narrowing::Halves, Narrowing::Bytes, Narrowing::UnsignedBytes];
        samples.extend(narrowings.map(|op| Integer::Narrow(op, w, u, half)));
        let widenings = [Widening::Bytes, Widening::UnsignedBytes, Widening::Halves];
        samples.extend(widenings.map(|op| Integer::Widen(op, w, u, half)));
    }
    for (access, after) in
        [(Access::Load, After::Past), (Access::Store, After::Stay), (Access::Store, After::By(X(17)))]
    {
        for (width, lanes) in [(Width::B, 16), (Width::H, 8), (Width::S, 4), (Width::D, 2)] {
            samples.extend((0..lanes).map(|lane| Integer::Part(access, width, w, lane, X(3), after)));
        }
    }
    samples
}

/// What works on lanes.
fn arithmetic(of: Arrangement) -> Vec<Instruction> {
    use Instruction as I;
    let (a, b) = (X(3), X(17));
    let (v, w, u) = (V(5), V(18), V(31));
    let (lanes, most) = match of {
        Arrangement::S4 => (4, 23),
        Arrangement::H8 => (8, 10),
    };
    let mut samples = vec![I::ShiftLeft(of, v, w, most)];
    samples.extend((0..lanes).map(|lane| I::Spread(of, v, u, lane)));
    samples.extend([After::Stay, After::Past, After::By(b)].map(|after| I::LoadSpread(of, v, a, after)));
    samples.extend(
        [1.0, -1.0, 6.0, 0.5, 31.0, -0.125].map(|value| I::MovFloat(of, w, Float::of(value).expect("a short float"))),
    );
    for op in [
        Lanes::MultiplyAdd,
        Lanes::MultiplySubtract,
        Lanes::Add,
        Lanes::Subtract,
        Lanes::Multiply,
        Lanes::Divide,
        Lanes::Maximum,
        Lanes::Minimum,
        Lanes::AddPairs,
        Lanes::MaximumPairs,
        Lanes::MinimumPairs,
        Lanes::Greater,
        Lanes::GreaterEqual,
        Lanes::Equal,
        Lanes::AddIntegers,
        Lanes::SubtractIntegers,
        Lanes::And,
        Lanes::Or,
        Lanes::ExclusiveOr,
        Lanes::Select,
    ] {
        samples.push(I::Lanes(op, of, v, w, u));
    }
    for op in [
        LanesOne::Absolute,
        LanesOne::Negate,
        LanesOne::SquareRoot,
        LanesOne::RoundNearest,
        LanesOne::RoundDown,
        LanesOne::RoundUp,
        LanesOne::RoundToZero,
        LanesOne::ToInteger,
        LanesOne::FromInteger,
    ] {
        samples.push(I::LanesOne(op, of, v, u));
    }
    for op in [ByLane::MultiplyAdd, ByLane::MultiplySubtract, ByLane::Multiply] {
        samples.extend((0..lanes).map(|lane| I::ByLane(op, of, v, u, V(lane + 3), lane)));
        samples.push(I::ByLane(op, of, v, u, V(15), 1));
    }
    samples
}

#[test]
fn words_are_those_of_an_assembler() {
    let folder = std::env::temp_dir().join(format!("edgecc-a64-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let [source, object, bytes] = ["a.s", "a.o", "a.bin"].map(|name| folder.join(name));
    let samples = samples();
    let lines: Vec<String> = samples.iter().map(ToString::to_string).collect();
    std::fs::write(&source, lines.join("\n") + "\n").expect("a source");
    let assembled = Command::new("aarch64-linux-gnu-as")
        .arg("-march=armv8.2-a+fp16+dotprod+i8mm")
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .status();
    let Ok(status) = assembled else {
        println!("skipped: no aarch64-linux-gnu-as (tests/setup/setup.sh)");
        return;
    };
    assert!(status.success(), "a text that the assembler refuses");
    let copied = Command::new("aarch64-linux-gnu-objcopy").args(["-O", "binary"]).arg(&object).arg(&bytes).status();
    assert!(copied.expect("objcopy").success());
    let expected = std::fs::read(&bytes).expect("words");
    assert_eq!(expected.len(), 4 * samples.len());
    for ((sample, line), expected) in samples.iter().zip(&lines).zip(expected.chunks(4)) {
        let expected = u32::from_le_bytes(expected.try_into().expect("a word"));
        assert_eq!(sample.word(0), expected, "{line}: {:08x} instead of {expected:08x}", sample.word(0));
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
