//! Whole-system tests, in one binary because linking is slow.

mod auth;
mod bad_input;
mod bench;
mod clients;
mod control;
mod conversations;
mod crash;
mod definitions;
mod detection;
mod lifecycle;
mod limits;
mod mapping;
mod mqtt;
mod openwire;
mod otlp;
mod store;
mod timed;
