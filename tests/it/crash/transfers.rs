//! The same for transactions of JMS: all of one or nothing, and what is prepared waits for its transaction manager.

use std::time::Instant;

use roadstead_tests::checker::Kind;
use roadstead_tests::checker::transfers::{Counts, check};
use roadstead_tests::load::{Ending, TransferLoad};
use roadstead_tests::server::{Builder, Server};

use super::{ROUNDS, SHAPES, plan, rounds, sabotaged_binary, seed};

/// Far less than is usual, and far more than nothing.
fn enough(rounds: usize) -> Counts {
    Counts {
        kills: rounds,
        commits: 20 * rounds,
        rollbacks: 4 * rounds,
        unknown: 2 * rounds,
        recovered_commits: rounds / 2,
        recovered_rollbacks: rounds / 2,
    }
}

fn start(builder: Builder) -> (Server, TransferLoad) {
    let server = builder.config(SHAPES[0]).start();
    let mut load = TransferLoad::new(seed());
    load.declare(&server);
    (server, load)
}

#[test]
fn no_transaction_is_done_by_halves() {
    let (began, rounds) = (Instant::now(), rounds());
    let (mut server, mut load) = start(Server::builder());
    for round in plan(rounds, Ending::Quiet) {
        server.configure(round.shape);
        load.round(&mut server, round.length, round.ending);
    }
    let history = load.drain(&server);
    assert!(!server.log().contains("ERROR"), "the broker complains");
    let verdict = check(&history, &enough(rounds));
    println!("{rounds} rounds in {:?}: {:?}", began.elapsed(), verdict.counts);
    verdict.assert_clean();
}

#[test]
fn a_broker_that_commits_too_early_is_found_out() {
    let Some(binary) = sabotaged_binary() else { return };
    let (mut server, mut load) = start(Server::builder().binary(binary));
    for round in plan(ROUNDS, Ending::Abrupt) {
        server.configure(round.shape);
        load.round(&mut server, round.length, round.ending);
    }
    let verdict = check(&load.drain(&server), &Counts::default());
    let found = [Kind::Lost, Kind::Doubled, Kind::Transaction].into_iter().any(|kind| verdict.has(kind));
    assert!(
        found,
        "{ROUNDS} rounds with a broker that commits before it writes, and nothing is missed: {:?}",
        verdict.counts
    );
}
