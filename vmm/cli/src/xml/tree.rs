//! Elements: read with bounds, and written in libvirt's style.

use std::borrow::Cow;
use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

use super::XmlError;

/// Longest document. Without this bound and the next two, a document could make the program run out of memory or stack.
const MAX_LEN: usize = 1 << 20;
/// Most elements.
const MAX_ELEMENTS: usize = 20_000;
/// Deepest nesting.
const MAX_DEPTH: usize = 16;
/// Most attributes of an element. They are compared with each other, so their number counts twice.
const MAX_ATTRIBUTES: usize = 64;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
    pub text: String,
}

impl Element {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// An element that holds text only.
    pub fn text(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), ..Self::default() }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "numbers and results of display() are given as they come"
    )]
    pub fn attribute(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.push((name.into(), value.to_string()));
        self
    }

    pub fn maybe(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.attribute(name, value),
            None => self,
        }
    }

    pub fn child(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    pub fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    pub fn is_bare(&self) -> bool {
        self.attributes.is_empty() && self.children.is_empty() && self.text.is_empty()
    }

    /// Reads a document that is one element.
    pub fn parse(text: &str) -> Result<Self, XmlError> {
        if text.len() > MAX_LEN {
            return Err(XmlError::TooMuch { what: "bytes", limit: MAX_LEN });
        }
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        let (mut open, mut root, mut elements) = (Vec::<Self>::new(), None, 0);
        loop {
            let event = reader.read_event().map_err(|source| XmlError::Syntax {
                at: reader.error_position(),
                source: Box::new(source),
            })?;
            match event {
                Event::Start(start) => {
                    elements += 1;
                    if elements > MAX_ELEMENTS {
                        return Err(XmlError::TooMuch { what: "elements", limit: MAX_ELEMENTS });
                    }
                    if open.len() >= MAX_DEPTH {
                        return Err(XmlError::TooMuch { what: "levels of elements", limit: MAX_DEPTH });
                    }
                    if open.is_empty() && root.is_some() {
                        return Err(XmlError::Incomplete { found: "a second element" });
                    }
                    open.push(Self::from_start(&start, reader.buffer_position())?);
                }
                Event::End(_) => {
                    let Some(mut element) = open.pop() else { continue };
                    // Between elements, white space is layout.
                    if !element.children.is_empty() && element.text.trim().is_empty() {
                        element.text.clear();
                    }
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => root = Some(element),
                    }
                }
                Event::Text(found) => append(&mut open, &found.xml10_content())?,
                Event::CData(found) => append(&mut open, &found.xml10_content())?,
                Event::GeneralRef(found) => {
                    let name = found.xml10_content().into_owned();
                    let entity = || XmlError::Entity { name: name.clone() };
                    let text = match found.resolve_char_ref().map_err(|_| entity())? {
                        Some(character) => character.to_string(),
                        None => {
                            quick_xml::escape::resolve_predefined_entity(&name).ok_or_else(entity)?.to_owned()
                        }
                    };
                    append(&mut open, &text)?;
                }
                Event::Comment(_) | Event::Decl(_) => {}
                Event::DocType(_) => return Err(XmlError::Refused { what: "a document type" }),
                Event::PI(_) => return Err(XmlError::Refused { what: "a processing instruction" }),
                Event::Empty(_) => return Err(XmlError::Incomplete { found: "an element without an end" }),
                Event::Eof => break,
            }
        }
        if !open.is_empty() {
            return Err(XmlError::Incomplete { found: "an element without an end" });
        }
        root.ok_or(XmlError::Incomplete { found: "no element" })
    }

    fn from_start(start: &BytesStart<'_>, at: u64) -> Result<Self, XmlError> {
        let mut element = Self::new(start.name().as_ref());
        for attribute in start.attributes() {
            let syntax = |source: quick_xml::Error| XmlError::Syntax { at, source: Box::new(source) };
            let attribute = attribute.map_err(|source| syntax(source.into()))?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(syntax)?;
            check(&value)?;
            element.attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
            if element.attributes.len() > MAX_ATTRIBUTES {
                return Err(XmlError::TooMuch { what: "attributes of an element", limit: MAX_ATTRIBUTES });
            }
        }
        Ok(element)
    }

    /// Writes the element as libvirt would.
    pub fn print(&self) -> Result<String, XmlError> {
        let mut out = String::new();
        self.print_at(0, &mut out)?;
        Ok(out)
    }

    fn print_at(&self, depth: usize, out: &mut String) -> Result<(), XmlError> {
        let indent = "  ".repeat(depth);
        // Writing to a string cannot fail.
        let _ = write!(out, "{indent}<{}", self.name);
        for (name, value) in &self.attributes {
            let _ = write!(out, " {name}='{}'", escaped(value, true)?);
        }
        if self.children.is_empty() && self.text.is_empty() {
            out.push_str("/>\n");
            return Ok(());
        }
        out.push('>');
        if self.children.is_empty() {
            out.push_str(&escaped(&self.text, false)?);
        } else {
            out.push('\n');
            for child in &self.children {
                child.print_at(depth + 1, out)?;
            }
            out.push_str(&indent);
        }
        let _ = writeln!(out, "</{}>", self.name);
        Ok(())
    }
}

fn append(open: &mut [Element], text: &str) -> Result<(), XmlError> {
    check(text)?;
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim_matches(['\u{feff}', ' ', '\t', '\r', '\n']).is_empty() => {}
        None => return Err(XmlError::Incomplete { found: "text outside of the element" }),
    }
    Ok(())
}

/// Refuses characters that XML 1.0 does not have (2.2), written as such or by number.
fn check(text: &str) -> Result<(), XmlError> {
    let has = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(has) { Ok(()) } else { Err(XmlError::Character { text: text.into() }) }
}

fn escaped(text: &str, attribute: bool) -> Result<Cow<'_, str>, XmlError> {
    check(text)?;
    let special = |c: char| matches!(c, '&' | '<' | '>' | '\'' | '"' | '\t' | '\n' | '\r');
    if !text.contains(special) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' if attribute => out.push_str("&apos;"),
            // Readers turn these into others unless they are written by number.
            '\r' => out.push_str("&#13;"),
            '\n' if attribute => out.push_str("&#10;"),
            '\t' if attribute => out.push_str("&#9;"),
            c => out.push(c),
        }
    }
    Ok(Cow::Owned(out))
}
