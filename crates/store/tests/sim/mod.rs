//! The store on a simulated disk, beside a model of what it must hold.

pub mod disk;
pub mod model;
mod more;
pub mod run;
