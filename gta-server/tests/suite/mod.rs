//! The same stories on every database.

mod attest;
mod audit;
mod boot;
mod certificate;
mod certified;
mod enrol;
mod files;
mod foreign;
mod health;
mod identity;
mod integrity;
mod keys;
mod nonces;
mod openapi;
mod registered;
mod rewrap;
mod tenants;
mod virtcca;
mod webhooks;
