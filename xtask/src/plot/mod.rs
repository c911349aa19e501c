//! `cargo xtask plot FIGURES.json PICTURE.svg`: what `roadstead bench --suite --json` wrote, as a picture.
//!
//! `bars` shows loads side by side, and the parts of the suites about features; `confirms` and `backlog` show the suites
//! of those names, in panels of `panel`; `svg` is what they draw with.

mod backlog;
mod bars;
mod confirms;
mod panel;
mod svg;

use std::fs;

use serde_json::Value;

/// Draws the picture.
///
/// # Errors
/// If the file is not what `roadstead bench --json` writes, or the picture cannot be written.
pub fn draw(figures: &str, picture: &str) -> Result<(), String> {
    let text = fs::read_to_string(figures).map_err(|error| format!("{figures}: {error}"))?;
    let outcome: Value = serde_json::from_str(&text).map_err(|error| format!("{figures}: {error}"))?;
    let drawn = match outcome["suite"].as_str() {
        Some("confirms") => confirms::svg(&outcome),
        Some("backlog") => backlog::svg(&outcome),
        Some("ttl" | "priority" | "delayed" | "stream" | "many") => bars::features(&outcome),
        Some("mqtt-idle" | "mqtt-connect" | "mqtt-retained") => bars::features(&outcome),
        _ => bars::svg(&outcome),
    };
    let drawn = drawn.ok_or_else(|| format!("{figures} has no figures that could be drawn"))?;
    fs::write(picture, drawn).map_err(|error| format!("{picture}: {error}"))
}

/// The elements of a list that is not empty.
fn list<'a>(value: &'a Value, name: &str) -> Option<&'a [Value]> {
    value[name].as_array().filter(|list| !list.is_empty()).map(Vec::as_slice)
}

fn labels(columns: &[Value]) -> Vec<String> {
    columns.iter().map(|column| column["label"].as_str().unwrap_or_default().to_owned()).collect()
}
