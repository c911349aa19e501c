//! The store beside a model, on a simulated disk that loses, tears and refuses.
//!
//! `ROADSTEAD_TEST_SIM_RUNS` makes a longer hunt, `ROADSTEAD_TEST_SIM_SEED` says where it begins.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod sim;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use parking_lot::Mutex;
use sim::run::{Tally, run};

const STEPS: usize = 400;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What is wrong with a run, a panic included.
fn problem(seed: u64, is_lying: bool) -> Result<Tally, String> {
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(seed, STEPS, is_lying)));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default())
    })
}

/// Whether the build is one of those that are broken on purpose.
const IS_BROKEN: bool = cfg!(any(feature = "sabotage", feature = "sabotage-index", feature = "sabotage-tail"));

#[test]
fn a_broken_build_is_found_out_and_no_other() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let found = (0..200).find(|&seed| problem(seed, false).is_err());
    panic::set_hook(hook);
    assert_eq!(found.is_some(), IS_BROKEN, "{found:?}");
}

#[test]
#[cfg_attr(
    any(feature = "sabotage", feature = "sabotage-index", feature = "sabotage-tail"),
    ignore = "broken on purpose"
)]
fn the_log_holds_what_the_model_holds_whatever_happens() {
    let (first, runs) = (setting("ROADSTEAD_TEST_SIM_SEED", 0), setting("ROADSTEAD_TEST_SIM_RUNS", 300));
    let (next, tally, failures) = (AtomicU64::new(first), Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let hunt = || {
        while failures.lock().is_empty() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + runs {
                return;
            }
            match problem(seed, false) {
                Ok(done) => tally.lock().add(done),
                Err(problem) => failures.lock().push((seed, problem)),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(hunt);
        }
    });
    if let Some((seed, problem)) = failures.into_inner().into_iter().min() {
        let again = "cargo test -p roadstead-store --test model the_log_holds";
        panic!("{problem}\nagain with ROADSTEAD_TEST_SIM_SEED={seed} ROADSTEAD_TEST_SIM_RUNS=1 {again}");
    }
    println!("{:?}", tally.into_inner());
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let found = (0..100).find(|&seed| problem(seed, true).is_err());
    panic::set_hook(hook);
    assert!(found.is_some(), "the simulation does not notice that nothing is ever safe");
}
