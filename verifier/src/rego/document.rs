//! JSON on its way into a policy and out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

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

impl From<&str> for Document {
    fn from(text: &str) -> Self {
        Self(Value::from(text))
    }
}

impl From<u32> for Document {
    fn from(number: u32) -> Self {
        Self(Value::from(number))
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

    /// An array of objects that all have the members `names`: ten thousand are made in a fraction of the time that their
    /// JSON takes.
    pub fn table<const N: usize>(names: [&str; N], rows: impl Iterator<Item = [Self; N]>) -> Self {
        let names = names.map(Value::from);
        let blank = names.iter().map(|name| (name.clone(), Value::Null)).collect::<BTreeMap<_, _>>();
        let blank = Value::from(blank);
        // The members are put in order once, not for each row.
        let object = |row: [Self; N]| -> Value {
            let mut object = blank.clone();
            if let Value::Object(members) = &mut object {
                let members = Arc::make_mut(members);
                for (name, Self(value)) in names.iter().zip(row) {
                    if let Some(member) = members.get_mut(name) {
                        *member = value;
                    }
                }
            }
            object
        };
        Self(Value::from(rows.map(object).collect::<Vec<_>>()))
    }

    /// An array with the items of this one and of `others` after them.
    #[must_use]
    pub fn followed_by(mut self, others: Self) -> Self {
        if let (Value::Array(items), Value::Array(others)) = (&mut self.0, others.0) {
            Arc::make_mut(items).extend(Arc::unwrap_or_clone(others));
        }
        self
    }

    /// Puts `member` as `name` into the object at `path`, which consists of names and of positions in arrays. If there is no
    /// such object, nothing is done.
    pub fn put<const N: usize>(&mut self, path: [&str; N], name: &str, Self(member): Self) {
        let found = path.into_iter().try_fold(&mut self.0, |value, step| match value {
            Value::Object(members) => Arc::make_mut(members).get_mut(&Value::from(step)),
            Value::Array(items) => Arc::make_mut(items).get_mut(step.parse().ok()?),
            _ => None,
        });
        if let Some(Value::Object(members)) = found {
            Arc::make_mut(members).insert(Value::from(name), member);
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_and_what_is_put_somewhere_are_what_their_json_is() {
        let row = |path: &str| [Document::from(path), Document::from(10_u32)];
        let table = Document::table(["path", "index"], ["/b", "/a"].into_iter().map(row));
        let json = json!([{ "path": "/b", "index": 10 }, { "path": "/a", "index": 10 }]);
        assert_eq!(table, Document::from(&json));

        let empty = json!({ "logs": [{ "type": "x" }, { "type": "y" }] });
        let mut document = Document::from(&empty);
        document.put(["logs", "1"], "data", table.clone());
        let full = json!({ "logs": [{ "type": "x" }, { "type": "y", "data": json }] });
        assert_eq!(document, Document::from(full));

        let mut document = Document::from(&empty);
        document.put(["logs", "2"], "data", table.clone());
        document.put(["logs", "x"], "data", table.clone());
        document.put(["logs", "0", "type"], "data", table.clone());
        document.put(["log"], "data", table);
        assert_eq!(document, Document::from(&empty));
    }
}
