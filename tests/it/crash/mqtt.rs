//! The same for MQTT: what was answered comes at least once, or exactly once, and sessions and retained messages stay.

use std::time::Instant;

use roadstead_tests::checker::Kind;
use roadstead_tests::checker::mqtt::{Counts, check};
use roadstead_tests::load::{Ending, MqttLoad};
use roadstead_tests::server::{Builder, Server};

use super::{ROUNDS, SHAPES, plan, rounds, sabotaged_binary, seed};

/// Far less than is usual, and far more than nothing.
fn enough(rounds: usize) -> Counts {
    Counts {
        kills: rounds,
        publishes: 100 * rounds,
        answered: 50 * rounds,
        unanswered_at_kill: 2 * rounds,
        resent: rounds,
        comebacks: 10 * rounds,
        arrivals: 200 * rounds,
        repeats: 5 * rounds,
        withheld: rounds,
        exactly_once: 50 * rounds,
        survivors: 20 * rounds,
        retained: 4 * rounds,
    }
}

fn start(builder: Builder) -> (Server, MqttLoad) {
    let server = builder.config(SHAPES[0]).start();
    let mut load = MqttLoad::new(seed());
    load.declare(&server);
    (server, load)
}

#[test]
fn nothing_answered_is_lost_and_what_comes_once_comes_once() {
    let (began, rounds) = (Instant::now(), rounds());
    let (mut server, mut load) = start(Server::builder());
    for round in plan(rounds, Ending::Quiet) {
        server.configure(round.shape);
        load.round(&mut server, round.length, round.ending);
    }
    load.drain(&mut server);
    assert!(!server.log().contains("ERROR"), "the broker complains");
    let verdict = check(load.history(), &enough(rounds));
    println!("{rounds} rounds in {:?}: {:?}", began.elapsed(), verdict.counts);
    verdict.assert_clean();
}

#[test]
fn a_broker_that_answers_too_early_is_found_out() {
    let Some(binary) = sabotaged_binary() else { return };
    let (mut server, mut load) = start(Server::builder().binary(binary));
    for round in plan(ROUNDS, Ending::Abrupt) {
        server.configure(round.shape);
        load.round(&mut server, round.length, round.ending);
        load.drain(&mut server);
        let verdict = check(load.history(), &Counts::default());
        if let Some(lost) = verdict.violations.iter().find(|violation| violation.kind == Kind::Lost) {
            println!("found out in round {}: {lost}", round.number);
            return;
        }
    }
    panic!("{ROUNDS} rounds with a broker that answers before it writes, and no message is missed");
}
