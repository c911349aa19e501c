//! ActiveMQ's authorization (who may read, write and administer which destinations, by groups) as the broker's permissions.
//!
//! As with ActiveMQ's `authorizationMap`, all entries that match a destination count, and a user may what one of his groups
//! may.

use serde::Deserialize;

use crate::config::{Permission, TopicPermission};

/// Who may do what with some destinations.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationEntry {
    /// The queues, as a pattern of ActiveMQ's.
    pub queue: Option<String>,
    /// The topics, as a pattern of ActiveMQ's.
    pub topic: Option<String>,
    /// Groups that may consume and browse.
    pub read: Vec<String>,
    /// Groups that may send.
    pub write: Vec<String>,
    /// Groups that may make and remove queues.
    pub admin: Vec<String>,
}

impl DestinationEntry {
    /// Checks that it is of queues or topics.
    ///
    /// # Errors
    /// If it is of neither, or of both.
    pub fn check(&self) -> anyhow::Result<()> {
        match (&self.queue, &self.topic) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => anyhow::bail!("an entry of openwire.authorization needs either queue or topic"),
        }
    }
}

/// Temporary destinations. Only their own connection may consume from them, and everybody send to them.
const TEMPORARY: &str = "^ID:";

/// The queues and exchanges of subscriptions, whatever protocol they are of.
const SUBSCRIPTIONS: &str = "^(openwire|jms|stomp|mqtt)-subscription-";

/// Topics are routing keys of this exchange.
const TOPICS: &str = r"^amq\.topic$";

/// What is never a name.
const NOTHING: &str = "^$";

/// What a user of some groups may do.
pub fn permissions(entries: &[DestinationEntry], groups: &[String], vhost: &str) -> (Permission, TopicPermission) {
    let has = |named: &[String]| named.iter().any(|group| groups.contains(group));
    let queues = |allowed: fn(&DestinationEntry) -> &[String]| -> Vec<String> {
        let granted = entries.iter().filter(|entry| has(allowed(entry))).filter_map(|entry| entry.queue.as_deref());
        granted.map(|pattern| expression(pattern, "[^.]+")).collect()
    };
    // Binding keys are matched as they are written: one word must not stand for what is any number of them.
    let topics = |allowed: fn(&DestinationEntry) -> &[String]| -> Vec<String> {
        let granted = entries.iter().filter(|entry| has(allowed(entry))).filter_map(|entry| entry.topic.as_deref());
        granted.map(|pattern| expression(pattern, "[^.#]+")).collect()
    };
    let (topics_read, topics_write) = (topics(|entry| &entry.read), topics(|entry| &entry.write));
    let (mut configure, mut write, mut read) =
        (queues(|entry| &entry.admin), queues(|entry| &entry.write), queues(|entry| &entry.read));
    for list in [&mut configure, &mut write, &mut read] {
        list.push(TEMPORARY.to_owned());
        if !topics_read.is_empty() {
            list.push(SUBSCRIPTIONS.to_owned());
        }
    }
    if !topics_read.is_empty() {
        read.push(TOPICS.to_owned());
    }
    if !topics_write.is_empty() {
        write.push(TOPICS.to_owned());
    }
    let permission =
        Permission { vhost: vhost.into(), configure: any_of(&configure), write: any_of(&write), read: any_of(&read) };
    let topic = TopicPermission {
        vhost: vhost.into(),
        exchange: "amq.topic".into(),
        write: any_of(&topics_write),
        read: any_of(&topics_read),
    };
    (permission, topic)
}

fn any_of(expressions: &[String]) -> String {
    if expressions.is_empty() { NOTHING.to_owned() } else { expressions.join("|") }
}

/// A pattern of ActiveMQ's as a regular expression, in which a word is as `word` says.
fn expression(pattern: &str, word: &str) -> String {
    let mut out = "^".to_owned();
    for (at, part) in pattern.split('.').enumerate() {
        if part == ">" {
            out.push_str(if at == 0 { ".*" } else { r"(\..*)?" });
            break;
        }
        if at > 0 {
            out.push_str(r"\.");
        }
        if part == "*" { out.push_str(word) } else { out.extend(part.chars().flat_map(escaped)) }
    }
    out.push('$');
    out
}

/// A character of a regular expression that stands for itself.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let is_special = r"\.+*?()|[]{}^$#&-~".contains(character);
    is_special.then_some('\\').into_iter().chain([character])
}

#[cfg(test)]
mod tests {
    use broker::identity::Pattern;

    use super::*;

    fn entry(queue: Option<&str>, topic: Option<&str>, [read, write, admin]: [&str; 3]) -> DestinationEntry {
        let groups = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let (queue, topic) = (queue.map(str::to_owned), topic.map(str::to_owned));
        DestinationEntry { queue, topic, read: groups(read), write: groups(write), admin: groups(admin) }
    }

    fn allows(expression: &str, names: &[(&str, bool)]) {
        let pattern = Pattern::new(expression).unwrap();
        for (name, expected) in names {
            assert_eq!(pattern.matches(name), *expected, "{name} by {expression}");
        }
    }

    #[test]
    fn groups_may_what_any_entry_gives_them() {
        let entries = [
            entry(Some(">"), None, ["admins"; 3]),
            entry(Some("USERS.>"), None, ["users", "users guests", "users"]),
            entry(Some("A+*.x"), None, ["guests", "", ""]),
            entry(None, Some("NEWS.*"), ["guests", "users", ""]),
            entry(None, Some("ALL.>"), ["guests", "", ""]),
        ];
        let of = |groups: &[&str]| {
            let groups: Vec<_> = groups.iter().map(|group| (*group).to_owned()).collect();
            permissions(&entries, &groups, "/")
        };
        let (admin, topic) = of(&["admins"]);
        allows(&admin.read, &[("anything", true), ("USERS.a", true)]);
        allows(&topic.read, &[("NEWS.a", false)]);
        let (guest, topic) = of(&["guests", "others"]);
        allows(&guest.write, &[("USERS", true), ("USERS.a.b", true), ("USERSX", false), ("amq.default", false)]);
        allows(&guest.write, &[("amq.topic", false), ("ID:host-1:1", true), ("jms-subscription-c:n", true)]);
        allows(&guest.read, &[("A+*.x", true), ("A++.x", false), ("USERS.a", false), ("amq.topic", true)]);
        allows(&guest.configure, &[("USERS.a", false), ("openwire-subscription-1", true)]);
        allows(
            &topic.read,
            &[("NEWS.a", true), ("NEWS.*", true), ("NEWS.#", false), ("NEWS.a.b", false), ("#", false)],
        );
        allows(&topic.read, &[("ALL.#", true), ("ALL.a.#", true), ("ALL", true), ("ALLES", false)]);
        allows(&topic.write, &[("NEWS.a", false)]);
        let (user, topic) = of(&["users"]);
        allows(&user.write, &[("amq.topic", true), ("jms-subscription-c:n", false)]);
        allows(&topic.write, &[("NEWS.a", true)]);
        let (nobody, _) = of(&[]);
        allows(&nobody.read, &[("USERS.a", false), ("ID:host-1:1", true)]);
    }
}
