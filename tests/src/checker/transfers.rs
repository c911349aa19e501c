//! The promises of transactions: tokens move between queues, each transaction takes some and sends them on, and in the end each
//! token is there once, as far as it was promised to have come.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Verdict, Violation};

/// How often a token has been sent on.
pub type Hops = u64;

/// What became of a transaction, as far as its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nobody was told.
    Unknown,
    /// It was prepared, and nobody has decided.
    Prepared,
    Committed,
    RolledBack,
}

/// A transaction: the tokens that it sends on, each with the hops that it has then.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// In which run of the broker it began.
    pub run: u32,
    /// The name of the branch, if it is one.
    pub branch: Option<Vec<u8>>,
    pub tokens: Vec<(u64, Hops)>,
    pub outcome: Outcome,
    /// Whether it was prepared, whatever came after that.
    pub was_prepared: bool,
}

/// What clients saw.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// How many tokens there are, numbered from 0.
    pub tokens: u64,
    pub kills: usize,
    pub transfers: Vec<Transfer>,
    /// Prepared branches that the broker did not tell of after a kill.
    pub forgotten: Vec<Vec<u8>>,
    /// Branches that the broker told of, though they were over or never prepared.
    pub invented: Vec<Vec<u8>>,
    /// All that was left in the end: tokens and their hops.
    pub left: Vec<(u64, Hops)>,
}

/// How much of what matters a history holds, or must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub kills: usize,
    pub commits: usize,
    pub rollbacks: usize,
    /// Transactions of which nobody knows what became of them.
    pub unknown: usize,
    /// Branches that were committed after a kill.
    pub recovered_commits: usize,
    /// Branches that were rolled back after a kill.
    pub recovered_rollbacks: usize,
}

/// Checks a whole history.
pub fn check(history: &History, at_least: &Counts) -> Verdict<Counts> {
    let mut violations = Vec::new();
    let mut note = |kind, text: String| violations.push(Violation { kind, text });
    let mut copies: BTreeMap<u64, Vec<Hops>> = BTreeMap::new();
    for (token, hops) in &history.left {
        copies.entry(*token).or_default().push(*hops);
    }
    let moves = moves(history);
    for token in 0..history.tokens {
        let of_token = moves.get(&token);
        let with = |outcomes: &[Outcome]| -> BTreeSet<Hops> {
            let all = of_token.into_iter().flatten();
            all.filter(|(_, outcome)| outcomes.contains(outcome)).map(|(hops, _)| *hops).collect()
        };
        let promised = with(&[Outcome::Committed]).last().copied().unwrap_or(0);
        match copies.get(&token).map(Vec::as_slice) {
            None => note(Kind::Lost, format!("token {token} is gone; it had {promised} hops")),
            Some([hops]) if *hops < promised => {
                note(Kind::Lost, format!("token {token} has {hops} hops, and a commit promised {promised}"));
            }
            Some([hops]) => {
                let may_be = with(&[Outcome::Committed, Outcome::Unknown, Outcome::Prepared]);
                if *hops > 0 && !may_be.contains(hops) {
                    note(Kind::Phantom, format!("token {token} has {hops} hops, which nobody has sent for good"));
                }
            }
            Some(hops) => note(Kind::Doubled, format!("token {token} is there with {hops:?} hops")),
        }
    }
    for (token, _) in copies.iter().filter(|(token, _)| **token >= history.tokens) {
        note(Kind::Phantom, format!("there never was a token {token}"));
    }
    for branch in &history.forgotten {
        note(Kind::Transaction, format!("the prepared branch {} is forgotten", branch.escape_ascii()));
    }
    for branch in &history.invented {
        note(Kind::Transaction, format!("the branch {} is not prepared", branch.escape_ascii()));
    }
    let counts = counts(history);
    violations.extend(lacking(&counts, at_least));
    Verdict { counts, violations }
}

/// Where each token was sent to, and what became of it.
fn moves(history: &History) -> BTreeMap<u64, Vec<(Hops, Outcome)>> {
    let mut moves: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for transfer in &history.transfers {
        for (token, hops) in &transfer.tokens {
            moves.entry(*token).or_default().push((*hops, transfer.outcome));
        }
    }
    moves
}

fn counts(history: &History) -> Counts {
    let count = |wanted: &dyn Fn(&Transfer) -> bool| history.transfers.iter().filter(|one| wanted(one)).count();
    Counts {
        kills: history.kills,
        commits: count(&|one| one.outcome == Outcome::Committed),
        rollbacks: count(&|one| one.outcome == Outcome::RolledBack),
        unknown: count(&|one| one.outcome == Outcome::Unknown),
        recovered_commits: count(&|one| one.outcome == Outcome::Committed && one.was_prepared),
        recovered_rollbacks: count(&|one| one.outcome == Outcome::RolledBack && one.was_prepared),
    }
}

fn lacking(counts: &Counts, at_least: &Counts) -> Vec<Violation> {
    super::lacking([
        ("kills", counts.kills, at_least.kills),
        ("commits", counts.commits, at_least.commits),
        ("rollbacks", counts.rollbacks, at_least.rollbacks),
        ("transactions of which nobody knows what became of them", counts.unknown, at_least.unknown),
        ("commits of branches after a kill", counts.recovered_commits, at_least.recovered_commits),
        ("rollbacks of branches after a kill", counts.recovered_rollbacks, at_least.recovered_rollbacks),
    ])
}
