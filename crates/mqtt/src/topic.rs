//! Topic names and topic filters (section 4.7), and their likeness to routing keys and binding keys.

use std::borrow::Cow;

use broker::limits;

/// Whether a string may be a topic name: not empty, and without wildcards (MQTT-4.7.1-1, MQTT-4.7.3-1).
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['+', '#', '\0'])
}

/// Whether a topic is the broker's own, which clients only read.
pub fn is_of_broker(name: &str) -> bool {
    name.starts_with("$SYS/")
}

/// Whether a string may be a topic filter: wildcards have a level to themselves, and `#` is the last (MQTT-4.7.1-1 to 3). There
/// are not too many levels.
pub fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    let mut is_valid = !text.is_empty() && !text.contains('\0');
    is_valid &= text.split('/').nth(limits::TOPIC_LEVELS).is_none();
    while let Some(level) = levels.next() {
        is_valid &= match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            level => !level.contains(['+', '#']),
        };
    }
    is_valid
}

/// A shared subscription's group and filter; nothing if the filter is not a shared one (section 4.8.2).
pub fn shared(filter: &str) -> Option<(&str, &str)> {
    let rest = filter.strip_prefix("$share")?;
    let rest = if rest.is_empty() { rest } else { rest.strip_prefix('/')? };
    // A bad one is found by `is_shared_filter`.
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// Whether a shared subscription has a group without wildcards and a filter (MQTT-4.8.2-1, MQTT-4.8.2-2).
pub fn is_shared_filter(group: &str, filter: &str) -> bool {
    !group.is_empty() && !group.contains(['+', '#']) && is_filter(filter)
}

/// Whether a filter matches a topic name. Wildcards in the first level do not match names that start with `$`
/// (MQTT-4.7.2-1).
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filter, mut name) = (filter.split('/'), name.split('/'));
    loop {
        match (filter.next(), name.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// The routing key that other protocols know a topic by: RabbitMQ's.
pub fn routing_key(topic: &str) -> Cow<'_, str> {
    if topic.contains('/') { topic.replace('/', ".").into() } else { topic.into() }
}

/// The topic that a routing key of another protocol becomes.
pub fn of_routing_key(key: &str) -> Cow<'_, str> {
    if key.contains('.') { key.replace('.', "/").into() } else { key.into() }
}

/// The routing key by which a topic is found by its MQTT levels: a dot within a level does not divide it, and a star is
/// nothing but a star.
pub fn level_key(topic: &str) -> String {
    topic.split('/').map(word).collect::<Vec<_>>().join(".")
}

fn word(level: &str) -> Cow<'_, str> {
    match level {
        "*" => STAR.into(),
        level if level.contains('.') => level.replace('.', DOT).into(),
        level => level.into(),
    }
}

/// The routing keys of a publish: the one that other protocols know, and if that one could mean another topic, the one that
/// does not.
pub fn keys(topic: &str) -> Vec<Cow<'_, str>> {
    let mut keys = vec![routing_key(topic)];
    if topic.contains(['.', '*']) {
        keys.push(level_key(topic).into());
    }
    keys
}

/// The binding key that catches all that a filter matches.
pub fn binding_key(filter: &str) -> String {
    let word = |level| if level == "+" { "*".into() } else { word(level) };
    filter.split('/').map(word).collect::<Vec<_>>().join(".")
}

/// What stands in keys for a dot within a level. No routing key has it but by chance, and then the subscriber's filter is
/// asked once more.
const DOT: &str = "\u{1}";

/// What stands in keys for a level that is a star.
const STAR: &str = "\u{2}";

/// What all topics that a filter matches begin with, and whether it matches only that one.
pub fn literal_start(filter: &str) -> (&str, bool) {
    let Some(wildcard) = filter.find(['+', '#']) else { return (filter, true) };
    // A last level of `#` also stands for none: "a/#" matches "a".
    let end = if &filter[wildcard..] == "#" { wildcard.saturating_sub(1) } else { wildcard };
    (&filter[..end], false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_specification_says() {
        let matching = [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "a/b"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("$SYS/#", "$SYS/broker"),
            ("a.b/+", "a.b/c"),
        ];
        for (filter, name) in matching {
            assert!(is_filter(filter) && is_name(name) && matches(filter, name), "{filter} {name}");
        }
        let others = [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/broker"),
            ("+/broker", "$SYS/broker"),
            ("a/b/c", "a.b/c"),
            ("a/b", "a"),
        ];
        for (filter, name) in others {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }

    #[test]
    fn bad_filters_are_told() {
        for filter in ["", "a#", "a/#/b", "a/b+", "+a", "a\0"] {
            assert!(!is_filter(filter), "{filter}");
        }
        for name in ["", "a/+", "#", "\0"] {
            assert!(!is_name(name), "{name}");
        }
        assert_eq!(shared("$share/g/a/+"), Some(("g", "a/+")));
        assert!(is_shared_filter("g", "a/+"));
        for filter in ["$share//x", "$share/g+/x", "$share/g", "$share/g/", "$share/#/x", "$share"] {
            let (group, filter) = shared(filter).expect("it is a shared one");
            assert!(!is_shared_filter(group, filter), "{group} {filter}");
        }
        assert_eq!(shared("a/b"), None);
    }

    #[test]
    fn filters_begin_with_what_they_match() {
        assert_eq!(literal_start("a/b"), ("a/b", true));
        assert_eq!(literal_start("a/#"), ("a", false));
        assert_eq!(literal_start("a/+/b"), ("a/", false));
        assert_eq!(literal_start("#"), ("", false));
        assert_eq!(literal_start("/#"), ("", false));
        assert_eq!(literal_start("+"), ("", false));
    }

    #[test]
    fn keys_keep_levels_apart() {
        assert_eq!(routing_key("a/b.c"), "a.b.c");
        assert_eq!(level_key("a/b.c/*"), "a.b\u{1}c.\u{2}");
        assert_eq!(binding_key("a/+/b.c/*/#"), "a.*.b\u{1}c.\u{2}.#");
        assert_eq!(keys("a/b"), ["a.b"]);
        assert_eq!(keys("a.b"), ["a.b", "a\u{1}b"]);
        assert_eq!(of_routing_key("a.b"), "a/b");
    }
}
