//! Names that differ from run to run, and how transcripts show them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What servers put before the names that they invent.
const INVENTED: [&str; 3] = ["amq.gen-", "amq.ctag-", "amq.rabbitmq.reply-to."];

/// Translates between the script's names and the real ones, for one conversation.
pub struct Names {
    /// Stands for `~` in the script.
    unique: String,
    /// Names that the server invented, in the order in which they were seen, with how they are shown.
    invented: Vec<(String, String)>,
}

impl Names {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        // Always of the same length, because texts that are cut off show it.
        Self { unique: format!("t{:08x}{serial:04x}.", now as u32), invented: Vec::new() }
    }

    pub fn real(&self, text: &str) -> String {
        let mut text = text.replace('~', &self.unique);
        for (real, shown) in self.invented.iter().rev() {
            text = text.replace(shown, real);
        }
        text
    }

    pub fn shown(&mut self, text: &str) -> String {
        let mut text = text.replace(&self.unique, "~");
        for prefix in INVENTED {
            let mut from = 0;
            while let Some(at) = text[from..].find(prefix).map(|at| at + from) {
                let is_part = |c: char| c.is_ascii_alphanumeric() || "-_+/=.".contains(c);
                let rest = &text[at + prefix.len()..];
                let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let real = text[at..at + prefix.len() + length].to_owned();
                let shown = if length == 0 { real.clone() } else { self.number(prefix, &real) };
                text.replace_range(at..at + real.len(), &shown);
                from = at + shown.len();
            }
        }
        without_times(&text)
    }

    fn number(&mut self, prefix: &str, real: &str) -> String {
        if let Some((_, shown)) = self.invented.iter().find(|(known, _)| known == real) {
            return shown.clone();
        }
        let seen = self.invented.iter().filter(|(_, shown)| shown.starts_with(prefix)).count();
        let shown = format!("{prefix}{}", seen + 1);
        self.invented.push((real.to_owned(), shown.clone()));
        shown
    }
}

/// Replaces the seconds in `time=T:1700000000` (of a death, say) by `*`.
fn without_times(text: &str) -> String {
    let mut parts = text.split("time=T:");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str("time=T:*");
        shown.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_names_are_numbered_and_found_again() {
        let mut names = Names::new();
        assert_eq!(names.shown("queue=amq.gen-XYZ_1= x"), "queue=amq.gen-1 x");
        assert_eq!(names.shown("'amq.gen-AAA' amq.gen-XYZ_1="), "'amq.gen-2' amq.gen-1");
        assert_eq!(names.real("amq.gen-2"), "amq.gen-AAA");
        assert_eq!(names.shown("{time=T:123,a=S:x}"), "{time=T:*,a=S:x}");
        let real = names.real("~q");
        assert_eq!(names.shown(&real), "~q");
    }
}
