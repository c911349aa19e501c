//! Loads side by side: a bar for each broker, on a logarithmic scale, with the ratios beside them.

use serde_json::Value;

use super::svg::{Anchor, GRID, INK, PALE, Picture, Scale, colour, short};
use super::{labels, list};

const WIDTH: f64 = 900.0;
const LABEL: f64 = 330.0;
const BAR: f64 = 16.0;
const GAP: f64 = 12.0;
const TOP: f64 = 70.0;

/// One load: its name and the messages per second of all brokers.
struct Row {
    name: String,
    rates: Vec<f64>,
}

pub fn svg(outcome: &Value) -> Option<String> {
    let loads = list(outcome, "loads")?;
    let rows: Vec<Row> = loads.iter().map(row).collect::<Option<_>>()?;
    Some(draw(&rows, &labels(list(&loads[0], "columns")?)))
}

fn row(load: &Value) -> Option<Row> {
    let name = load["name"].as_str().filter(|name| !name.is_empty()).or(load["load"].as_str())?;
    let rate = |column: &Value| column["median"]["messages_per_s"].as_f64();
    let rates = list(load, "columns")?.iter().map(rate).collect::<Option<_>>()?;
    Some(Row { name: name.to_owned(), rates })
}

fn draw(rows: &[Row], labels: &[String]) -> String {
    let row_height = BAR * labels.len() as f64 + GAP;
    let bottom = TOP + row_height * rows.len() as f64 + 10.0;
    let rates = rows.iter().flat_map(|row| row.rates.iter().copied());
    let scale = Scale::logarithmic(rates, LABEL, WIDTH - 90.0);
    let mut picture = Picture::new(WIDTH, bottom + 30.0);
    picture.title("Messages per second (logarithmic scale)");
    picture.legend(labels);
    for (rate, x) in scale.ticks() {
        picture.line((x, TOP), (x, bottom), GRID);
        picture.text((x, bottom + 18.0), Anchor::Middle, PALE, &short(rate));
    }
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + row_height * index as f64 + GAP / 2.0;
        let middle = y + BAR * row.rates.len() as f64 / 2.0 + 4.0;
        picture.text((LABEL - 10.0, middle), Anchor::End, INK, &row.name);
        for (column, rate) in row.rates.iter().enumerate() {
            let top = y + BAR * column as f64;
            let end = scale.at(*rate).unwrap_or(LABEL);
            picture.rect((LABEL, top), end - LABEL, BAR - 1.0, colour(column));
            let ratio = if column > 0 { format!(" ({:.1}×)", row.rates[0] / rate) } else { String::new() };
            picture.text((end + 5.0, top + 12.0), Anchor::Start, INK, &format!("{}{ratio}", short(*rate)));
        }
    }
    picture.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_load_gets_a_bar_for_each_broker_and_ratios() {
        let column = |rate: f64| json!({ "label": "A", "median": { "messages_per_s": rate } });
        let loads = json!([{ "name": "16 B", "columns": [column(2e6), column(1e5), column(5e4)] }]);
        let picture = svg(&json!({ "loads": loads })).expect("it is drawn");
        assert!(picture.contains("(20.0×)") && picture.contains("(40.0×)"), "{picture}");
        assert_eq!(picture.matches("<rect").count(), 7, "{picture}");
    }
}
