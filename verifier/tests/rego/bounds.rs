//! Texts that would take the interpreter too long, or more stack than there is, are refused; what policies need is not.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::output;

const HEAD: &str = "package attestation\nimport rego.v1\n";

fn body(expression: &str) -> String {
    format!("{HEAD}output := x if {{ x := {expression} }}\n")
}

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    body(&format!("{}{inner}{}", open.repeat(depth), close.repeat(depth)))
}

/// `term`, `operator`, `term` and so on, broken into lines.
fn row(term: &str, operator: &str, count: usize) -> String {
    let mut row = term.to_owned();
    for number in 0..count {
        row += if number % 50 == 49 { "\n" } else { " " };
        write!(row, "{operator} {term}").unwrap();
    }
    body(&row)
}

/// Definitions of `r0` to the last, each made of its number and the next one's.
fn rules(count: usize, each: impl Fn(usize, usize) -> String, last: &str) -> String {
    let chain: String = (0..count).map(|number| each(number, number + 1) + "\n").collect();
    format!("{HEAD}{chain}{last}\n")
}

fn statements(count: usize, each: impl Fn(usize) -> String) -> String {
    let lines: String = (0..count).map(|number| each(number) + "\n").collect();
    format!("{HEAD}output := true if {{\n{lines}}}\n")
}

#[track_caller]
fn refused(text: &str, because: &str) {
    let error = output(text, json!({ "a": 1 })).unwrap_err();
    assert!(error.contains(because), "{error}");
}

/// What is allowed at most ends well, however little stack there is where it is called.
#[track_caller]
fn ends(text: &str) {
    let text = text.to_owned();
    let thread = std::thread::Builder::new().stack_size(256 << 10);
    let ended = thread.spawn(move || output(&text, json!({ "a": 1 })));
    if let Err(error) = ended.unwrap().join().unwrap() {
        assert!(error.is_empty(), "{error:.2000}");
    }
}

#[test]
fn terms_in_brackets_are_read_so_often_only() {
    for (open, inner, close) in [
        ("[", "1", "]"),
        ("{", "1", "}"),
        ("{\"a\":", "1", "}"),
        ("[{\"a\":[", "1", "]}]"),
        ("[1 | ", "true", "]"),
    ] {
        let begun = Instant::now();
        refused(&nested(open, inner, close, 20), "nested too deeply");
        assert!(begun.elapsed() < Duration::from_secs(1), "{open} was read");
    }
    refused(&body(&["[[[[1]]]]"; 3000].join(",\n")), "nested too deeply");
    // Brackets in texts and comments are none, and nothing in them hides any.
    ends(&body(&format!("\"{}\" # {}\n", "[".repeat(40), "[".repeat(40))));
    ends(&body(&format!("`{}`", "[".repeat(40))));
    refused(&nested("[\n# ]\n", "1", "]", 20), "nested too deeply");
    refused(&nested("[\"]\", \n", "1", "]", 20), "nested too deeply");
    refused(&nested("[`]`, \n", "1", "]", 20), "nested too deeply");
    refused(&body(&"[ ) ".repeat(40)), "closes nothing");
}

#[test]
fn tables_and_documents_have_room() {
    ends(&body(&format!(
        "count({{{}}})",
        (0..4000).map(|n| format!("\"{n}\": [\"a\", {n}]")).collect::<Vec<_>>().join(",\n")
    )));
    ends(&nested("[", "1", "]", 12));
    ends(&nested("{\"a\":", "1", "}", 12));
}

#[test]
fn expressions_are_only_so_deep() {
    refused(&nested("count(", "[1]", ")", 200), "brackets are in each other");
    refused(&nested("input[", "1", "]", 20), "nested too deeply");
    refused(&nested("- ", "1", "", 1000), "signs are in a row");
    for operator in ["+", "*", "|", "&", "==", "in"] {
        refused(&row("{1}", operator, 100), "operators in a row");
    }
    refused(&row("1", "+", 40_000), "operators and members");
    refused(&body(&format!("input{}", "\n[1]".repeat(0) + &"[\n1]".repeat(200))), "nested too deeply");
    ends(&row("{1}", "|", 20));
    ends(&nested("count(", "[1]", ")", 1));
}

#[test]
fn functions_do_not_call_themselves() {
    let to_itself = "must not ask for itself";
    refused(&format!("{HEAD}f(n) := f(n - 1) if n > 0\nf(0) := 0\noutput := f(100000)"), to_itself);
    refused(
        &format!(
            "{HEAD}f(n) := g(n - 1) if n > 0\nf(0) := 0\ng(n) := f(n - 1) if n > 0\ng(0) := 0\noutput := f(100000)"
        ),
        "f -> g -> f",
    );
    // By its path, by a name it was imported under, by one that is not written down, and in place of another one.
    refused(&format!("{HEAD}f(n) := data.attestation.f(n - 1)\noutput := f(1)"), to_itself);
    refused(&format!("{HEAD}f(n) := data[\"attestation\"].f(n - 1)\noutput := f(1)"), to_itself);
    refused(&format!("{HEAD}import data.attestation.f as g\nf(n) := g(n - 1)\noutput := f(1)"), to_itself);
    refused(
        &format!("{HEAD}import data.attestation as own\nf(n) := own.f(n - 1)\noutput := f(1)"),
        to_itself,
    );
    refused(&format!("{HEAD}import data.attestation.f\nf(n) := f(n - 1)\noutput := f(1)"), to_itself);
    refused(&format!("{HEAD}r := data.attestation[input.name]\noutput := r"), to_itself);
    refused(&format!("{HEAD}r := data\noutput := r"), to_itself);
    let older = "package attestation\nf(n) = x { x := f(n - 1) }\noutput = f(1)";
    refused(older, to_itself);
    refused(&format!("{HEAD}f(g) := g(1)\ng(n) := f(n)\noutput := f(1)"), to_itself);
    for replaced in ["g", "count", "data.attestation.g", "data.attestation", "data"] {
        let text =
            format!("{HEAD}g(n) := n\nf(n) := x if {{ x := g(n) with {replaced} as f }}\noutput := f(1)");
        refused(&text, "`with` may replace");
    }
}

#[test]
fn rules_that_are_no_circle_are_none() {
    ends(&format!("{HEAD}r := 5\nf(r) := r + 1\noutput := f(r)"));
    ends(&format!("{HEAD}r := 5\noutput := x if {{ x := r with input.a as 2 with data.other as 3 }}"));
    ends(&format!("{HEAD}r contains x if {{ some x in [1] }}\noutput := r"));
    ends(&format!("{HEAD}r.a := 1\noutput := r.a"));
    ends(&format!("{HEAD}r[x] := y if {{ some x, y in {{\"a\": 1}} }}\noutput := r.a"));
    ends(&format!("{HEAD}default r := 1\nr := 2 if {{ input.b }} else := 3 if {{ input.a }}\noutput := r"));
    let hidden = output(&format!("{HEAD}r := 5\nf(r) := r + 1\noutput := f(1)"), json!({}));
    assert_eq!(
        hidden,
        Ok(json!(2)),
        "a parameter hides the rule of its name, as the check takes for granted"
    );
}

#[test]
fn chains_of_rules_are_only_so_long() {
    type Each = fn(usize, usize) -> String;
    let chains: [(&str, Each, &str, usize); 4] = [
        ("output := r0", |n, next| format!("r{n} := r{next}"), "r{} := 1", 1000),
        ("output := count(r0)", |n, next| format!("r{n} := [r{next}]"), "r{} := [1]", 1000),
        ("output := r0(1)", |n, next| format!("r{n}(x) := r{next}(x)"), "r{}(x) := x", 1000),
        (
            "output := r0",
            |n, next| {
                format!(
                    "r{n} := y if {{ some x in [1]; every z in [1] {{ z == 1 }}; y := [a | a := r{next}][0] }}"
                )
            },
            "r{} := 1",
            150,
        ),
    ];
    for (output, each, last, longest) in chains {
        let of = |count: usize| {
            rules(count, each, &format!("{output}\n{}", last.replace("{}", &count.to_string())))
        };
        refused(&of(longest), "deep, and at most");
        ends(&of(60));
    }
}

#[test]
fn statements_of_a_body_are_only_so_many() {
    refused(&statements(300, |n| format!("x{n} = x{}", n + 1)), "too many statements");
    refused(&statements(300, |n| format!("some x{n} in [1]")), "too many statements");
    ends(&statements(250, |n| format!("some x{n} in [1]")));
    ends(&statements(250, |n| format!("[1][x{n}]")));
}

#[test]
fn values_may_be_as_deep_as_time_allows() {
    let wrapped = |levels: usize, last: &str| {
        let functions: String = (1..=levels)
            .map(|level| format!("f{level}(x) := f{0}(f{0}(f{0}(f{0}(x))))\n", level - 1))
            .collect();
        format!("{HEAD}f0(x) := [[[[[[[[[x]]]]]]]]]\n{functions}v := f{levels}(1)\noutput := {last}\n")
    };
    // 9 * 4^6 levels: each of them takes stack when the value is compared, written or dropped.
    ends(&wrapped(6, "count(v)"));
    ends(&wrapped(6, "v == v"));
    ends(&wrapped(6, "count(sprintf(\"%v\", [v]))"));
    ends(&wrapped(6, "count(json.marshal(v))"));
    refused(&wrapped(12, "count(v)"), "time limit");
}
