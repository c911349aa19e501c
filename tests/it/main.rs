//! Whole-system tests, in one binary because linking is slow.

mod clients;
mod conversations;
mod lifecycle;
mod limits;
