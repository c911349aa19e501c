//! Just enough of SVG, and scales for its axes.

use std::fmt::Write;

/// One for each broker; they stay apart for the colour-blind, too.
const COLOURS: [&str; 4] = ["#0b7285", "#e8590c", "#7048e8", "#868e96"];
pub const GRID: &str = "#dee2e6";
pub const INK: &str = "black";
pub const PALE: &str = "#495057";

pub fn colour(column: usize) -> &'static str {
    COLOURS[column % COLOURS.len()]
}

/// Which end of a text is at its place.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that grows by what is drawn.
pub struct Picture {
    out: String,
}

impl Picture {
    pub fn new(width: f64, height: f64) -> Self {
        let style = "font-family='sans-serif' font-size='13'";
        let mut picture = Self { out: String::new() };
        picture.add(&format!("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {style}>"));
        picture.add("<rect width='100%' height='100%' fill='white'/>");
        picture
    }

    pub fn finish(mut self) -> String {
        self.add("</svg>");
        self.out
    }

    pub fn title(&mut self, text: &str) {
        self.add(&format!("<text x='10' y='24' font-size='16'>{}</text>", escaped(text)));
    }

    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, colour: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.add(&format!("<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}' fill='{colour}'>{text}</text>"));
    }

    pub fn rect(&mut self, (x, y): (f64, f64), width: f64, height: f64, colour: &str) {
        self.add(&format!("<rect x='{x:.1}' y='{y:.1}' width='{width:.1}' height='{height:.1}' fill='{colour}'/>"));
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        self.path(&[from, to], colour, false);
    }

    pub fn path(&mut self, points: &[(f64, f64)], colour: &str, is_dashed: bool) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (points, width) = (points.join(" "), if colour == GRID { 1 } else { 2 });
        let dashes = if is_dashed { " stroke-dasharray='6 4'" } else { "" };
        let stroke = format!("fill='none' stroke='{colour}' stroke-width='{width}'{dashes}");
        self.add(&format!("<polyline points='{points}' {stroke}/>"));
    }

    pub fn dot(&mut self, (x, y): (f64, f64), colour: &str) {
        self.add(&format!("<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{colour}'/>"));
    }

    /// A square of each column's colour, with its label.
    pub fn legend(&mut self, labels: &[String]) {
        let mut left = 10.0;
        for (index, label) in labels.iter().enumerate() {
            self.rect((left, 38.0), 14.0, 14.0, colour(index));
            self.text((left + 20.0, 50.0), Anchor::Start, INK, label);
            left += 50.0 + 7.5 * label.chars().count() as f64;
        }
    }

    fn add(&mut self, element: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{element}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Where values lie between two ends of an axis.
#[derive(Clone, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    is_logarithmic: bool,
}

impl Scale {
    /// From the power of ten below the values to the one above.
    pub fn logarithmic(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (low, high) = values
            .filter(|value| *value > 0.0)
            .fold((f64::MAX, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
        let low = if high > 0.0 { low.log10().floor() } else { 0.0 };
        let high = if high > 0.0 { high.log10().ceil().max(low + 1.0) } else { 1.0 };
        Self { low, high, start, end, is_logarithmic: true }
    }

    /// From zero to the highest value.
    pub fn linear(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let high = values.fold(0.0, f64::max);
        Self { low: 0.0, high: if high > 0.0 { high } else { 1.0 }, start, end, is_logarithmic: false }
    }

    /// A logarithmic scale has no place for zero.
    pub fn at(&self, value: f64) -> Option<f64> {
        let value = if self.is_logarithmic { value.log10() } else { value };
        let share = (value - self.low) / (self.high - self.low);
        value.is_finite().then_some(self.start + (self.end - self.start) * share)
    }

    /// Round values on the axis, and where they are: powers of ten, or up to eight multiples of 1, 2 or 5.
    pub fn ticks(&self) -> Vec<(f64, f64)> {
        let values: Vec<f64> = if self.is_logarithmic {
            (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power)).collect()
        } else {
            let power = 10f64.powf((self.high / 8.0).log10().floor());
            let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
            let step = steps.into_iter().find(|step| self.high / step <= 8.0).unwrap_or(self.high);
            (0..=(self.high / step) as u32).map(|index| f64::from(index) * step).collect()
        };
        values.into_iter().filter_map(|value| Some((value, self.at(value)?))).collect()
    }
}

/// A number as people say it.
pub fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.1} M", value / 1e6).replace(".0", ""),
        _ if value >= 1e4 => format!("{:.0} k", value / 1e3),
        _ if value >= 1e3 => format!("{:.1} k", value / 1e3).replace(".0", ""),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_ticks() {
        let values = |scale: &Scale| scale.ticks().into_iter().map(|(value, _)| value).collect::<Vec<_>>();
        let scale = Scale::logarithmic([20.0, 0.0, 3000.0].into_iter(), 100.0, 0.0);
        assert_eq!(values(&scale), [10.0, 100.0, 1000.0, 10_000.0]);
        assert_eq!((scale.at(10.0), scale.at(10_000.0), scale.at(0.0)), (Some(100.0), Some(0.0), None));
        let scale = Scale::linear([0.0, 938.0].into_iter(), 0.0, 469.0);
        assert_eq!(values(&scale), [0.0, 200.0, 400.0, 600.0, 800.0]);
        assert_eq!(scale.at(800.0), Some(400.0));
        assert_eq!(values(&Scale::linear([].into_iter(), 0.0, 1.0)).len(), 6);
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [7.0, 1e3, 1400.0, 45_000.0, 1e6, 1.53e6].map(short);
        assert_eq!(numbers, ["7", "1 k", "1.4 k", "45 k", "1 M", "1.5 M"]);
    }
}
