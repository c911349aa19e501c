//! Patterns of names, in which `*` stands for a word and `>` for all that follow.

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
