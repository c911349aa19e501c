//! How much of a deep queue is read for somebody who wants little of it.

use super::*;

const MESSAGES: usize = 100_000;
const PAGE: usize = 1000;
const RARE: &str = "colour=red";

/// A queue of which everything is in the log alone, and one message in a thousand is red.
fn deep_world() -> World {
    let mut world = World::new();
    world.log.state.lock().page = Some(PAGE);
    world.broker.set_tight(true);
    world.step(&["queue", "q", "durable"]);
    for n in 0..MESSAGES {
        let colour = if n % 1000 == 500 { RARE } else { "colour=blue" };
        world.publish("", "q", &n.to_string(), &["durable", colour]);
    }
    world.page_out();
    assert_eq!(world.journal.lock().pop().unwrap(), format!("{MESSAGES} leave memory"));
    world.journal.lock().clear();
    world
}

fn read(world: &World) -> usize {
    while world.log.answer(&world.broker) {}
    std::mem::take(&mut world.log.state.lock().read)
}

/// The bodies of the deliveries to one consumer, in order.
fn got(world: &World, name: &str) -> Vec<usize> {
    let prefix = format!("{name} gets \"");
    let journal = world.journal.lock();
    let bodies = journal.iter().filter_map(|line| line.strip_prefix(&prefix)?.split('"').next());
    bodies.map(|body| body.parse().unwrap()).collect()
}

fn red() -> impl Iterator<Item = usize> {
    (0..MESSAGES).filter(|n| n % 1000 == 500)
}

#[test]
fn a_selective_consumer_reads_a_deep_queue_once() {
    let mut world = deep_world();
    world.step(&["consume", "c", "q", "prefetch=1", "selector=colour", "=", "'red'"]);
    let mut total = read(&world);
    for n in 1..=MESSAGES / 1000 {
        world.step(&["settle", "c", "accept", &n.to_string()]);
        total += read(&world);
    }
    assert!(got(&world, "c").into_iter().eq(red()));
    assert!((MESSAGES..MESSAGES + 2 * PAGE).contains(&total), "{total} bodies were read");
    // What comes back behind it is offered again without a second look at all that is between.
    world.publish("", "q", "100500", &["durable", RARE]);
    world.step(&["settle", "c", "requeue", "101"]);
    assert_eq!(read(&world), 0);
    assert_eq!(got(&world, "c")[100..], [100_500, 100_500]);
}

#[test]
fn consumers_of_one_kind_share_a_deep_queue() {
    let mut world = deep_world();
    for name in ["a", "b"] {
        world.step(&["consume", name, "q", "settles", "selector=colour", "=", "'red'"]);
    }
    let total = read(&world);
    let mut all = [got(&world, "a"), got(&world, "b")].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(red()));
    assert!(total <= 2 * (MESSAGES + PAGE), "{total} bodies were read");
    world.step(&["counts", "q"]);
    assert_eq!(world.journal.lock().last().unwrap(), &format!("{} ready, 0 held, 2 consumers", MESSAGES / 1000 * 999));
}

#[test]
fn a_browser_reads_a_deep_queue_once_and_leaves_it_as_it_is() {
    let mut world = deep_world();
    world.step(&["browse", "b", "q", "settles"]);
    let total = read(&world);
    assert!(got(&world, "b").into_iter().eq(0..MESSAGES));
    assert!((MESSAGES..MESSAGES + PAGE).contains(&total), "{total} bodies were read");
    world.step(&["counts", "q"]);
    assert_eq!(world.journal.lock().last().unwrap(), &format!("{MESSAGES} ready, 0 held, 0 consumers"));
    // Everybody else gets it as ever.
    world.step(&["consume", "c", "q", "settles"]);
    read(&world);
    assert!(got(&world, "c").into_iter().eq(0..MESSAGES));
}
