//! Queues that only keep: publishers with confirms, transactions, workers, and every way to acknowledge.

use std::time::Duration;

use super::consumer::{Ack, Habit, taking};
use super::{Cast, Queue, Role, Target, Wish};
use crate::checker::Terms;

/// A target that is asked nothing special.
const fn target(exchange: &'static str, key: &'static str, queues: &'static [&'static str]) -> Target {
    Target { exchange, key, queues, wish: Wish::Nothing, body_bytes: 600 }
}

pub(super) const NEWS: Target = target("crash.news", "", &["news.read", "news.kept"]);
const WORK_ITEMS: Target = target("", "work", &["work"]);
const ORDERS: Target = target("", "orders", &["orders"]);
pub(super) const REQUESTS: Target = target("", "requests", &["requests"]);
const DEEP: Target = target("", "deep", &["deep"]);
pub(super) const RESULTS: Target = target("", "results", &["results"]);

const fn plain(name: &'static str) -> Queue {
    Queue(name, "", Terms { letters: None, ttl_ms: None, sheds: false, ranks: false, stream: None })
}

pub static WORK: Cast = Cast {
    queues: &[
        plain("work"),
        plain("orders"),
        plain("requests"),
        plain("results"),
        plain("news.read"),
        plain("news.kept"),
        plain("deep"),
    ],
    topology: &[
        ("exchange.declare", "exchange=crash.news type=fanout durable"),
        ("queue.bind", "queue=news.read exchange=crash.news"),
        ("queue.bind", "queue=news.kept exchange=crash.news"),
    ],
    roles: &[
        Role::Publisher(&[WORK_ITEMS, NEWS]),
        Role::Publisher(&[ORDERS, WORK_ITEMS]),
        Role::Publisher(&[REQUESTS, NEWS]),
        Role::Publisher(&[REQUESTS, RESULTS, WORK_ITEMS]),
        Role::Committer(&[ORDERS, NEWS]),
        Role::Worker,
        Role::Worker,
        Role::Consumer(Habit { requeue_one_in: 10, ..taking("work", Ack::Each) }),
        Role::Consumer(Habit { requeue_one_in: 25, ..taking("work", Ack::Each) }),
        Role::Consumer(taking("orders", Ack::Many(10))),
        Role::Consumer(Habit { requeue_one_in: 20, ..taking("results", Ack::Each) }),
        Role::Consumer(taking("news.read", Ack::Commit(20))),
        // Its queue is taken from in one run of three, so that messages survive several kills.
        Role::Sleeper(taking("news.kept", Ack::Commit(5))),
        Role::Filler(&[DEEP]),
        Role::Sleeper(Habit { requeue_one_in: 50, ..taking("deep", Ack::Each) }),
    ],
    longest_wait: Duration::ZERO,
};
