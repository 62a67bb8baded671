//! What the service does, whatever database it has.

mod admin;
mod audit;
mod concurrency;
mod corim;
mod kbs;
mod openapi;
mod operators;
mod public;
mod release;
mod replicas;
mod resources;
mod secgear;
mod tokens;
