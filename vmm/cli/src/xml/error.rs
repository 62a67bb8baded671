//! What can be wrong with a document.

use thiserror::Error;

/// What can be wrong with a document.
#[derive(Debug, Error)]
pub enum XmlError {
    /// It is not XML.
    #[error("not XML, at byte {at}")]
    Syntax {
        /// Where.
        at: u64,
        /// Why.
        #[source]
        source: Box<quick_xml::Error>,
    },
    /// It has more of something than a domain has.
    #[error("found more than {limit} {what}, expected a domain")]
    TooMuch {
        /// What it has.
        what: &'static str,
        /// Most of it.
        limit: usize,
    },
    /// It has a part that is refused unseen.
    #[error("found {what}, expected elements, attributes and text only")]
    Refused {
        /// The part.
        what: &'static str,
    },
    /// It has an entity that XML does not define.
    #[error("found the entity &{name};, expected one of &lt; &gt; &amp; &apos; &quot; or a number")]
    Entity {
        /// Its name.
        name: String,
    },
    /// It is not whole.
    #[error("found {found}, expected one whole element")]
    Incomplete {
        /// What was found.
        found: &'static str,
    },
    /// An element or attribute that the subset does not have.
    #[error("{path}: not supported; take it out, or give --lenient to pass over it")]
    Unknown {
        /// Where it is.
        path: String,
    },
    /// An element that must be there once.
    #[error("{path}: found none, expected {expected}")]
    Missing {
        /// Where it should be.
        path: String,
        /// What it should be.
        expected: String,
    },
    /// An element that may be there once.
    #[error("{path}: found more than one, expected one")]
    Twice {
        /// Where they are.
        path: String,
    },
    /// A value that cannot be used.
    #[error("{path}: found {found:?}, expected {expected}")]
    Value {
        /// Where it is.
        path: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// A text that XML cannot hold.
    #[error("{text:?} holds a character that XML cannot hold: change it, or use --format json")]
    Character {
        /// The text.
        text: String,
    },
    /// What was written does not mean what it was written from.
    #[error("this domain has no XML form: use --format json")]
    NoForm,
}
