//! What rules may ask of each other.
//!
//! The interpreter works on the stack: a rule that asks another one, a function that calls another one and each further
//! member of a loop take some of it, and nothing there stops a function that calls itself. As in OPA, rules and functions
//! must not lead back to themselves; what is left is a chain whose length is known, and bounded.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Engine;
use serde_json::Value as Json;

/// Statements, calls and members in brackets, and levels of nesting, that can be on the stack at a time.
const MAX_CHAIN: usize = 2048;

/// What asking another rule takes, in the same unit.
const ASKING: usize = 4;

/// Squares of the numbers of statements in each body: what the interpreter takes to put them in order.
const MAX_ORDERING: usize = 1 << 16;

/// Refuses a module whose evaluation could take more stack than there is, or whose compilation too much time.
///
/// # Errors
/// A sentence for the policy's author.
pub fn check(engine: &Engine, text: &str) -> Result<(), String> {
    let tree = engine.get_ast_as_json().map_err(|error| format!("{error:#}"))?;
    // The parser of JSON does not follow a tree deeper than 128, and so nothing below has to look at depth.
    let tree: Json = serde_json::from_str(&tree).map_err(
        |_| "an expression is nested too deeply, or has too many operators in a row; make rules of its parts",
    )?;
    let module = tree.pointer("/0/ast").ok_or("the module cannot be read")?;
    let scope = Scope::of(module, text).ok_or("its package and imports cannot be read")?;
    let rules = module.get("rules").and_then(Json::as_array).ok_or("its rules cannot be read")?;
    let mut nodes = BTreeMap::<&str, Node>::new();
    let mut definitions = Vec::new();
    for rule in rules {
        let definition = Definition::of(rule).ok_or("a rule cannot be read")?;
        nodes.entry(definition.name).or_default();
        definitions.push(definition);
    }
    let (mut ordering, names) = (0, nodes.keys().copied().collect());
    for definition in &definitions {
        let mut reading = Reading::new(&scope, &names, &definition.locals);
        for part in &definition.parts {
            reading.read(part, 1)?;
        }
        ordering += reading.ordering;
        let node = nodes.entry(definition.name).or_default();
        node.weight = node.weight.max(ASKING + reading.depth + reading.steps);
        node.asks.append(&mut reading.asks);
    }
    if ordering > MAX_ORDERING {
        return Err("bodies have too many statements; make rules of parts of them".to_owned());
    }
    for name in names {
        let mut path = Vec::new();
        let chain = longest(name, &mut nodes, &mut path)?;
        if chain > MAX_CHAIN {
            return Err(format!(
                "what rule {name} asks for is {chain} statements, calls and levels deep, and at most {MAX_CHAIN} can be; \
                 make its chain of rules shorter"
            ));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Node<'a> {
    weight: usize,
    asks: BTreeSet<&'a str>,
    chain: Option<usize>,
}

/// The longest chain that begins with `name`.
fn longest<'a>(
    name: &'a str,
    nodes: &mut BTreeMap<&'a str, Node<'a>>,
    path: &mut Vec<&'a str>,
) -> Result<usize, String> {
    if let Some(begun) = path.iter().position(|earlier| *earlier == name) {
        path.push(name);
        return Err(format!(
            "a rule must not ask for itself, and {} does ({}); if one of them is meant to be a variable, name it otherwise",
            name,
            path.split_off(begun).join(" -> ")
        ));
    }
    let Some(node) = nodes.get(name) else { return Ok(0) };
    if let Some(known) = node.chain {
        return Ok(known);
    }
    let (weight, asks) = (node.weight, node.asks.clone());
    path.push(name);
    let mut further = 0;
    for asked in asks {
        further = further.max(longest(asked, nodes, path)?);
    }
    path.pop();
    if let Some(node) = nodes.get_mut(name) {
        node.chain = Some(weight + further);
    }
    Ok(weight + further)
}

/// What names mean in the module, besides its rules.
struct Scope<'a> {
    package: Vec<&'a str>,
    /// Names of imported parts of `data`.
    imports: BTreeMap<&'a str, Vec<Option<&'a str>>>,
}

impl<'a> Scope<'a> {
    fn of(module: &'a Json, text: &'a str) -> Option<Self> {
        let (root, links) = chain(module.pointer("/package/refr")?);
        let mut package = vec![variable(root)?];
        for link in &links {
            package.push(link.name()?);
        }
        let mut imports = BTreeMap::new();
        for import in module.get("imports").and_then(Json::as_array)? {
            let (root, links) = chain(import.get("refr")?);
            if variable(root)? == "data" {
                let path: Vec<_> = links.iter().map(Link::name).collect();
                let name = match import.get("as") {
                    Some(span) => text.get(offset(span, "start")?..offset(span, "end")?)?,
                    None => path.last().copied().flatten().unwrap_or("data"),
                };
                imports.insert(name, path);
            }
        }
        Some(Self { package, imports })
    }

    /// The part of `data` that a reference means, if it means one.
    fn data(&self, root: &str, links: &[Link<'a>]) -> Option<Vec<Option<&'a str>>> {
        let mut path = match self.imports.get(root) {
            Some(path) => path.clone(),
            None if root == "data" => Vec::new(),
            None => return None,
        };
        path.extend(links.iter().map(Link::name));
        Some(path)
    }

    /// What a part of `data` has to do with the module's rules.
    fn meant(&self, path: &[Option<&'a str>]) -> Meant<'a> {
        for (own, other) in self.package.iter().zip(path) {
            match other {
                Some(other) if other == own => {}
                Some(_) => return Meant::Nothing,
                None => return Meant::All,
            }
        }
        match path.get(self.package.len()) {
            Some(Some(name)) => Meant::Rule(name),
            Some(None) | None => Meant::All,
        }
    }
}

enum Meant<'a> {
    Nothing,
    Rule(&'a str),
    All,
}

fn offset(span: &Json, name: &str) -> Option<usize> {
    span.get(name).and_then(Json::as_u64).and_then(|offset| usize::try_from(offset).ok())
}

/// One definition of a rule.
struct Definition<'a> {
    name: &'a str,
    /// Parameters: in the definition they hide rules, but not functions that are called.
    locals: BTreeSet<&'a str>,
    parts: Vec<&'a Json>,
}

impl<'a> Definition<'a> {
    fn of(rule: &'a Json) -> Option<Self> {
        let (head, bodies) = match (rule.get("Spec"), rule.get("Default")) {
            (Some(spec), None) => (spec.get("head")?.as_object()?.values().next()?, spec.get("bodies")),
            (None, Some(default)) => (default, None),
            _ => return None,
        };
        let (root, links) = chain(head.get("refr")?);
        let mut locals = BTreeSet::new();
        if let Some(args) = head.get("args") {
            variables(args, &mut locals);
        }
        let mut parts: Vec<_> =
            ["assign", "key", "value", "args"].iter().filter_map(|part| head.get(*part)).collect();
        parts.extend(
            links.iter().filter_map(|link| if let Link::Index(index) = link { Some(*index) } else { None }),
        );
        parts.extend(bodies);
        Some(Self { name: variable(root)?, locals, parts })
    }
}

/// What reading a definition found.
struct Reading<'a, 'b> {
    scope: &'b Scope<'a>,
    names: &'b BTreeSet<&'a str>,
    locals: &'b BTreeSet<&'a str>,
    asks: BTreeSet<&'a str>,
    depth: usize,
    steps: usize,
    ordering: usize,
}

impl<'a, 'b> Reading<'a, 'b> {
    const fn new(scope: &'b Scope<'a>, names: &'b BTreeSet<&'a str>, locals: &'b BTreeSet<&'a str>) -> Self {
        Self { scope, names, locals, asks: BTreeSet::new(), depth: 0, steps: 0, ordering: 0 }
    }

    fn read(&mut self, tree: &'a Json, depth: usize) -> Result<(), String> {
        self.depth = self.depth.max(depth);
        match tree {
            Json::Array(items) => items.iter().try_for_each(|item| self.read(item, depth + 1)),
            Json::Object(members) => {
                for (name, member) in members {
                    match name.as_str() {
                        "span" => {}
                        "Var" | "RefDot" | "RefBrack" => self.reference(tree, false, depth)?,
                        "Call" => {
                            self.steps += 1;
                            if let Some(function) = member.get("fcn") {
                                self.reference(function, true, depth)?;
                            }
                            if let Some(params) = member.get("params") {
                                self.read(params, depth + 1)?;
                            }
                        }
                        "with_mods" => {
                            self.replacements(member)?;
                            self.read(member, depth + 1)?;
                        }
                        "stmts" => {
                            let count = member.as_array().map_or(0, Vec::len);
                            self.steps += count;
                            self.ordering += count * count;
                            self.read(member, depth + 1)?;
                        }
                        _ => self.read(member, depth + 1)?,
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn reference(&mut self, tree: &'a Json, called: bool, depth: usize) -> Result<(), String> {
        let (root, links) = chain(tree);
        match variable(root) {
            Some(name) => match self.scope.data(name, &links) {
                Some(path) => match self.scope.meant(&path) {
                    Meant::Nothing => {}
                    Meant::Rule(name) => self.ask(name),
                    Meant::All => self.asks.extend(self.names),
                },
                None if called || !self.locals.contains(name) => self.ask(name),
                None => {}
            },
            None => self.read(root, depth + 1)?,
        }
        for (number, link) in links.iter().enumerate() {
            self.depth = self.depth.max(depth + number + 1);
            if let Link::Index(index) = link {
                self.steps += 1;
                self.read(index, depth + number + 1)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, name: &'a str) {
        if self.names.contains(name) {
            self.asks.insert(name);
        }
    }

    /// A function that stands for another one would be asked for where nothing here sees it.
    fn replacements(&self, mods: &'a Json) -> Result<(), String> {
        for replaced in
            mods.as_array().into_iter().flatten().filter_map(|replacement| replacement.get("refr"))
        {
            let (root, links) = chain(replaced);
            let allowed = match variable(root) {
                Some("input") => true,
                Some("data") => {
                    let path: Vec<_> = links.iter().map(Link::name).collect();
                    matches!(self.scope.meant(&path), Meant::Nothing)
                }
                _ => false,
            };
            if !allowed {
                return Err(
                    "`with` may replace parts of input, and of data outside of the package, and nothing else"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// A step from a value to a member of it.
enum Link<'a> {
    Member(&'a str),
    Index(&'a Json),
}

impl<'a> Link<'a> {
    /// The member's name, if the text says it.
    fn name(&self) -> Option<&'a str> {
        match self {
            Self::Member(name) => Some(name),
            Self::Index(index) => {
                index.pointer("/String/value").or_else(|| index.pointer("/RawString/value"))?.as_str()
            }
        }
    }
}

/// What a reference begins with, and the steps from there.
fn chain(reference: &Json) -> (&Json, Vec<Link<'_>>) {
    let (mut root, mut links) = (reference, Vec::new());
    loop {
        let member = root.pointer("/RefDot/field/1").and_then(Json::as_str);
        let (next, link) = match (
            root.pointer("/RefDot/refr"),
            member,
            root.pointer("/RefBrack/refr"),
            root.pointer("/RefBrack/index"),
        ) {
            (Some(next), Some(member), _, _) => (next, Link::Member(member)),
            (_, _, Some(next), Some(index)) => (next, Link::Index(index)),
            _ => break,
        };
        links.push(link);
        root = next;
    }
    links.reverse();
    (root, links)
}

fn variable(tree: &Json) -> Option<&str> {
    tree.pointer("/Var/value").and_then(Json::as_str)
}

fn variables<'a>(tree: &'a Json, found: &mut BTreeSet<&'a str>) {
    found.extend(variable(tree));
    match tree {
        Json::Array(items) => items.iter().for_each(|item| variables(item, found)),
        Json::Object(members) => members.values().for_each(|member| variables(member, found)),
        _ => {}
    }
}
