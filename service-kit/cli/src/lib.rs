//! What the command lines of services have in common: TLS, requests with progress, events, problem documents in words,
//! tables, completions and manual pages. Knows nothing of ours.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod events;
mod exchange;
mod extra;
mod patience;
mod print;
mod tls;
mod upload;

pub use events::{Ended, Event, subscribe};
pub use exchange::{Exchanged, exchange};
pub use extra::Extra;
pub use patience::Patience;
pub use print::{Format, List, print_json, print_table, utc};
pub use tls::{Identity, TlsFiles, connect};
