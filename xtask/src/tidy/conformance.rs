//! docs/mqtt-conformance.md says which test shows each statement of a specification: each of them must be there.

use super::{Finding, Text};

const PATH: &str = "docs/mqtt-conformance.md";
const SCRIPTS: &str = "crates/mqtt/testscripts/";
const CHECKS: &str = "tests/clients/python/mqtt/";

/// Whether every row names what exists, or says in words why there is nothing to name.
pub fn check(files: &[Text]) -> Vec<Finding> {
    let Some(document) = files.iter().find(|file| file.path == PATH) else { return Vec::new() };
    let mut findings = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    for (index, line) in document.content.lines().enumerate() {
        let Some((statement, shown)) = row(line) else { continue };
        let mut say = |what: String| findings.push(document.finding(index + 1, what));
        if known.contains(&statement) {
            say(format!("{statement} has a row already"));
        }
        known.push(statement);
        if shown.is_empty() {
            say(format!("{statement} is neither shown nor said not to be"));
        }
        // Every second part is in backticks.
        for name in shown.split('`').skip(1).step_by(2).filter(|name| !exists(files, name)) {
            say(format!("there is no `{name}`"));
        }
    }
    findings
}

/// The first cell and the last of a row about a statement.
fn row(line: &str) -> Option<(&str, &str)> {
    let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    cells.first().filter(|first| first.starts_with("MQTT-")).copied().zip(cells.last().copied())
}

/// Whether there is a script, a check with real clients, or a test in a file, of a name.
fn exists(files: &[Text], name: &str) -> bool {
    if let Some(check) = name.strip_prefix("paho: ") {
        let registered = format!("(\"{check}\"");
        return files.iter().any(|file| file.path.starts_with(CHECKS) && file.content.contains(&registered));
    }
    match name.rsplit_once("::") {
        Some((stem, test)) => {
            let (file_name, function) = (format!("{stem}.rs"), format!("fn {test}("));
            files.iter().any(|file| file.name() == file_name && file.content.contains(&function))
        }
        None => files.iter().any(|file| file.path.strip_prefix(SCRIPTS) == Some(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(rows: &str) -> Vec<String> {
        let text = |path: &str, content: &str| Text { path: path.to_owned(), content: content.to_owned() };
        let files = [
            text(PATH, rows),
            text("crates/mqtt/testscripts/a.txt", ""),
            text("crates/mqtt/tests/garbage.rs", "fn it_holds() {}"),
            text("tests/clients/python/mqtt/wills.py", "@suite.check(\"will\")\n"),
        ];
        check(&files).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn what_is_named_is_there() {
        let good = "| statement | |\n| MQTT-1 | x | `a.txt`, `garbage::it_holds` |\n| MQTT-2 | x | `paho: will` |\n\
            | MQTT-3 | x | client |\n";
        assert_eq!(findings(good), Vec::<String>::new());
        for name in ["b.txt", "garbage::it_does_not", "other::it_holds", "paho: wills", "it_holds"] {
            assert_eq!(findings(&format!("| MQTT-1 | x | `{name}` |\n")), [format!("there is no `{name}`")]);
        }
        assert_eq!(findings("| MQTT-1 | x | client |\n| MQTT-1 | x | |\n").len(), 2);
    }
}
