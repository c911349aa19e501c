//! SIGKILL under load, again and again: nothing that was promised is lost, and a broker that lies is found out.

mod mqtt;
mod transfers;

use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use roadstead_tests::checker::{Counts, Kind, Verdict, check};
use roadstead_tests::load::{Cast, Ending, FATES, Load, Random, WORK};
use roadstead_tests::raw::Address;
use roadstead_tests::server::{Builder, Server};

const ROUNDS: usize = 20;
const SEED: u64 = 0x0ad5_7ead;
const SHORTEST_MS: usize = 60;
const LONGEST_MS: usize = 360;

fn wish<T: FromStr>(name: &str, usual: T) -> T {
    let Ok(text) = env::var(name) else { return usual };
    text.parse().unwrap_or_else(|_| panic!("{name} is {text}, and should be a number"))
}

fn rounds() -> usize {
    wish("ROADSTEAD_TEST_CRASH_ROUNDS", ROUNDS)
}

fn seed() -> u64 {
    wish("ROADSTEAD_TEST_CRASH_SEED", SEED)
}

/// The log as it is by default, and so small that in each round segments are sealed, indexed, paged out, rewritten and
/// removed. Rounds take turns.
const SHAPES: [&str; 2] =
    ["[store]\n", "[store]\nsegment_bytes = 65536\nrewrite_bytes_per_second = 0\n[limits]\nmemory_bytes = 4194304\n"];

/// What must have been in the log at one time, for each round, if it was at work.
struct InLog {
    segments: f64,
    messages: f64,
}

const ENOUGH_WORK: InLog = InLog { segments: 1.0, messages: 100.0 };
/// Most of what moves by itself is soon gone.
const ENOUGH_FATES: InLog = InLog { segments: 0.25, messages: 25.0 };

fn start(builder: Builder, cast: &'static Cast) -> (Server, Load) {
    let server = builder.config(SHAPES[0]).start();
    let load = Load::new(cast, seed());
    load.declare(&Address::parse(&server.uri()));
    (server, load)
}

/// Far less than is usual, and far more than nothing.
fn enough_work(rounds: usize) -> Counts {
    Counts {
        kills: rounds,
        publishes: 200 * rounds,
        confirms: 50 * rounds,
        waits: 4,
        unconfirmed_at_kill: 5 * rounds,
        survivors: 20 * rounds,
        repeats: 5 * rounds,
        requeues: rounds,
        commits: 5 * rounds,
        commits_unknown: rounds / 2,
        commits_unknown_held: rounds / 20,
        ..Counts::default()
    }
}

fn enough_fates(rounds: usize) -> Counts {
    Counts {
        kills: rounds,
        confirms: 50 * rounds,
        survivors: 10 * rounds,
        expired: 10 * rounds,
        rejected: 2 * rounds,
        shed: 2 * rounds,
        moved_over_kills: 5 * rounds,
        delayed: 5 * rounds,
        ranked: 5 * rounds,
        reads: 100 * rounds,
        streamed: 10 * rounds,
        reads_over_kills: 20 * rounds,
        ..Counts::default()
    }
}

/// A round: how long the broker runs, how it ends, and what its log is like after that.
struct Round {
    number: usize,
    length: Duration,
    ending: Ending,
    shape: &'static str,
}

/// So many rounds, which all end abruptly but for the last.
fn plan(count: usize, last: Ending) -> impl Iterator<Item = Round> {
    let mut random = Random::new(seed());
    (1..=count).map(move |number| Round {
        number,
        length: Duration::from_millis((SHORTEST_MS + random.below(LONGEST_MS - SHORTEST_MS)) as u64),
        ending: if number == count { last } else { Ending::Abrupt },
        shape: SHAPES[number % SHAPES.len()],
    })
}

#[test]
fn nothing_promised_is_lost_by_a_kill() {
    killed_again_and_again(&WORK, &enough_work(rounds()), &ENOUGH_WORK);
}

#[test]
fn nothing_is_lost_or_doubled_that_moves_by_itself() {
    killed_again_and_again(&FATES, &enough_fates(rounds()), &ENOUGH_FATES);
}

fn killed_again_and_again(cast: &'static Cast, at_least: &Counts, in_log: &InLog) {
    let (began, rounds) = (Instant::now(), rounds());
    let (mut server, mut load) = start(Server::builder(), cast);
    let (mut segments, mut messages) = (0, 0);
    for round in plan(rounds, Ending::Quiet) {
        server.configure(round.shape);
        load.round(&mut server, round.length, round.ending);
        segments = server.status("segments").max(segments);
        messages = server.status("messages_on_disk").max(messages);
    }
    load.drain(&mut server);
    assert!(!server.log().contains("ERROR"), "the broker complains");
    let rounds_seen = rounds.min(ROUNDS) as f64;
    assert!(segments as f64 >= in_log.segments * rounds_seen, "the log had {segments} segments at most");
    assert!(messages as f64 >= in_log.messages * rounds_seen, "the log had {messages} messages at most");
    let verdict = check(load.history(), at_least);
    println!(
        "{rounds} rounds in {:?}: {:?}; {segments} segments and {messages} messages",
        began.elapsed(),
        verdict.counts
    );
    verdict.assert_clean();
}

/// The broker that confirms before it writes. It may well break other promises too, such as those of order.
#[test]
fn a_broker_that_confirms_too_early_is_found_out() {
    found_out(&WORK);
}

#[test]
fn a_broker_that_confirms_too_early_is_found_out_by_what_moves() {
    found_out(&FATES);
}

fn found_out(cast: &'static Cast) {
    let Some(binary) = sabotaged_binary() else { return };
    let (mut server, mut load) = start(Server::builder().binary(binary), cast);
    let mut verdict: Option<Verdict> = None;
    for round in plan(ROUNDS, Ending::Abrupt) {
        server.configure(round.shape);
        load.round(&mut server, round.length, round.ending);
        load.drain(&mut server);
        let latest = check(load.history(), &Counts::default());
        if let Some(lost) = latest.violations.iter().find(|violation| violation.kind == Kind::Lost) {
            println!("found out in round {}: {lost}", round.number);
            return;
        }
        verdict = Some(latest);
    }
    let counts = verdict.map(|verdict| verdict.counts);
    panic!("{ROUNDS} rounds with a broker that confirms before it writes, and no message is missed: {counts:?}");
}

/// Built by `cargo xtask test`, which CI runs; whoever runs `cargo test` alone may do without.
fn sabotaged_binary() -> Option<PathBuf> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/sabotaged-roadstead");
    let binary = env::var_os("ROADSTEAD_TEST_SABOTAGED_BINARY").map_or_else(usual, PathBuf::from);
    if binary.is_file() {
        return Some(binary);
    }
    let advice = "`cargo xtask test --only sabotage` builds it";
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "there is no {}; {advice}", binary.display());
    println!("skipped: there is no {}; {advice}", binary.display());
    None
}
