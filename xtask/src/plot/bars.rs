//! Loads, or the parts of a suite, side by side: a bar for each broker, on a logarithmic scale, with the ratios beside them.

use serde_json::Value;

use super::svg::{Anchor, GRID, INK, PALE, Picture, Scale, colour, short};
use super::{labels, list};

const WIDTH: f64 = 900.0;
const LABEL: f64 = 330.0;
const BAR: f64 = 16.0;
const GAP: f64 = 12.0;
const TOP: f64 = 70.0;

/// One load or part: its name and the rates of all brokers that have one.
struct Row {
    name: String,
    rates: Vec<Option<f64>>,
}

pub fn svg(outcome: &Value) -> Option<String> {
    let loads = list(outcome, "loads")?;
    let rows: Vec<Row> = loads.iter().map(row).collect::<Option<_>>()?;
    Some(draw("Messages per second (logarithmic scale)", &rows, &labels(list(&loads[0], "columns")?)))
}

/// The parts of a suite, which the first broker has all. Some have no rate, and no bar.
pub fn features(outcome: &Value) -> Option<String> {
    let brokers = list(outcome, "features")?;
    let rows = list(&brokers[0], "parts")?.iter().map(|part| feature(part, brokers)).collect::<Option<Vec<_>>>()?;
    let rows: Vec<Row> = rows.into_iter().filter(|row| row.rates.iter().any(Option::is_some)).collect();
    Some(draw("Per second (logarithmic scale)", &rows, &labels(brokers)))
}

fn feature(part: &Value, brokers: &[Value]) -> Option<Row> {
    let rate = |broker: &Value| {
        let same = broker["parts"].as_array()?.iter().find(|other| other["name"] == part["name"])?;
        same["per_s"].as_f64().filter(|rate| *rate > 0.0)
    };
    let name = format!("{}: {}", part["name"].as_str()?, part["unit"].as_str()?);
    Some(Row { name, rates: brokers.iter().map(rate).collect() })
}

fn row(load: &Value) -> Option<Row> {
    let name = load["name"].as_str().filter(|name| !name.is_empty()).or(load["load"].as_str())?;
    let rate = |column: &Value| column["median"]["messages_per_s"].as_f64();
    let columns = list(load, "columns")?;
    // Without a rate it was not measured at all, unless the broker does not have it.
    let is_whole = columns.iter().all(|column| rate(column).is_some() || column["unavailable"].is_string());
    is_whole.then(|| Row { name: name.to_owned(), rates: columns.iter().map(rate).collect() })
}

fn draw(title: &str, rows: &[Row], labels: &[String]) -> String {
    let row_height = BAR * labels.len() as f64 + GAP;
    let bottom = TOP + row_height * rows.len() as f64 + 10.0;
    let rates = rows.iter().flat_map(|row| row.rates.iter().copied().flatten());
    let scale = Scale::logarithmic(rates, LABEL, WIDTH - 90.0);
    let mut picture = Picture::new(WIDTH, bottom + 30.0);
    picture.title(title);
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
            let Some(rate) = *rate else {
                picture.text((LABEL + 5.0, top + 12.0), Anchor::Start, PALE, "not available");
                continue;
            };
            let end = scale.at(rate).unwrap_or(LABEL);
            picture.rect((LABEL, top), end - LABEL, BAR - 1.0, colour(column));
            let ratio = row.rates[0].filter(|_| column > 0).map(|first| format!(" ({:.1}×)", first / rate));
            let ratio = ratio.unwrap_or_default();
            picture.text((end + 5.0, top + 12.0), Anchor::Start, INK, &format!("{}{ratio}", short(rate)));
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

    #[test]
    fn a_load_that_a_broker_does_not_have_has_no_bar() {
        let columns = json!([
            { "label": "A", "median": { "messages_per_s": 2e6 } },
            { "label": "B", "median": { "messages_per_s": null }, "unavailable": "no such QoS" },
        ]);
        let picture = svg(&json!({ "loads": [{ "name": "QoS 2", "columns": columns }] })).expect("it is drawn");
        assert_eq!(picture.matches("not available").count(), 1, "{picture}");
    }

    #[test]
    fn a_broker_without_a_feature_has_no_bar() {
        let broker = |rate: f64| {
            json!({ "label": "A", "parts": [
                { "name": "drain", "unit": "messages", "per_s": rate },
                { "name": "idle", "unit": "connections", "per_s": 0.0 },
            ] })
        };
        let outcome = json!({ "features": [broker(2e5), broker(1e4), { "label": "B", "parts": [] }] });
        let picture = features(&outcome).expect("it is drawn");
        assert!(picture.contains("(20.0×)") && picture.contains("drain: messages"), "{picture}");
        assert_eq!(picture.matches("not available").count(), 1, "{picture}");
        assert!(features(&json!({ "features": [] })).is_none());
    }
}
