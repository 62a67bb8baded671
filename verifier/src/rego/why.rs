//! Why a policy said no: the lines at which its rules stopped.
//!
//! The interpreter tells which lines it has reached, and not what came of them. So a rule that gives nothing has stopped at
//! the last statement that was reached, and if that one asks another rule which gives nothing, at that rule's, too.

use std::collections::BTreeSet;
use std::time::Instant;

use regorus::{Engine, Value};
use serde_json::Value as Json;

use super::{Document, Rego, TIME_LIMIT, with_stack};

/// Most lines that are named; the first ones are those of the entry point.
pub const MAX_LINES: usize = 8;

/// How many rules may ask each other in a row: without this bound a policy chooses how deep the stack gets.
const MAX_DEPTH: usize = 32;

/// Rules of a module, as far as it matters where they stop.
#[derive(Debug, Default)]
pub struct Outline {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    name: String,
    value: Option<Part>,
    /// The member of the value that is looked at, where the value is written as an object.
    members: Vec<(String, Part)>,
    bodies: Vec<Vec<Part>>,
}

/// A statement or an expression.
#[derive(Debug)]
struct Part {
    line: u32,
    /// Every line that something of it is on.
    lines: BTreeSet<u32>,
    /// What it asks for by name, rules among them.
    names: BTreeSet<String>,
}

impl Rego {
    /// The lines, from 1, at which the entry point stopped so that `member` of its result is not true for `input`: none if
    /// that cannot be told.
    #[must_use]
    pub fn why_not(&self, input: &Document, member: &str) -> Vec<u32> {
        with_stack(|| self.search(input, member))
    }

    fn search(&self, input: &Document, member: &str) -> Vec<u32> {
        let outline = self.0.outline.get_or_init(|| Outline::of(&self.0.engine).unwrap_or_default());
        let Some((package, rule)) = self.0.entry_point.rsplit_once('.') else { return Vec::new() };
        let mut engine = self.0.engine.clone();
        engine.set_enable_coverage(true);
        engine.set_input(input.0.clone());
        if engine.eval_rule(self.0.entry_point.clone()).is_err() {
            return Vec::new();
        }
        let Ok(report) = engine.get_coverage_report() else { return Vec::new() };
        let reached = report.files.into_iter().flat_map(|file| file.covered).collect();
        let (begun, seen, lines) = (Instant::now(), BTreeSet::new(), Vec::new());
        let mut search = Search { outline, package, engine, reached, begun, seen, lines };
        search.rule(rule, Some(member), 0);
        search.lines
    }
}

struct Search<'a> {
    outline: &'a Outline,
    package: &'a str,
    engine: Engine,
    reached: BTreeSet<u32>,
    begun: Instant,
    seen: BTreeSet<String>,
    lines: Vec<u32>,
}

impl Search<'_> {
    /// A rule that gives nothing, or nothing good.
    fn rule(&mut self, name: &str, member: Option<&str>, depth: usize) {
        if depth == MAX_DEPTH || !self.seen.insert(name.to_owned()) {
            return;
        }
        let mut asked = BTreeSet::new();
        let outline = self.outline;
        for rule in outline.rules.iter().filter(|rule| rule.name == name) {
            let named = member.and_then(|member| rule.members.iter().find(|(name, _)| name == member));
            let value = named.map(|(_, part)| part).or(rule.value.as_ref());
            if rule.bodies.is_empty() {
                self.value(value, named.is_some(), &mut asked);
            }
            for body in &rule.bodies {
                if self.has_given(body, rule.value.as_ref()) {
                    self.value(value, named.is_some(), &mut asked);
                } else if let Some((stop, line)) = body.iter().rev().find_map(|part| self.last_line(part)) {
                    self.add(line);
                    asked.extend(stop.names.iter().cloned());
                }
            }
        }
        for name in asked {
            // Each rule that is asked has as much time as a whole evaluation.
            if self.begun.elapsed() > TIME_LIMIT {
                return;
            }
            if outline.rules.iter().any(|rule| rule.name == name) && self.gives_nothing(&name) {
                self.rule(&name, None, depth + 1);
            }
        }
    }

    /// A value that is not good: its line, if it is the one that is looked at, and what it was made of.
    fn value(&mut self, value: Option<&Part>, named: bool, asked: &mut BTreeSet<String>) {
        let Some(value) = value else { return };
        if named {
            self.add(value.line);
        }
        asked.extend(value.names.iter().cloned());
    }

    /// Whether all of a body held: then the value was made, on a line that the body itself is not on.
    fn has_given(&self, body: &[Part], value: Option<&Part>) -> bool {
        let own = |line: &u32| body.iter().all(|part| !part.lines.contains(line));
        let mut lines = value.into_iter().flat_map(|value| &value.lines).filter(|line| own(line));
        lines.any(|line| self.reached.contains(line))
    }

    /// A statement with the last line of it that was reached, if it was.
    fn last_line<'p>(&self, part: &'p Part) -> Option<(&'p Part, u32)> {
        part.lines.iter().rfind(|line| self.reached.contains(line)).map(|line| (part, *line))
    }

    fn gives_nothing(&mut self, name: &str) -> bool {
        let value = self.engine.eval_rule(format!("{}.{name}", self.package));
        value.is_ok_and(|value| matches!(value, Value::Undefined | Value::Bool(false)))
    }

    fn add(&mut self, line: u32) {
        if self.lines.len() < MAX_LINES && !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }
}

impl Outline {
    /// `None` if the interpreter's syntax tree is not what it was when this was written, or too deep.
    fn of(engine: &Engine) -> Option<Self> {
        let modules: Json = serde_json::from_str(&engine.get_ast_as_json().ok()?).ok()?;
        let rules = modules.pointer("/0/ast/rules")?.as_array()?;
        Some(Self { rules: rules.iter().filter_map(|rule| Rule::of(rule.get("Spec")?)).collect() })
    }
}

impl Rule {
    fn of(spec: &Json) -> Option<Self> {
        // Functions have no value of their own: where they are called is all that can be said.
        let head = spec.pointer("/head/Compr")?;
        let value = head.pointer("/assign/value");
        let fields = value.and_then(|value| value.pointer("/Object/fields")?.as_array());
        let member = |field: &Json| {
            let name = field.pointer("/1/String/value")?.as_str()?.to_owned();
            Some((name, Part::of(field.get(2)?)))
        };
        let bodies = spec.get("bodies")?.as_array()?.iter().map(|body| {
            let statements = body.pointer("/query/stmts").and_then(Json::as_array);
            statements.into_iter().flatten().map(Part::of).collect()
        });
        Some(Self {
            name: root(head.get("refr")?)?.to_owned(),
            value: value.map(Part::of),
            members: fields.into_iter().flatten().filter_map(member).collect(),
            bodies: bodies.collect(),
        })
    }
}

impl Part {
    fn of(tree: &Json) -> Self {
        let (mut lines, mut names) = (BTreeSet::new(), BTreeSet::new());
        gather(tree, &mut lines, &mut names);
        Self { line: lines.first().copied().unwrap_or_default(), lines, names }
    }
}

/// The name that a reference begins with.
fn root(reference: &Json) -> Option<&str> {
    let mut part = reference;
    loop {
        if let Some(name) = part.pointer("/Var/value") {
            return name.as_str();
        }
        part = part.pointer("/RefDot/refr").or_else(|| part.pointer("/RefBrack/refr"))?;
    }
}

/// Lines and names in a tree. It is as deep as the parser of JSON allows.
fn gather(tree: &Json, lines: &mut BTreeSet<u32>, names: &mut BTreeSet<String>) {
    match tree {
        Json::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("span", span) => {
                        let line = span.get("line").and_then(Json::as_u64);
                        lines.extend(line.and_then(|line| u32::try_from(line).ok()));
                    }
                    ("Var", var) => {
                        names.extend(var.get("value").and_then(Json::as_str).map(str::to_owned));
                        gather(var, lines, names);
                    }
                    (_, other) => gather(other, lines, names),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| gather(item, lines, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn why(text: &str, input: serde_json::Value) -> Vec<u32> {
        let rego = Rego::compile("test", "data.verification.result", text).unwrap();
        rego.why_not(&Document::from(input), "policy_matched")
    }

    #[test]
    fn a_rule_stops_at_the_last_line_that_was_reached() {
        let text = "package verification
default result := {\"policy_matched\": false}
result := {\"policy_matched\": true} if {
    input.a == 1
    input.b == 2
    input.c == 3
}";
        assert_eq!(why(text, json!({ "a": 0 })), [4]);
        assert_eq!(why(text, json!({ "a": 1, "b": 0 })), [5]);
        assert_eq!(why(text, json!({ "a": 1, "b": 2, "c": 0 })), [6]);
    }

    #[test]
    fn every_definition_that_was_tried_is_named() {
        let text = "package verification
default result := {\"policy_matched\": false}
result := {\"policy_matched\": true} if {
    input.a == 1
    input.b == 2
}
result := {\"policy_matched\": true} if {
    input.c == 3
}";
        assert_eq!(why(text, json!({ "a": 1 })), [5, 8]);
    }

    #[test]
    fn a_rule_that_is_asked_is_followed_if_it_gives_nothing() {
        let text = "package verification
default result := {\"policy_matched\": false}
registers := {1, 2}
known if {
    input.a == 1
    input.b == 2
}
debug if {
    input.debug == true
}
result := {\"policy_matched\": true} if {
    not debug
    registers
    known
}";
        assert_eq!(why(text, json!({ "a": 1, "b": 0 })), [14, 6]);
        // What must give nothing is not to blame for giving something.
        assert_eq!(why(text, json!({ "debug": true })), [12]);
    }

    #[test]
    fn the_member_of_the_value_is_followed() {
        let text = "package verification
default allow := false
allow if {
    input.a == 1
}
other if {
    input.b == 1
}
result := {
    \"policy_matched\": allow,
    \"custom_data\": other,
}";
        assert_eq!(why(text, json!({ "b": 1, "a": 0 })), [10, 4]);
    }

    #[test]
    fn a_value_that_says_no_itself_is_named() {
        let text = "package verification
result := {
    \"policy_matched\": count(input.bad) == 0,
} if {
    input.ready
}";
        assert_eq!(why(text, json!({ "bad": [1], "ready": true })), [3]);
    }

    #[test]
    fn loops_stop_where_no_round_got_further() {
        let text = "package verification
default result := {\"policy_matched\": false}
result := {\"policy_matched\": true} if {
    some file in input.files
    file.path == \"/a\"
    file.good
}
result := {\"policy_matched\": true} if {
    every file in input.files {
        file.good
    }
}";
        assert_eq!(why(text, json!({ "files": [{ "path": "/b" }, { "path": "/c" }] })), [5, 10]);
        assert_eq!(why(text, json!({ "files": [{ "path": "/a" }, { "path": "/c" }] })), [6, 10]);
    }

    #[test]
    fn the_older_dialect_is_read_too() {
        let text = "package verification
default allow = false
allow {
    input.a == 1
}
result = {\"policy_matched\": allow}";
        assert_eq!(why(text, json!({ "a": 0 })), [6, 4]);
    }

    #[test]
    fn a_long_chain_of_rules_is_followed_only_so_far() {
        let chain: String = (0..100).map(|n| format!("r{n} if {{\n    r{}\n}}\n", n + 1)).collect();
        let text = format!(
            "package verification
default result := {{\"policy_matched\": false}}
result := {{\"policy_matched\": true}} if {{\n    r0\n}}
{chain}r100 := false"
        );
        assert_eq!(why(&text, json!({})).len(), MAX_LINES);
        let chain: String = (0..100).map(|n| format!("r{n} := r{}\n", n + 1)).collect();
        let text =
            format!("package verification\nresult := {{\"policy_matched\": r0}}\n{chain}r100 := false");
        assert_eq!(why(&text, json!({})), [2]);
    }

    #[test]
    fn no_more_lines_are_named_than_fit() {
        let rules: String = (0..20)
            .map(|n| format!("result := {{\"policy_matched\": true}} if {{\n    input.n == {n}\n}}\n"))
            .collect();
        let text = format!("package verification\ndefault result := {{\"policy_matched\": false}}\n{rules}");
        assert_eq!(why(&text, json!({ "n": 100 })).len(), MAX_LINES);
    }
}
