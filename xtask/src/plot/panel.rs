//! One diagram of lines, which stands beside others.

use super::svg::{Anchor, GRID, INK, PALE, Picture, Scale, colour, short};

const LEFT: f64 = 55.0;
const TOP: f64 = 110.0;
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 260.0;
const GAP: f64 = 60.0;

/// A diagram.
pub struct Panel {
    pub title: String,
    pub lines: Vec<Line>,
    pub is_x_logarithmic: bool,
    pub is_y_logarithmic: bool,
}

/// What one broker did.
pub struct Line {
    pub column: usize,
    pub is_dashed: bool,
    pub points: Vec<(f64, f64)>,
}

/// What stands around the diagrams.
pub struct Words<'a> {
    pub title: &'a str,
    /// What the lines mean that are not dashed, and those that are.
    pub lines: [&'a str; 2],
    pub x_axis: &'a str,
    pub labels: Vec<String>,
}

/// Panels from left to right; those with a logarithmic axis share its scale.
pub fn svg(words: &Words<'_>, panels: &[Panel]) -> String {
    let width = LEFT + (WIDTH + GAP) * panels.len() as f64 - GAP + 20.0;
    let mut picture = Picture::new(width.max(620.0), TOP + HEIGHT + 50.0);
    picture.title(words.title);
    picture.legend(&words.labels);
    for (index, meaning) in words.lines.iter().enumerate() {
        let left = 10.0 + 170.0 * index as f64;
        picture.path(&[(left, 69.0), (left + 30.0, 69.0)], INK, index == 1);
        picture.text((left + 38.0, 73.0), Anchor::Start, INK, meaning);
    }
    for (index, panel) in panels.iter().enumerate() {
        let left = LEFT + (WIDTH + GAP) * index as f64;
        panel.draw(&mut picture, left, panels, words.x_axis);
    }
    picture.finish()
}

impl Panel {
    fn draw(&self, picture: &mut Picture, left: f64, all: &[Self], x_axis: &str) {
        let (right, bottom) = (left + WIDTH, TOP + HEIGHT);
        let x = self.scale(all, |panel| panel.is_x_logarithmic, |(x, _)| x, (left, right));
        let y = self.scale(all, |panel| panel.is_y_logarithmic, |(_, y)| y, (bottom, TOP));
        picture.text((left, TOP - 12.0), Anchor::Start, INK, &self.title);
        for (value, at) in x.ticks() {
            picture.line((at, TOP), (at, bottom), GRID);
            picture.text((at, bottom + 18.0), Anchor::Middle, PALE, &short(value));
        }
        for (value, at) in y.ticks() {
            picture.line((left, at), (right, at), GRID);
            picture.text((left - 6.0, at + 4.0), Anchor::End, PALE, &short(value));
        }
        picture.text(((left + right) / 2.0, bottom + 38.0), Anchor::Middle, PALE, x_axis);
        for line in &self.lines {
            let place = |(x_value, y_value): &(f64, f64)| Some((x.at(*x_value)?, y.at(*y_value)?));
            let points: Vec<_> = line.points.iter().filter_map(place).collect();
            picture.path(&points, colour(line.column), line.is_dashed);
            points.into_iter().for_each(|point| picture.dot(point, colour(line.column)));
        }
    }

    fn scale(
        &self,
        all: &[Self],
        is_logarithmic: fn(&Self) -> bool,
        value: fn((f64, f64)) -> f64,
        (start, end): (f64, f64),
    ) -> Scale {
        let values = |panel: &Self| -> Vec<f64> {
            panel.lines.iter().flat_map(|line| &line.points).map(|point| value(*point)).collect()
        };
        if is_logarithmic(self) {
            let sharing = all.iter().filter(|panel| is_logarithmic(panel));
            Scale::logarithmic(sharing.flat_map(values), start, end)
        } else {
            Scale::linear(values(self).into_iter(), start, end)
        }
    }
}
