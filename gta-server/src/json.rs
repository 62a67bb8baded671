//! Objects made member by member.

use serde_json::Value;

/// `object` with one more member.
pub fn with(mut object: Value, name: &str, member: impl Into<Value>) -> Value {
    if let Value::Object(members) = &mut object {
        members.insert(name.to_owned(), member.into());
    }
    object
}
