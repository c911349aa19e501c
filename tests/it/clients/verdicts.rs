//! What a suite's lines mean: which checks failed, and which of those are known to wait for a feature.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What begins the reason of a skip that no machine can do anything about.
const CLIENT_LIMIT: &str = "limit of the client";

/// A check and the feature that it waits for.
pub type Waiting = (&'static str, &'static str);

/// What a suite found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many checks passed.
    pub passed: usize,
    /// All that is wrong.
    pub problems: Vec<String>,
    /// The checks that failed as the list says they do.
    pub waiting: Vec<Waiting>,
    /// Every check of the list that this suite has, and whether it passed.
    pub listed: Vec<(&'static str, bool)>,
}

/// Reads a suite's lines as they come.
pub struct Verdicts {
    not_yet: &'static [Waiting],
    skips_are_failures: bool,
    failed: usize,
    done: bool,
    outcome: Outcome,
}

impl Verdicts {
    pub fn new(not_yet: &'static [Waiting], skips_are_failures: bool) -> Self {
        Self { not_yet, skips_are_failures, failed: 0, done: false, outcome: Outcome::default() }
    }

    pub fn add(&mut self, line: &str) {
        if self.done {
            self.problem(format!("a line after `done`: {line}"));
        } else if line == "done" {
            self.done = true;
        } else if let Some(check) = line.strip_prefix("ok ") {
            self.outcome.passed += 1;
            if let Some((listed, _)) = self.listed(check) {
                self.outcome.listed.push((listed, true));
            }
        } else if let Some(skipped) = line.strip_prefix("skip ") {
            let excused = skipped.split_once(": ").is_some_and(|(_, reason)| reason.starts_with(CLIENT_LIMIT));
            if self.skips_are_failures && !excused {
                self.problem(line.to_owned());
            }
        } else if let Some(failure) = line.strip_prefix("not ok ") {
            self.fail(line, failure.split_once(": ").map_or(failure, |(check, _)| check));
        } else {
            self.problem(format!("a line that the contract doesn't know: {line}"));
        }
    }

    /// The suite ended by itself.
    pub fn end(mut self, success: bool, status: &str) -> Outcome {
        if !self.done {
            self.problem("no `done`".to_owned());
        }
        if self.outcome.passed == 0 {
            self.problem("no check passed".to_owned());
        }
        if success == (self.failed > 0) {
            self.problem(format!("the suite ended with {status} after {} failed checks", self.failed));
        }
        self.outcome
    }

    /// The suite had to be ended.
    pub fn cut(mut self, reason: String) -> Outcome {
        self.problem(reason);
        self.outcome
    }

    fn fail(&mut self, line: &str, check: &str) {
        self.failed += 1;
        match self.listed(check) {
            Some(waiting) => {
                self.outcome.waiting.push(waiting);
                self.outcome.listed.push((waiting.0, false));
            }
            None => self.problem(line.to_owned()),
        }
    }

    fn listed(&self, check: &str) -> Option<Waiting> {
        self.not_yet.iter().find(|(listed, _)| *listed == check).copied()
    }

    fn problem(&mut self, what: String) {
        self.outcome.problems.push(what);
    }
}

/// What several suites found about the same list. It says nothing until all of them have ended, so nothing about a run of some.
pub struct Tally {
    suites: usize,
    state: Mutex<State>,
}

struct State {
    ended: usize,
    /// By check: whether it passed in every suite so far that has it.
    passed: BTreeMap<&'static str, bool>,
}

impl Tally {
    pub const fn new(suites: usize) -> Self {
        Self { suites, state: Mutex::new(State { ended: 0, passed: BTreeMap::new() }) }
    }

    /// Adds what a suite found. With the last suite, returns the checks that passed everywhere.
    pub fn end_suite(&self, listed: &[(&'static str, bool)]) -> Vec<&'static str> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (check, passed) in listed {
            *state.passed.entry(check).or_insert(true) &= passed;
        }
        state.ended += 1;
        if state.ended < self.suites {
            return Vec::new();
        }
        state.passed.iter().filter(|(_, passed)| **passed).map(|(check, _)| *check).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[Waiting] = &[("early", "a feature")];

    fn outcome(lines: &[&str], success: bool) -> Outcome {
        let mut verdicts = Verdicts::new(LIST, true);
        lines.iter().for_each(|line| verdicts.add(line));
        verdicts.end(success, "a status")
    }

    #[test]
    fn a_listed_failure_is_no_problem() {
        let outcome = outcome(&["ok one", "not ok early: TimeoutError: 5 s", "done"], false);
        assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
        assert_eq!((outcome.waiting, outcome.listed), (vec![LIST[0]], vec![("early", false)]));
    }

    #[test]
    fn everything_else_is_a_problem() {
        let problems = |lines: &[&str], success| outcome(lines, success).problems.len();
        assert_eq!(problems(&["ok one", "done"], true), 0);
        assert_eq!(problems(&["ok one", "not ok early too: reason", "done"], false), 1);
        assert_eq!(problems(&["ok one", "not ok early: reason", "done"], true), 1);
        assert_eq!(problems(&["ok one", "done"], false), 1);
        assert_eq!(problems(&["ok one"], true), 1);
        assert_eq!(problems(&["done"], true), 1);
        assert_eq!(problems(&["ok one", "hello", "done", "ok two"], true), 2);
        assert_eq!(problems(&["ok one", "skip two: limit of the client", "skip three: no tool", "done"], true), 1);
    }

    #[test]
    fn only_what_passes_everywhere_works() {
        let tally = Tally::new(3);
        assert!(tally.end_suite(&[("a", true), ("b", true)]).is_empty());
        assert!(tally.end_suite(&[("a", true), ("b", false)]).is_empty());
        assert_eq!(tally.end_suite(&[("c", true)]), ["a", "c"]);
    }
}
