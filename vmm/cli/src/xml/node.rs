//! Elements that are read piece by piece, so that what nobody reads is noticed.

use std::cell::RefCell;

use super::tree::Element;
use super::{Lenient, XmlError};

/// What becomes of that which nobody reads.
#[derive(Debug, Default)]
pub struct Leftovers {
    lenient: bool,
    ignored: RefCell<Vec<String>>,
}

impl Leftovers {
    pub fn new(lenient: bool) -> Self {
        Self { lenient, ..Self::default() }
    }

    pub fn with<T>(self, value: T) -> Lenient<T> {
        Lenient { value, ignored: self.ignored.into_inner() }
    }

    fn found(&self, path: String) -> Result<(), XmlError> {
        if !self.lenient {
            return Err(XmlError::Unknown { path });
        }
        self.ignored.borrow_mut().push(path);
        Ok(())
    }
}

/// An element of which parts have been read.
pub struct Node<'a> {
    path: String,
    element: Element,
    leftovers: &'a Leftovers,
}

impl<'a> Node<'a> {
    pub fn root(element: Element, leftovers: &'a Leftovers) -> Self {
        Self { path: format!("/{}", element.name), element, leftovers }
    }

    /// Reads the element; what `read` leaves is not supported.
    pub fn read<T>(mut self, read: impl FnOnce(&mut Self) -> Result<T, XmlError>) -> Result<T, XmlError> {
        let value = read(&mut self)?;
        if !self.element.text.trim().is_empty() {
            self.leftovers.found(format!("{}/text()", self.path))?;
        }
        for (name, _) in &self.element.attributes {
            self.leftovers.found(format!("{}/@{name}", self.path))?;
        }
        for child in &self.element.children {
            self.leftovers.found(format!("{}/{}", self.path, child.name))?;
        }
        Ok(value)
    }

    pub fn name(&self) -> &str {
        &self.element.name
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes an attribute.
    pub fn attribute(&mut self, name: &str) -> Option<String> {
        let at = self.element.attributes.iter().position(|(found, _)| found == name)?;
        Some(self.element.attributes.remove(at).1)
    }

    /// Takes an attribute that must be there.
    pub fn require(&mut self, name: &str, expected: &str) -> Result<String, XmlError> {
        self.attribute(name).ok_or_else(|| XmlError::Missing {
            path: format!("{}/@{name}", self.path),
            expected: expected.into(),
        })
    }

    /// Takes an attribute and converts it.
    pub fn convert<T>(
        &mut self,
        name: &str,
        expected: &str,
        convert: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, XmlError> {
        let Some(found) = self.attribute(name) else { return Ok(None) };
        convert(&found).map(Some).ok_or_else(|| self.wrong(&format!("/@{name}"), found, expected))
    }

    /// Takes a number.
    pub fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, XmlError> {
        self.convert(name, "a number in range", |text| text.parse().ok())
    }

    /// Takes `yes` or `no`, or `on` or `off`.
    pub fn switch(&mut self, name: &str, on: &str, off: &str) -> Result<Option<bool>, XmlError> {
        self.convert(name, &format!("{on} or {off}"), |text| {
            (text == on).then_some(true).or_else(|| (text == off).then_some(false))
        })
    }

    /// Takes an attribute that may only say what is so anyway.
    pub fn neutral(&mut self, name: &str, values: &[&str]) -> Result<(), XmlError> {
        let expected = values.join(" or ");
        self.convert(name, &expected, |text| values.contains(&text).then_some(())).map(drop)
    }

    /// Takes the text.
    pub fn text(&mut self) -> String {
        std::mem::take(&mut self.element.text)
    }

    /// Takes the text and converts it.
    pub fn value<T>(
        &mut self,
        expected: &str,
        convert: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, XmlError> {
        let found = self.text();
        convert(found.trim()).ok_or_else(|| self.wrong("", found, expected))
    }

    /// Takes and reads the child of this name, if there is one.
    pub fn child<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Node<'a>) -> Result<T, XmlError>,
    ) -> Result<Option<T>, XmlError> {
        let mut found = self.take(name);
        let Some(first) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(XmlError::Twice { path: format!("{}/{name}", self.path) });
        }
        let node = Node { path: format!("{}/{name}", self.path), element: first, leftovers: self.leftovers };
        node.read(read).map(Some)
    }

    /// Takes and reads all children of this name.
    pub fn each<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(&mut Node<'a>) -> Result<T, XmlError>,
    ) -> Result<Vec<T>, XmlError> {
        let mut values = Vec::new();
        for (index, element) in self.take(name).enumerate() {
            let path = format!("{}/{name}[{}]", self.path, index + 1);
            values.push(Node { path, element, leftovers: self.leftovers }.read(&mut read)?);
        }
        Ok(values)
    }

    /// Whether there is a child of this name, which must be empty.
    pub fn flag(&mut self, name: &str) -> Result<bool, XmlError> {
        Ok(self.child(name, |_| Ok(()))?.is_some())
    }

    /// The error of a value.
    pub fn wrong(&self, below: &str, found: impl Into<String>, expected: &str) -> XmlError {
        XmlError::Value {
            path: format!("{}{below}", self.path),
            found: found.into(),
            expected: expected.into(),
        }
    }

    fn take(&mut self, name: &str) -> std::vec::IntoIter<Element> {
        let children = std::mem::take(&mut self.element.children);
        let (taken, left): (Vec<_>, Vec<_>) = children.into_iter().partition(|child| child.name == name);
        self.element.children = left;
        taken.into_iter()
    }
}
