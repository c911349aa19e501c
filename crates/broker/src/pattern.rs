//! Patterns of names, in which `*` stands for a word and `>` for all that follow, and the queues that they are for.

/// Queues whose names begin so are of one subscription, session or client, and no pattern is for them.
const PRIVATE: [&str; 5] =
    ["amq.", "jms-subscription-", "mqtt-subscription-", "openwire-subscription-", "stomp-subscription-"];

/// Whether a name stands for several.
pub fn is_pattern(name: &str) -> bool {
    name.split('.').any(|word| word == "*" || word == ">")
}

/// Whether a name is one of those that a pattern stands for.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut words = name.split('.');
    for part in pattern.split('.') {
        match (part, words.next()) {
            (">", _) => return true,
            ("*", Some(_)) => {}
            (part, Some(word)) if part == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

/// Whether a queue is of one subscription, session or client.
pub fn is_private(name: &str) -> bool {
    PRIVATE.iter().any(|private| name.starts_with(private))
}

/// Whether a queue is one of those that a pattern stands for.
pub fn is_of_pattern(pattern: &str, name: &str) -> bool {
    matches(pattern, name) && !is_private(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pattern_is_for_private_queues() {
        assert!(is_of_pattern(">", "orders.new") && is_of_pattern("orders.*", "orders.new"));
        for private in ["jms-subscription-c:n", "mqtt-subscription-cqos1", "amq.gen-x"] {
            assert!(!is_of_pattern(">", private), "{private}");
        }
    }
}
