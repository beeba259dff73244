//! The text form as people write and read it, and what the parser says of texts that are no graphs.

use edgecc_ir::Graph;
use proptest::prelude::*;

const TINY: &str = r#"graph tiny(%x: f32[1x2x2x2 nhwc], %"0": i64[]) {
  @w = const f32[1x2x1x1] {0.1, -2}
  @0 = const f32[1]  0.3333333333333333  ; bias+fold
  %0 = conv %x, @w, @0 kernel=[1, 1] strides=[2, 2] epilogue=max(acc + e1, 0) : f32[1x1x1x1]  ; conv+relu
  %1 = map %0 expr=let t0 = exp(a0 / 3) in t0 / (t0 + 1) : f32[1x1x1x1]
  %2 = map %"0" expr=select(a0 < 3_i64, 0.5_f16, f16(a0)) : f16[]
  return %1 as y, %2 as "second output"
}
"#;

#[test]
fn a_graph_prints_as_it_was_written() {
    let graph = Graph::from_text(TINY).unwrap();
    assert_eq!(graph.to_text(), TINY.replace("[1]  0.3333333333333333", "[1] 0.33333334"));
}

#[test]
fn comments_and_white_space_mean_nothing() {
    let loose = TINY.replace(", ", " ,\n\t").replace("  return", "# a comment: }\nreturn");
    assert_eq!(Graph::from_text(&loose).unwrap().to_text(), Graph::from_text(TINY).unwrap().to_text());
}

#[test]
fn numbering_follows_from_the_outputs() {
    let reordered = TINY.replace("%1 as y, %2 as \"second output\"", "%2 as \"second output\"");
    let text = Graph::from_text(&reordered).unwrap().to_text();
    assert_eq!(
        text.lines().nth(1),
        Some("  %0 = map %\"0\" expr=select(a0 < 3_i64, 0.5_f16, f16(a0)) : f16[]"),
        "dead nodes are not printed"
    );
}

#[test]
fn a_snapshot_shortens_numbers_and_keeps_their_hash() {
    let text = "graph g() {
  @few = const f32[2] {0.12345678, 1}
  @many = const f32[20] hex \"HEX\"
  %0 = map @few expr=a0 * 0.12345678 : f32[2]
  return %0 as y, @many as z
}
";
    let hex: String = (0..20).flat_map(|n| (n as f32 / 3.0).to_le_bytes()).map(|byte| format!("{byte:02x}")).collect();
    let snapshot = Graph::from_text(&text.replace("HEX", &hex)).unwrap().to_snapshot();
    let lines: Vec<&str> = snapshot.lines().collect();
    let starts = [
        "graph g() {",
        "  @few = const f32[2] {0.123457, 1} #",
        "  %0 = map @few expr=a0 * 0.123457 #",
        "  @many = const f32[20] {0, 0.333333, 0.666667, .. 6.33333} #",
        "  return %0 as y, @many as z",
    ];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    let other = Graph::from_text(&text.replace("HEX", &hex).replace("* 0.12345678", "* 0.12345679")).unwrap();
    assert_ne!(other.to_snapshot(), snapshot, "the hash tells the exact bits apart");
}

/// The message for a text of one changed place.
fn error(from: &str, to: &str) -> String {
    assert!(TINY.contains(from));
    Graph::from_text(&TINY.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn errors_say_where_and_what() {
    assert_eq!(error("conv %x", "convolve %x"), "4:8: convolve: unknown operator");
    assert_eq!(error("@w, @0 kernel", "@v, @0 kernel"), "4:17: @v is not defined");
    assert_eq!(error("strides=[2, 2]", "strides=[2, -2]"), "4:8: conv: strides cannot be -2");
    assert_eq!(error("strides=", "strade="), "4:8: conv: unknown or repeated attribute strade");
    assert_eq!(
        error("f32[1x1x1x1]  ; conv", "f32[1x1x1x2]  ; conv"),
        "4:8: the result is f32[1x1x1x1], not f32[1x1x1x2]"
    );
    assert_eq!(error("(acc + e1", "(acc + e2"), "4:72: e2 is not among the operands");
    assert_eq!(error("3_i64", "3_i32"), "6:32: operands of types i64 and i32");
    assert_eq!(error("{0.1, -2}", "{0.1}"), "2:27: f32[1x2x1x1] needs 8 bytes, got 4");
    assert_eq!(error("nhwc", "nhcw"), "1:20: f32[1x2x2x2 nhcw] is no type of a tensor");
    assert_eq!(error("\"second output\"", "y"), "9:1: two outputs are called \"y\"");
    assert_eq!(error("%1 = map", "%0 = map"), "5:3: %0 is defined twice");
    assert_eq!(error("second output\"", "second output"), "7:25: the quote does not end");
}

#[test]
fn nesting_is_limited() {
    for (open, close) in [("(", ")"), ("exp(", ")"), ("max(a0, ", ")"), ("1 * (1 + ", ")")] {
        let deep = format!("{}a0{}", open.repeat(100_000), close.repeat(100_000));
        let message = error("exp(a0 / 3)", &deep);
        assert!(message.contains("nested deeper than 128"), "{message}");
    }
    let sum = |terms: usize| vec!["a0"; terms].join(" + ");
    assert!(Graph::from_text(&TINY.replace("exp(a0 / 3)", &sum(10_000))).is_ok());
    assert!(error("exp(a0 / 3)", &sum(20_000)).contains("more than 16384 nodes"));
}

proptest! {
    #[test]
    fn any_text_is_a_graph_or_an_error(text in ".*") {
        let _ = Graph::from_text(&text);
    }

    #[test]
    fn any_bytes_are_a_graph_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Graph::from_text(&String::from_utf8_lossy(&bytes));
    }

    /// A valid text with a piece replaced by a piece from elsewhere or by a number: what is read prints and reads again.
    #[test]
    fn a_changed_text_is_a_graph_or_an_error(
        from in 0..TINY.len(), length in 0usize..12, source in 0..TINY.len(), copied in 0usize..12,
        number in prop::option::of(any::<u64>()),
    ) {
        let end = (from + length).min(TINY.len());
        let piece = match number {
            Some(number) => number.to_string(),
            None => TINY[source..(source + copied).min(TINY.len())].to_string(),
        };
        let changed = format!("{}{piece}{}", &TINY[..from], &TINY[end..]);
        if let Ok(graph) = Graph::from_text(&changed) {
            let text = graph.to_text();
            prop_assert_eq!(Graph::from_text(&text).unwrap().to_text(), text);
        }
    }
}
