//! Confirmed messages per second over the messages outstanding: a panel for each size.

use serde_json::Value;

use super::panel::{self, Line, Panel, Words};
use super::{labels, list};

pub fn svg(outcome: &Value) -> Option<String> {
    let loads = list(outcome, "loads")?;
    let columns = list(&loads[0], "columns")?;
    let numbers = |name: &str| {
        let mut numbers: Vec<u64> = loads.iter().filter_map(|load| load[name].as_u64()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    let publishers = numbers("publishers");
    let panels = numbers("size").into_iter().map(|size| {
        let of_size = |publishers: &u64| {
            let is_meant = |load: &&Value| load["size"] == size && load["publishers"] == *publishers;
            loads.iter().filter(is_meant).collect::<Vec<_>>()
        };
        let lines = publishers.iter().flat_map(|one| lines(&of_size(one), columns.len(), *one > 1));
        Panel { title: title(size), lines: lines.collect(), is_x_logarithmic: true, is_y_logarithmic: true }
    });
    let (few, many) = (publishers.first()?, publishers.last()?);
    let words = Words {
        title: "Confirmed persistent messages per second",
        lines: [&plural(*few), &plural(*many)],
        x_axis: "outstanding per publisher",
        labels: labels(columns),
    };
    Some(panel::svg(&words, &panels.collect::<Vec<_>>()))
}

/// A line for each column.
fn lines(loads: &[&Value], columns: usize, is_dashed: bool) -> Vec<Line> {
    let point = |load: &&Value, column: usize| {
        let rate = load["columns"][column]["median"]["messages_per_s"].as_f64()?;
        Some((load["outstanding"].as_f64()?, rate))
    };
    let line =
        |column| Line { column, is_dashed, points: loads.iter().filter_map(|load| point(load, column)).collect() };
    (0..columns).map(line).collect()
}

fn title(size: u64) -> String {
    if size >= 1024 && size.is_multiple_of(1024) { format!("{} KiB", size / 1024) } else { format!("{size} B") }
}

fn plural(publishers: u64) -> String {
    format!("{publishers} publisher{}", if publishers == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_size_is_a_panel_and_every_column_has_a_line_for_few_and_for_many() {
        let mut loads = Vec::new();
        for size in [100, 65536] {
            for publishers in [1, 16] {
                for outstanding in [1, 10, 64] {
                    let column = |rate: f64| json!({ "label": "A & B", "median": { "messages_per_s": rate } });
                    let columns = [column(2e6), column(1e5), column(1e4)];
                    loads.push(json!({ "size": size, "publishers": publishers, "outstanding": outstanding, "columns": columns }));
                }
            }
        }
        let picture = svg(&json!({ "loads": loads })).expect("it is drawn");
        assert!(picture.contains(">100 B<") && picture.contains(">64 KiB<") && picture.contains("A &amp; B"));
        assert_eq!(picture.matches("<circle").count(), 2 * 2 * 3 * 3);
        assert_eq!(picture.matches("stroke-dasharray").count(), 1 + 2 * 3);
        assert!(svg(&json!({ "loads": [] })).is_none());
    }
}
