//! `cargo xtask plot FIGURES.json PICTURE.svg`: the figures of `roadstead bench --suite --against` as a picture: two bars a
//! load, on a logarithmic scale, with the ratio beside them.

use std::{fmt::Write, fs};

use serde_json::Value;

const WIDTH: f64 = 900.0;
const LABEL: f64 = 330.0;
const ROW: f64 = 44.0;
const BAR: f64 = 15.0;
const TOP: f64 = 70.0;

/// One load: its name and the messages per second of both brokers.
struct Row {
    name: String,
    ours: f64,
    theirs: f64,
}

/// Draws the picture.
///
/// # Errors
/// If the file is not what `roadstead bench --json` writes, or the picture cannot be written.
pub fn draw(figures: &str, picture: &str) -> Result<(), String> {
    let text = fs::read_to_string(figures).map_err(|error| format!("{figures}: {error}"))?;
    let scenarios: Vec<Value> = serde_json::from_str(&text).map_err(|error| format!("{figures}: {error}"))?;
    let rows: Option<Vec<Row>> = scenarios.iter().map(row).collect();
    let rows = rows.ok_or_else(|| format!("{figures} does not compare two brokers"))?;
    let labels = [label(&scenarios, "ours"), label(&scenarios, "rival")];
    fs::write(picture, svg(&rows, &labels)).map_err(|error| format!("{picture}: {error}"))
}

fn row(scenario: &Value) -> Option<Row> {
    Some(Row {
        name: scenario["name"].as_str()?.to_owned(),
        ours: scenario["ours_median"]["messages_per_s"].as_f64()?,
        theirs: scenario["rival_median"]["messages_per_s"].as_f64()?,
    })
}

fn label(scenarios: &[Value], side: &str) -> String {
    scenarios.first().and_then(|first| first[side][0]["label"].as_str()).unwrap_or(side).to_owned()
}

fn svg(rows: &[Row], labels: &[String; 2]) -> String {
    let height = TOP + ROW * rows.len() as f64 + 40.0;
    let all = rows.iter().flat_map(|row| [row.ours, row.theirs]);
    let (low, high) = all.fold((f64::MAX, 0.0), |(low, high): (f64, f64), rate| (low.min(rate), high.max(rate)));
    let (from, to) = (low.log10().floor(), high.log10().ceil());
    let x = |rate: f64| LABEL + (WIDTH - LABEL - 90.0) * (rate.log10() - from) / (to - from);
    let mut out = String::new();
    let style = "font-family='sans-serif' font-size='13'";
    let _ = writeln!(out, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' {style}>");
    let _ = writeln!(out, "<rect width='100%' height='100%' fill='white'/>");
    let _ = writeln!(out, "<text x='10' y='24' font-size='16'>Messages per second (logarithmic scale)</text>");
    for (index, (label, colour)) in labels.iter().zip(["#0b7285", "#e8590c"]).enumerate() {
        let left = 10.0 + 150.0 * index as f64;
        let _ = writeln!(out, "<rect x='{left}' y='38' width='14' height='14' fill='{colour}'/>");
        let _ = writeln!(out, "<text x='{}' y='50'>{label}</text>", left + 20.0);
    }
    for power in from as i32..=to as i32 {
        let rate = 10f64.powi(power);
        let (x, bottom) = (x(rate), height - 30.0);
        let _ = writeln!(out, "<line x1='{x}' y1='{TOP}' x2='{x}' y2='{bottom}' stroke='#dee2e6'/>");
        let _ = writeln!(
            out,
            "<text x='{x}' y='{}' text-anchor='middle' fill='#495057'>{}</text>",
            height - 12.0,
            short(rate)
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + ROW * index as f64 + 6.0;
        let _ = writeln!(out, "<text x='{}' y='{}' text-anchor='end'>{}</text>", LABEL - 10.0, y + BAR + 4.0, row.name);
        for (offset, rate, colour) in [(0.0, row.ours, "#0b7285"), (BAR + 1.0, row.theirs, "#e8590c")] {
            let width = x(rate) - LABEL;
            let top = y + offset;
            let _ = writeln!(out, "<rect x='{LABEL}' y='{top}' width='{width}' height='{BAR}' fill='{colour}'/>");
            let ratio = if offset == 0.0 { format!(" ({:.1}×)", row.ours / row.theirs) } else { String::new() };
            let _ = writeln!(out, "<text x='{}' y='{}'>{}{ratio}</text>", LABEL + width + 5.0, top + 12.0, short(rate));
        }
    }
    out.push_str("</svg>\n");
    out
}

/// A rate as people say it.
fn short(rate: f64) -> String {
    match rate {
        _ if rate >= 1e6 => format!("{:.1} M", rate / 1e6),
        _ if rate >= 1e3 => format!("{:.0} k", rate / 1e3),
        _ => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_gets_two_bars_and_a_ratio() {
        let side = |rate: f64| serde_json::json!({ "messages_per_s": rate });
        let scenario = serde_json::json!({ "name": "16 B", "ours_median": side(2e6), "rival_median": side(1e5) });
        let row = row(&scenario).expect("it is a comparison");
        let picture = svg(&[row], &["A".into(), "B".into()]);
        assert!(picture.contains("(20.0×)") && picture.matches("<rect").count() == 5, "{picture}");
    }
}
