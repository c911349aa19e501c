//! The exposition format of Prometheus, version 0.0.4.

use std::fmt::Write;

use super::{Kind, Output};

/// Metrics that are being written down.
pub struct Text {
    prefix: &'static str,
    out: String,
}

impl Text {
    /// Nothing yet; names begin with `prefix`.
    pub fn new(prefix: &'static str) -> Self {
        Self { prefix, out: String::new() }
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.out
    }
}

impl Output for Text {
    fn prefix(&self) -> &'static str {
        self.prefix
    }

    fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a text does not fail.
        let _ = writeln!(self.out, "# TYPE {name} {kind}\n# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.out.push_str(if index == 0 { "{" } else { "," });
            let _ = write!(self.out, "{label}=\"");
            text.chars().for_each(|c| match c {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                c => self.out.push(c),
            });
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::new("p_");
        text.one("a", Kind::Gauge, "An a.", 1.5);
        text.sample("b", &[("x", "a\"b\\c\nd"), ("y", "")], f64::NAN);
        let expected = "# TYPE p_a gauge\n# HELP p_a An a.\np_a 1.5\nb{x=\"a\\\"b\\\\c\\nd\",y=\"\"} NaN\n";
        assert_eq!(text.finish(), expected);
    }
}
