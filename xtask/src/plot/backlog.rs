//! Memory, disk and rates over the depth of a queue that is filled and drained.

use serde_json::Value;

use super::panel::{self, Line, Panel, Words};
use super::{labels, list};

const MIB: f64 = (1 << 20) as f64;

pub fn svg(outcome: &Value) -> Option<String> {
    let backlogs = list(outcome, "backlogs")?;
    let panel = |title: &str, figure: &str, unit: f64, is_y_logarithmic: bool| {
        let lines =
            |half| backlogs.iter().enumerate().map(move |(column, backlog)| line(backlog, column, half, figure, unit));
        let lines: Vec<_> = lines("fill").chain(lines("drain")).collect();
        let has_points = lines.iter().any(|line| !line.points.is_empty());
        has_points.then(|| Panel { title: title.to_owned(), lines, is_x_logarithmic: false, is_y_logarithmic })
    };
    let panels = [
        panel("memory, MiB", "resident_bytes", MIB, false),
        panel("data directory, MiB", "disk_bytes", MIB, false),
        panel("messages per second", "messages_per_s", 1.0, true),
    ];
    let words = Words {
        title: "A queue is filled without a consumer, then drained",
        lines: ["filling", "draining"],
        x_axis: "messages in the queue",
        labels: labels(backlogs),
    };
    Some(panel::svg(&words, &panels.into_iter().flatten().collect::<Vec<_>>()))
}

fn line(backlog: &Value, column: usize, half: &str, figure: &str, unit: f64) -> Line {
    let samples = backlog[half]["samples"].as_array().map(Vec::as_slice).unwrap_or_default();
    let point = |sample: &Value| Some((sample["depth"].as_f64()?, sample[figure].as_f64()? / unit));
    Line { column, is_dashed: half == "drain", points: samples.iter().filter_map(point).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_measured_has_no_panel() {
        let sample = |depth: u64, rate: Option<f64>| json!({ "depth": depth, "messages_per_s": rate, "resident_bytes": depth + 1, "disk_bytes": null });
        let half = json!({ "samples": [sample(0, None), sample(10, Some(1e3))] });
        let backlog = json!({ "label": "A", "fill": half, "drain": half });
        let picture = svg(&json!({ "backlogs": [backlog, backlog] })).expect("it is drawn");
        assert!(picture.contains("memory, MiB") && !picture.contains("data directory"));
        // Two columns and two halves, with two samples of memory and one of the rate.
        assert_eq!(picture.matches("<circle").count(), 2 * 2 * 3);
        assert!(svg(&json!({})).is_none());
    }
}
