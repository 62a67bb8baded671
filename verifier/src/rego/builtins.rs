//! Built-in functions whose results can be of any size, whatever their arguments are, or differ each time: bounded, or
//! absent. Those that reach the network, the clock or the environment are not compiled in.

use regorus::{Engine, Extension, Value};

/// Without this bound `numbers.range(1, 1e12)` would take all memory in one step, which no timer can stop.
const MAX_RANGE: u64 = 65_536;

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("numbers.range takes two integers at most {MAX_RANGE} apart")]
    Range,
    #[error("{0} is not available in policies: its result can be of any size, or differ each time")]
    Absent(&'static str),
}

/// Replaces the functions in `engine`.
pub fn bound(engine: &mut Engine) -> Result<(), String> {
    let mut add = |name: &'static str, arguments, function: Box<dyn Extension>| {
        engine.add_extension(name.to_owned(), arguments, function).map_err(|error| format!("{error:#}"))
    };
    add("numbers.range", 2, Box::new(|arguments: Vec<Value>| Ok(range(&arguments)?)))?;
    for (name, arguments) in [("numbers.range_step", 3), ("bits.lsh", 2), ("rand.intn", 2)] {
        add(name, arguments, Box::new(move |_: Vec<Value>| Err(Refused::Absent(name).into())))?;
    }
    Ok(())
}

fn range(arguments: &[Value]) -> Result<Value, Refused> {
    let [first, last] = arguments else { return Err(Refused::Range) };
    let (Ok(first), Ok(last)) = (first.as_i64(), last.as_i64()) else { return Err(Refused::Range) };
    if first.abs_diff(last) > MAX_RANGE {
        return Err(Refused::Range);
    }
    let ascending = first.min(last)..=first.max(last);
    let mut numbers: Vec<Value> = ascending.map(Value::from).collect();
    if first > last {
        numbers.reverse();
    }
    Ok(Value::from(numbers))
}
