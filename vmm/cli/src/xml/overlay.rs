//! What XML has no word for: fields of the configuration's JSON form, by their path.

use serde_json::Value;

/// Fields that make one JSON value of another, each with its JSON pointer (RFC 6901).
pub fn difference(from: &Value, to: &Value) -> Vec<(String, Value)> {
    let mut fields = Vec::new();
    walk(String::new(), from, to, &mut fields);
    fields
}

fn walk(pointer: String, from: &Value, to: &Value, fields: &mut Vec<(String, Value)>) {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            for (name, value) in to {
                let pointer = format!("{pointer}/{}", escape(name));
                match from.get(name) {
                    Some(from) => walk(pointer, from, value, fields),
                    None => fields.push((pointer, value.clone())),
                }
            }
            for (name, value) in from {
                if !to.contains_key(name) {
                    // What is not written has its default: an empty list, or nothing.
                    let default = if value.is_array() { Value::Array(Vec::new()) } else { Value::Null };
                    fields.push((format!("{pointer}/{}", escape(name)), default));
                }
            }
        }
        (Value::Array(from), Value::Array(to)) if from.len() == to.len() => {
            for (index, (from, to)) in from.iter().zip(to).enumerate() {
                walk(format!("{pointer}/{index}"), from, to, fields);
            }
        }
        (from, to) if from == to => {}
        (_, to) => fields.push((pointer, to.clone())),
    }
}

/// Sets one field; whether its parent is there.
pub fn set(root: &mut Value, pointer: &str, value: Value) -> bool {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return false };
    match root.pointer_mut(parent) {
        Some(Value::Object(object)) => {
            object.insert(name.replace("~1", "/").replace("~0", "~"), value);
            true
        }
        Some(Value::Array(array)) => {
            let slot = name.parse().ok().and_then(|index: usize| array.get_mut(index));
            slot.map(|slot| *slot = value).is_some()
        }
        _ => false,
    }
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_difference_makes_one_of_the_other() {
        let from = json!({"a": 1, "b": [1, {"c": 2, "gone": 3}], "l": [1], "x/y": 1});
        let to = json!({"a": 1, "b": [1, {"c": 4}], "l": [1, 2], "x/y": 2, "new": {}});
        let fields = difference(&from, &to);
        let pointers: Vec<_> = fields.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/b/1/c", "/b/1/gone", "/l", "/new", "/x~1y"]);
        let mut made = from;
        for (pointer, value) in fields {
            assert!(set(&mut made, &pointer, value));
        }
        assert_eq!(made, json!({"a":1,"b":[1,{"c":4,"gone":null}],"l":[1,2],"x/y":2,"new":{}}));
    }

    #[test]
    fn a_field_without_a_place_is_noticed() {
        for pointer in ["", "a", "/no/such", "/l/7", "/a/b"] {
            assert!(!set(&mut json!({"a": 1, "l": []}), pointer, json!(1)), "{pointer}");
        }
    }
}
