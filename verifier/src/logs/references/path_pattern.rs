//! Paths that are not judged.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// What a regular expression begins with.
const EXPRESSION: &str = "regex:";
/// Bytes that a compiled expression may take.
const COMPILED: usize = 1 << 20;
/// Whoever excludes this excludes everything.
const ANY: &str = "/\u{1}/\u{1}";

/// An absolute path; or with `/*` at its end all that begin like it: `/var/log/*`; or, after `regex:`, an expression that the
/// whole path matches (the syntax of the crate `regex`, which takes linear time).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern {
    text: String,
    expression: Option<Regex>,
}

impl PathPattern {
    /// The pattern of all paths whose beginning `expression` matches.
    ///
    /// # Errors
    /// It is no regular expression, or excludes everything.
    pub fn beginning(expression: &str) -> Result<Self, PathPatternError> {
        Self::try_from(format!("{EXPRESSION}(?:{expression})(?s:.*)"))
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        // A path that climbs out of the directory only seems to be in it.
        let climbs = || path.split('/').any(|part| part == "..");
        match (&self.expression, self.text.strip_suffix('*')) {
            (Some(expression), _) => expression.is_match(path) && !climbs(),
            (None, Some(prefix)) => path.starts_with(prefix) && !climbs(),
            (None, None) => path == self.text,
        }
    }
}

impl PartialEq for PathPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathPattern {}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.text
    }
}

/// Text that excludes nothing sensible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} does not say which paths to exclude: expected an absolute path, a directory and /*, or regex: and an \
     expression, and not all of /"
)]
pub struct PathPatternError {
    found: String,
}

impl TryFrom<String> for PathPattern {
    type Error = PathPatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let refused = |text: &str| PathPatternError { found: text.chars().take(200).collect() };
        if let Some(expression) = text.strip_prefix(EXPRESSION) {
            // Alone, too: one that closes a bracket of ours would mean something else.
            let anchored = RegexBuilder::new(expression)
                .size_limit(COMPILED)
                .build()
                .and_then(|_| RegexBuilder::new(&format!("^(?:{expression})$")).size_limit(COMPILED).build());
            return match anchored {
                Ok(compiled) if !compiled.is_match(ANY) && !compiled.is_match("") => {
                    Ok(Self { text, expression: Some(compiled) })
                }
                _ => Err(refused(&text)),
            };
        }
        let prefix = text.strip_suffix('*').unwrap_or(&text);
        let whole = text.len() == prefix.len() || prefix.ends_with('/');
        if prefix.len() > 1 && prefix.starts_with('/') && whole && !prefix.contains('*') {
            return Ok(Self { text, expression: None });
        }
        Err(refused(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn paths_match_as_they_are_written() {
        for (text, inside, outside) in [
            ("/a", &["/a"][..], &["/a/b", "/", "/ab", "a"][..]),
            ("/a/*", &["/a/", "/a/b", "/a/b/c"], &["/a", "/ab", "/a/../b", "/b/a/c"]),
            (
                r"regex:/v\d+/.*\.log",
                &["/v1/a.log", "/v22/a/b.log"],
                &["/v/a.log", "/v1/a.log2", "x/v1/a.log", "/v1/../a.log"],
            ),
            ("regex:/a|/b", &["/a", "/b"], &["/ab", "/a/b", "/b/b"]),
        ] {
            let pattern = pattern(text);
            for path in inside {
                assert!(pattern.matches(path), "{text} {path}");
            }
            for path in outside {
                assert!(!pattern.matches(path), "{text} {path}");
            }
        }
        let beginning = PathPattern::beginning("/tmp|/run").unwrap();
        for (path, expected) in [("/tmp", true), ("/tmpfile", true), ("/run/a\nb", true), ("/usr/tmp", false)]
        {
            assert_eq!(beginning.matches(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_pattern_or_excludes_everything_is_refused() {
        for text in [
            "",
            "a",
            "/",
            "*",
            "/*",
            "/a*",
            "/a/*/b",
            "regex:",
            "regex:.*",
            "regex:/.*",
            "regex:/.+",
            "regex:(",
            "regex:a)|(.*",
            "regex:(?=/a)",
            "regex:a{1000}{1000}",
        ] {
            assert!(PathPattern::try_from(text.to_owned()).is_err(), "{text}");
        }
        for expression in ["", "/", ".*", "(/a)?", "("] {
            assert!(PathPattern::beginning(expression).is_err(), "{expression}");
        }
    }
}
