use super::super::validate::validate;
use super::{Run, prove};

/// Whether a shader of one row of invocations is proved, over `read` floats that it reads and `written` ones that it writes.
fn is_proved(body: &str, groups: u32, [read, written]: [usize; 2]) -> Result<(), String> {
    let text = format!(
        "@group(0) @binding(0) var<storage, read> b0: array<f32>;
@group(0) @binding(1) var<storage, read_write> b1: array<f32>;
fn floor_divide(x: i32, y: i32) -> i32 {{ return x / y - select(0, 1, x % y < 0); }}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
  let unit = id.x;
{body}
}}
"
    );
    let run = |floats: usize, is_written| vec![Run { begin: 0, end: floats * 4, is_written }];
    prove(&validate(&text).expect("a shader"), [groups, 1, 1], &[run(read, false), run(written, true)])
}

/// Is proved over as many floats, and is not over one fewer of either.
fn reaches(body: &str, groups: u32, [read, written]: [usize; 2]) {
    assert_eq!(is_proved(body, groups, [read, written]), Ok(()), "{body}");
    assert!(is_proved(body, groups, [read - 1, written]).is_err(), "{body} reads {read}");
    assert!(is_proved(body, groups, [read, written - 1]).is_err(), "{body} writes {written}");
}

#[test]
fn invocations_behind_the_last_end_or_are_counted() {
    reaches("if unit >= 10u { return; } let at = i32(unit); b1[at] = b0[at + 2];", 1, [12, 10]);
    reaches("let at = i32(unit); b1[at] = b0[at];", 2, [128, 128]);
    reaches("let unit2 = id.y * 64u + id.x; b1[unit2 / 7u] = b0[unit2 % 7u];", 1, [7, 10]);
}

#[test]
fn what_wraps_may_be_anything() {
    assert!(is_proved("let at = i32(unit * 100000000u); b1[min(at, 5)] = b0[0];", 1, [1, 6]).is_err());
    assert_eq!(is_proved("let at = i32(unit * 100000000u); b1[clamp(at, 0, 5)] = b0[0];", 1, [1, 6]), Ok(()));
}

#[test]
fn loops_count_up_to_their_ends() {
    let each = "let at = i32(unit); for (var k = 0; k < 5; k++) { b1[at * 5 + k] = b0[k]; }";
    reaches(each, 1, [5, 320]);
    reaches("for (var k = i32(unit); k < 200; k += 64) { b1[k] = b0[k / 4]; }", 1, [50, 200]);
    for other in [
        "var k = 0; loop { if k > 5 { break; } b1[k] = b0[0]; k++; }",
        "for (var k = 0; k < 5; k++) { b1[k] = b0[0]; k = 7; }",
        "for (var k = 5; k > 0; k--) { b1[k] = b0[0]; }",
        "var k = 0; if unit > 3u { k = -2; } for (; k < 5; k++) { b1[k] = b0[0]; }",
        "var k = 0; for (var n = 0; n < 2; n++) { for (; k < 5; k++) { b1[k] = b0[0]; } k = -2; }",
        "var k = 0; loop { if k < 5 {} else { break; } b1[k * 2] = b0[0]; continuing { k++; } }",
    ] {
        assert!(is_proved(other, 1, [8, 8]).is_err(), "{other}");
    }
}

/// A window that meets the border: its first and last taps depend on where it is.
#[test]
fn ends_that_depend_on_a_position_are_followed() {
    let pool = "let y = i32(unit % 5u); let begin = max(0, 1 - y); let end = min(3, 6 - y);
    for (var k = begin; k < end; k++) { b1[y] = b0[y + k - 1]; }";
    reaches(pool, 1, [5, 5]);
    reaches("let y = i32(unit % 5u); b1[0] = b0[floor_divide(y - 3, 2) + 2];", 1, [3, 1]);
}

#[test]
fn conditions_hold_where_they_are_asked_for() {
    let padded = "let y = i32(unit % 5u); let i = y * 2 - 1; let inside = (u32(i) < 8u) & (y < 4);
    b1[y] = select(0.0, b0[select(0, i, inside)], inside);";
    reaches(padded, 1, [6, 5]);
    reaches("let y = i32(unit % 6u); if y + 1 < 4 { b1[y + 1] = b0[y]; }", 1, [3, 4]);
    let panels = "let c = i32(unit % 5u); let row = select(8, 4, c >= 3);
    for (var k = 0; k < 2; k++) { b1[c * 16 + k * row] = b0[0]; }";
    reaches(panels, 1, [1, 69]);
    assert!(is_proved("let y = i32(unit % 6u); if y < 4 { b1[0] = 1.0; } b1[y] = b0[0];", 1, [1, 4]).is_err());
}

#[test]
fn operands_that_are_only_read_are_not_written_and_gaps_are_nobodys() {
    let text = "@group(0) @binding(0) var<storage, read_write> b0: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x >= 8u { return; }
  b0[id.x + 64u] = b0[id.x];
}
";
    let shader = validate(text).expect("a shader");
    let run = |begin, is_written| Run { begin, end: begin + 32, is_written };
    assert_eq!(prove(&shader, [1, 1, 1], &[vec![run(0, false), run(256, true)]]), Ok(()));
    assert!(prove(&shader, [1, 1, 1], &[vec![run(0, true), run(256, false)]]).is_err());
    assert!(prove(&shader, [1, 1, 1], &[vec![run(0, false), run(252, true)]]).is_err());
}

#[test]
fn integers_are_divided_by_what_is_positive() {
    let divided = |by: &str| format!("let x = u32(b0[0]); b1[0] = f32(9u / {by});");
    assert!(is_proved(&divided("x"), 1, [1, 1]).is_err());
    assert_eq!(is_proved(&divided("max(x, 1u)"), 1, [1, 1]), Ok(()));
}
