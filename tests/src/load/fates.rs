//! Queues that let go of messages by themselves, or order them otherwise: dead letters of every kind, delays, priorities,
//! and streams.

use std::time::Duration;

use super::consumer::{Ack, Habit, taking};
use super::reader::Start;
use super::{Cast, Queue, Role, Target, Wish};
use crate::checker::{Retention, Terms};

const PLAIN: Terms = Terms { letters: None, ttl_ms: None, sheds: false, ranks: false, stream: None };
const DEAD: Terms = Terms { letters: Some("dead"), ..PLAIN };
const DEAD_KEPT: Terms = Terms { letters: Some("dead.kept"), ..PLAIN };

const fn target(queues: &'static [&'static str], wish: Wish) -> Target {
    Target { exchange: "", key: queues[0], queues, wish, body_bytes: 600 }
}

const MORTAL: Target = target(&["mortal"], Wish::Nothing);
const MORTAL_TOO: Target = target(&["mortal"], Wish::Live(50, 500));
const TIMED: Target = target(&["timed"], Wish::Live(50, 500));
const TIMELESS: Target = target(&["timed"], Wish::Nothing);
const DEEP: Target = Target { body_bytes: 4000, ..target(&["timed.deep"], Wish::Live(50, 500)) };
const MUST: Target = target(&["must"], Wish::Live(50, 300));
const PICKY: Target = target(&["picky"], Wish::Nothing);
const FUSSY: Target = target(&["fussy"], Wish::Nothing);
const SHORT: Target = target(&["short"], Wish::Nothing);
const LATER: Target = Target { exchange: "crash.later", ..target(&["later"], Wish::Delay(1, 600)) };
const AT_ONCE: Target = Target { exchange: "crash.later", ..target(&["later.not"], Wish::Nothing) };
const RANKS: Target = target(&["ranks"], Wish::Priority(6));
const STORY: Target = target(&["story"], Wish::Nothing);
const GOSSIP: Target = target(&["gossip"], Wish::Nothing);

pub static FATES: Cast = Cast {
    queues: &[
        Queue(
            "mortal",
            "x-message-ttl=I:200,x-dead-letter-exchange=S:,x-dead-letter-routing-key=S:dead",
            Terms { ttl_ms: Some(200), ..DEAD },
        ),
        Queue("timed", "x-dead-letter-exchange=S:,x-dead-letter-routing-key=S:dead.kept", DEAD_KEPT),
        Queue("timed.deep", "x-dead-letter-exchange=S:,x-dead-letter-routing-key=S:dead", DEAD),
        Queue(
            "must",
            "x-queue-type=S:quorum,x-dead-letter-strategy=S:at-least-once,x-overflow=S:reject-publish,\
             x-dead-letter-exchange=S:,x-dead-letter-routing-key=S:dead",
            DEAD,
        ),
        Queue("picky", "x-dead-letter-exchange=S:,x-dead-letter-routing-key=S:dead.kept", DEAD_KEPT),
        Queue(
            "short",
            "x-max-length=I:40,x-dead-letter-exchange=S:,x-dead-letter-routing-key=S:dead",
            Terms { sheds: true, ..DEAD },
        ),
        // What is rejected here is gone.
        Queue("fussy", "", PLAIN),
        Queue("later", "", PLAIN),
        Queue("later.not", "", PLAIN),
        Queue("ranks", "x-max-priority=I:5", Terms { ranks: true, ..PLAIN }),
        Queue("dead", "", PLAIN),
        Queue("dead.kept", "", PLAIN),
        Queue(
            "story",
            "x-queue-type=S:stream,x-stream-max-segment-size-bytes=I:20000",
            Terms { stream: Some(Retention::All), ..PLAIN },
        ),
        Queue(
            "gossip",
            "x-queue-type=S:stream,x-stream-max-segment-size-bytes=I:5000,x-max-length-bytes=I:50000",
            Terms { stream: Some(Retention::Some), ..PLAIN },
        ),
    ],
    topology: &[
        ("exchange.declare", "exchange=crash.later type=x-delayed-message durable arguments={x-delayed-type=S:direct}"),
        ("queue.bind", "queue=later exchange=crash.later routing_key=later"),
        ("queue.bind", "queue=later.not exchange=crash.later routing_key=later.not"),
    ],
    roles: &[
        Role::Publisher(&[MORTAL, TIMED, MORTAL_TOO]),
        Role::Publisher(&[PICKY, SHORT, STORY, FUSSY]),
        Role::Publisher(&[LATER, MUST, AT_ONCE, GOSSIP]),
        Role::Publisher(&[GOSSIP, STORY, TIMELESS]),
        Role::Committer(&[TIMED, PICKY, LATER, STORY]),
        Role::Filler(&[DEEP]),
        Role::Giver(&[RANKS]),
        Role::Taker(taking("ranks", Ack::Each)),
        Role::Sleeper(taking("mortal", Ack::Commit(5))),
        Role::Consumer(Habit { requeue_one_in: 5, ..taking("timed", Ack::Each) }),
        Role::Sleeper(Habit { requeue_one_in: 5, ..taking("timed.deep", Ack::Each) }),
        Role::Sleeper(taking("must", Ack::Each)),
        Role::Consumer(Habit { reject_one_in: 3, ..taking("picky", Ack::Each) }),
        Role::Consumer(Habit { reject_one_in: 4, requeue_one_in: 6, ..taking("picky", Ack::Each) }),
        Role::Consumer(Habit { reject_one_in: 3, ..taking("fussy", Ack::Commit(2)) }),
        Role::Consumer(Habit { reject_one_in: 2, ..taking("picky", Ack::Commit(2)) }),
        Role::Sleeper(taking("short", Ack::Commit(5))),
        Role::Consumer(Habit { requeue_one_in: 20, ..taking("later", Ack::Each) }),
        Role::Consumer(taking("later.not", Ack::Many(10))),
        Role::Consumer(Habit { requeue_one_in: 20, ..taking("dead", Ack::Each) }),
        Role::Consumer(taking("dead", Ack::Commit(10))),
        Role::Sleeper(taking("dead.kept", Ack::Commit(5))),
        Role::Reader("story", Start::First),
        Role::Reader("story", Start::WhereItWas),
        Role::Reader("gossip", Start::First),
        Role::Reader("gossip", Start::WhereItWas),
    ],
    longest_wait: Duration::from_millis(700),
};
