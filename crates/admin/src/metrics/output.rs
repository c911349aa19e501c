//! What metrics are written to.

/// What a number is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A form in which metrics are written down.
pub trait Output {
    /// What names begin with.
    fn prefix(&self) -> &'static str;

    /// Begins a metric with a whole name.
    fn begin(&mut self, name: &str, kind: Kind, help: &str);

    /// A number, with labels, of the metric that was begun last.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64);

    /// A metric with one number.
    fn one(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        let name = self.named(name);
        self.begin(&name, kind, help);
        self.sample(&name, &[], value);
    }

    /// A name with what all of them begin with.
    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.prefix())
    }
}
