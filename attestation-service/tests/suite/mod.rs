//! What the service does, whatever database it has.

mod admin;
mod audit;
mod concurrency;
mod operators;
mod public;
mod replicas;
mod resources;
mod tokens;
