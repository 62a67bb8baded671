//! JSON on its way into a policy and out of it.

use std::collections::BTreeMap;

use regorus::Value;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};

/// Deeper results are no use to anybody; without the bound a policy chooses how deep the stack gets.
const MAX_DEPTH: usize = 64;

/// A JSON document in the interpreter's form, converted once for any number of policies. Clones share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document(pub(super) Value);

impl From<&Json> for Document {
    fn from(json: &Json) -> Self {
        Self(from_json(json))
    }
}

impl From<Json> for Document {
    fn from(json: Json) -> Self {
        Self::from(&json)
    }
}

impl Document {
    /// The document `null`.
    #[must_use]
    pub const fn null() -> Self {
        Self(Value::Null)
    }

    /// The member at `path`, such as `["platform", "lifecycle"]`.
    #[must_use]
    pub fn at<const N: usize>(&self, path: [&str; N]) -> Option<Self> {
        let found = path.into_iter().try_fold(&self.0, |value, name| match &value[name] {
            Value::Undefined => None,
            member => Some(member),
        });
        found.cloned().map(Self)
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

/// As JSON.
impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'a> FromIterator<(&'a str, Document)> for Document {
    /// An object with these members.
    fn from_iter<T: IntoIterator<Item = (&'a str, Self)>>(members: T) -> Self {
        let members = members.into_iter().map(|(name, value)| (Value::from(name), value.0));
        Self(Value::from(members.collect::<BTreeMap<_, _>>()))
    }
}

/// By hand: the library's own conversion takes the JSON away, and most of it is still needed.
fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(_) => Value::from(json.clone()),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(members) => {
            let members = members.iter().map(|(name, value)| (Value::from(name.as_str()), from_json(value)));
            Value::from(members.collect::<BTreeMap<_, _>>())
        }
    }
}

/// Writes a result as JSON; a set becomes an array.
pub fn to_json(value: &Value, max_values: usize) -> Result<Json, String> {
    Writer { left: max_values }.write(value, 0)
}

struct Writer {
    left: usize,
}

impl Writer {
    fn write(&mut self, value: &Value, depth: usize) -> Result<Json, String> {
        self.left = self.left.checked_sub(1).ok_or("has too many values")?;
        if depth > MAX_DEPTH {
            return Err("is nested too deeply".to_owned());
        }
        match value {
            Value::Array(items) => items.iter().map(|item| self.write(item, depth + 1)).collect(),
            Value::Set(items) => items.iter().map(|item| self.write(item, depth + 1)).collect(),
            Value::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members.iter() {
                    let Value::String(name) = name else {
                        return Err("has a member whose name is not a string".to_owned());
                    };
                    object.insert(name.to_string(), self.write(member, depth + 1)?);
                }
                Ok(Json::Object(object))
            }
            scalar => serde_json::to_value(scalar).map_err(|error| format!("is not JSON: {error}")),
        }
    }
}
