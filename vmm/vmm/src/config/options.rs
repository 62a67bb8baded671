//! The `key=value,key=value` grammar of command-line options.
//!
//! A comma separates, except within double quotes or square brackets, so that a path may contain one.

use api::config::{RateLimiterConfig, TokenBucketConfig};
use thiserror::Error;

/// An option on the command line is not what it should be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OptionsError {
    /// A part has no `=`.
    #[error("{flag}: found {part:?}, expected key=value")]
    NotAPair {
        /// The command-line flag.
        flag: &'static str,
        /// What was found.
        part: String,
    },
    /// A key that the flag does not have.
    #[error("{flag}: unknown key {key:?}; it takes {known}")]
    UnknownKey {
        /// The command-line flag.
        flag: &'static str,
        /// What was found.
        key: String,
        /// The keys that exist.
        known: String,
    },
    /// A key was given twice.
    #[error("{flag}: {key} is given twice")]
    Duplicate {
        /// The command-line flag.
        flag: &'static str,
        /// The key.
        key: String,
    },
    /// A quote or bracket is not closed.
    #[error("{flag}: a quote or bracket in {text:?} is not closed")]
    Unbalanced {
        /// The command-line flag.
        flag: &'static str,
        /// The whole argument.
        text: String,
    },
    /// A key that must be there is not.
    #[error("{flag}: {key}= is missing")]
    Missing {
        /// The command-line flag.
        flag: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A value is of the wrong kind.
    #[error("{flag}: {key}={value}: expected {expected}")]
    Value {
        /// The command-line flag.
        flag: &'static str,
        /// The key.
        key: String,
        /// What was found.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// The pairs of one flag.
#[derive(Debug)]
pub struct Options {
    flag: &'static str,
    pairs: Vec<(String, String)>,
}

impl Options {
    /// Parses `text`, in which only `known` keys may occur; an empty text has no pairs.
    pub fn parse(flag: &'static str, text: &str, known: &[&str]) -> Result<Self, OptionsError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in split(flag, text)?.into_iter().filter(|_| !text.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(OptionsError::NotAPair { flag, part });
            };
            if !known.contains(&key) {
                return Err(OptionsError::UnknownKey { flag, key: key.into(), known: known.join(", ") });
            }
            if pairs.iter().any(|(earlier, _)| earlier == key) {
                return Err(OptionsError::Duplicate { flag, key: key.into() });
            }
            pairs.push((key.into(), value.into()));
        }
        Ok(Self { flag, pairs })
    }

    /// The value of `key`, if it was given.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The value of `key`, which must be there.
    pub fn require(&self, key: &'static str) -> Result<&str, OptionsError> {
        self.get(key).ok_or(OptionsError::Missing { flag: self.flag, key })
    }

    /// A switch: `on`, `off`, `true` or `false`; off when absent.
    pub fn switch(&self, key: &str) -> Result<bool, OptionsError> {
        match self.get(key) {
            Some("on" | "true") => Ok(true),
            None | Some("off" | "false") => Ok(false),
            Some(value) => Err(self.wrong(key, value, "on or off")),
        }
    }

    /// A switch that is on when absent.
    pub fn switch_on(&self, key: &str) -> Result<bool, OptionsError> {
        if self.get(key).is_none() { Ok(true) } else { self.switch(key) }
    }

    /// Token buckets: `bw_size`, `bw_one_time_burst`, `bw_refill_time`, and the same with `ops_`.
    pub fn rate_limits(&self) -> Result<Option<RateLimiterConfig>, OptionsError> {
        let [bandwidth, ops] = [
            ["bw_size", "bw_one_time_burst", "bw_refill_time"],
            ["ops_size", "ops_one_time_burst", "ops_refill_time"],
        ]
        .map(|keys| self.bucket(keys));
        let limits = RateLimiterConfig { bandwidth: bandwidth?, ops: ops? };
        Ok((limits != RateLimiterConfig::default()).then_some(limits))
    }

    fn bucket(
        &self,
        [size_key, burst_key, refill_key]: [&'static str; 3],
    ) -> Result<Option<TokenBucketConfig>, OptionsError> {
        if [size_key, burst_key, refill_key].iter().all(|key| self.get(key).is_none()) {
            return Ok(None);
        }
        self.require(size_key)?;
        self.require(refill_key)?;
        let size = self.convert(size_key, "a size such as 10M", size)?;
        let one_time_burst = self.convert(burst_key, "a size such as 10M", self::size)?;
        let refill_time = self.convert(refill_key, "a number of milliseconds", |value| value.parse().ok())?;
        Ok(Some(TokenBucketConfig {
            size: size.unwrap_or_default(),
            one_time_burst,
            refill_time: refill_time.unwrap_or_default(),
        }))
    }

    /// A value that `convert` understands, if the key was given.
    pub fn convert<T>(
        &self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, OptionsError> {
        self.get(key).map(|value| convert(value).ok_or_else(|| self.wrong(key, value, expected))).transpose()
    }

    fn wrong(&self, key: &str, value: &str, expected: &'static str) -> OptionsError {
        OptionsError::Value { flag: self.flag, key: key.into(), value: value.into(), expected }
    }
}

/// A size in bytes, or in KiB, MiB, GiB with the suffixes K, M and G.
pub fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Numbers in brackets: `[1,3-5]`. One number needs none.
pub fn integers<T: TryFrom<u32>>(text: &str) -> Option<Vec<T>> {
    /// Without it a range could fill memory.
    const MOST: usize = 4096;
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let mut numbers = Vec::new();
    for part in inner.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || (last - first) as usize >= MOST - numbers.len() {
            return None;
        }
        for number in first..=last {
            numbers.push(T::try_from(number).ok()?);
        }
    }
    Some(numbers)
}

/// Numbers and the numbers that each is bound to: `[0@[1,3-5],1@[2]]`.
pub fn affinities<T: TryFrom<u32>>(text: &str) -> Option<Vec<(T, Vec<u32>)>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let one = |part: String| {
        let (number, bound) = part.split_once('@')?;
        Some((T::try_from(number.parse().ok()?).ok()?, integers(bound)?))
    };
    split("", inner).ok()?.into_iter().map(one).collect()
}

/// Splits at the commas that stand outside of quotes and brackets, and drops the quotes.
fn split(flag: &'static str, text: &str) -> Result<Vec<String>, OptionsError> {
    let unbalanced = || OptionsError::Unbalanced { flag, text: text.into() };
    let mut parts = vec![String::new()];
    let (mut quoted, mut depth) = (false, 0_u32);
    for character in text.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                continue;
            }
            '[' if !quoted => depth += 1,
            ']' if !quoted => depth = depth.checked_sub(1).ok_or_else(unbalanced)?,
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    if quoted || depth > 0 { Err(unbalanced()) } else { Ok(parts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, OptionsError> {
        Options::parse("--disk", text, &["path", "readonly", "serial"])
    }

    #[test]
    fn commas_within_quotes_and_brackets_do_not_split() {
        let options = parse(r#"path="/srv/a,b.img",serial=[1,2],readonly=on"#).unwrap();
        assert_eq!(options.get("path"), Some("/srv/a,b.img"));
        assert_eq!(options.get("serial"), Some("[1,2]"));
        assert!(options.switch("readonly").unwrap());
    }

    #[test]
    fn mistakes_are_named() {
        let message = |text| parse(text).unwrap_err().to_string();
        assert_eq!(message("paht=/x"), "--disk: unknown key \"paht\"; it takes path, readonly, serial");
        assert_eq!(message("path=/x,path=/y"), "--disk: path is given twice");
        assert_eq!(message("/x"), "--disk: found \"/x\", expected key=value");
        assert_eq!(message("path=\"/x"), "--disk: a quote or bracket in \"path=\\\"/x\" is not closed");
        assert_eq!(message("path=]"), "--disk: a quote or bracket in \"path=]\" is not closed");
        assert_eq!(
            parse("serial=x").unwrap().require("path").unwrap_err().to_string(),
            "--disk: path= is missing"
        );
        let wrong = parse("path=/x,readonly=maybe").unwrap().switch("readonly").unwrap_err();
        assert_eq!(wrong.to_string(), "--disk: readonly=maybe: expected on or off");
    }

    #[test]
    fn affinities_are_pairs_of_a_number_and_numbers() {
        assert_eq!(affinities("[0@[1,3-5],1@[2]]"), Some(vec![(0_u16, vec![1, 3, 4, 5]), (1, vec![2])]));
        for wrong in ["0@[1]", "[0]", "[0@]", "[65536@[1]]", "[0@[1]", "[0@[3-1]]"] {
            assert_eq!(affinities::<u16>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_take_binary_suffixes_and_do_not_wrap() {
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("512M"), Some(512 << 20));
        assert_eq!(size("2G"), Some(2 << 30));
        assert_eq!(size("1m"), None);
        assert_eq!(size("99999999999G"), None);
        assert_eq!(size(""), None);
    }
}
