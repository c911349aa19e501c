//! Whole-system tests, in one binary because linking is slow.

mod bad_input;
mod clients;
mod conversations;
mod crash;
mod lifecycle;
mod limits;
mod store;
