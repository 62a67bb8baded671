//! The REST interface on a Unix socket: paths, JSON and status codes of Cloud Hypervisor's v1 interface.
//!
//! One [table](calls) says which calls there are; requests are routed by it, and the OpenAPI document is made of it.
//! A thread of its own serves connections and leaves all work to the thread that owns the VM.

mod calls;
mod connections;
mod listener;
mod metrics;
mod openapi;
mod response;
mod server;
mod stream;

pub use calls::{BASE, Call, Method, Refusal, Request, decode};
pub use listener::Listener;
pub use openapi::document;
pub use server::Server;

#[cfg(test)]
mod tests;
