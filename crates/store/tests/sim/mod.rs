//! The store on a simulated disk, beside a model of what it must hold.

pub mod disk;
mod flips;
mod interleave;
pub mod model;
mod more;
pub mod random;
pub mod run;
