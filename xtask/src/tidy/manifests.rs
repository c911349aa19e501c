//! Which crate may use which, so that an arrow can't be added without changing the table.

use toml::{Table, Value};

use super::crates::Crate;
use super::{Finding, Text};

/// A line of a manifest: the name by which the crate uses it, and whether it belongs to us.
struct Dependency {
    name: String,
    is_ours: bool,
    is_for_tests: bool,
}

pub fn check(files: &[Text]) -> Vec<Finding> {
    let Some(workspace) = files.iter().find(|file| file.path == "Cargo.toml") else {
        return vec![Finding { path: "Cargo.toml".to_owned(), line: 0, what: "there is no workspace".to_owned() }];
    };
    let shared = workspace.content.parse::<Table>().unwrap_or_default();
    let manifests = files.iter().filter(|file| file.name() == "Cargo.toml" && file.path != workspace.path);
    manifests.flat_map(|manifest| check_manifest(manifest, &shared)).collect()
}

fn check_manifest(manifest: &Text, workspace: &Table) -> Vec<Finding> {
    let Some(user) = Crate::of(&manifest.path) else {
        return vec![manifest.finding(0, "tidy's table (xtask/src/tidy/crates.rs) doesn't have this crate")];
    };
    let table = match manifest.content.parse::<Table>() {
        Ok(table) => table,
        Err(error) => return vec![manifest.finding(0, error.to_string())],
    };
    let mut findings = Vec::new();
    for dependency in dependencies(&table, workspace) {
        if !user.allows(&dependency.name, dependency.is_ours, dependency.is_for_tests) {
            let line = manifest.content.lines().position(|line| line.starts_with(&dependency.name));
            let what = format!("{} may not use {}; see ARCHITECTURE.md", user.folder, dependency.name);
            findings.push(manifest.finding(line.map_or(0, |index| index + 1), what));
        }
    }
    findings
}

fn dependencies(manifest: &Table, workspace: &Table) -> Vec<Dependency> {
    let mut found = Vec::new();
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    for table in targets.filter_map(Value::as_table).chain([manifest]) {
        for (section, is_for_tests) in
            [("dependencies", false), ("dev-dependencies", true), ("build-dependencies", false)]
        {
            for (name, value) in table.get(section).and_then(Value::as_table).into_iter().flatten() {
                let is_ours = is_ours(name, value, workspace);
                found.push(Dependency { name: name.clone(), is_ours, is_for_tests });
            }
        }
    }
    found
}

/// Whether it is a folder here, or inherits that from the workspace.
fn is_ours(name: &str, value: &Value, workspace: &Table) -> bool {
    let shared = || workspace.get("workspace")?.get("dependencies")?.get(name)?.get("path");
    let is_inherited = value.get("workspace").and_then(Value::as_bool) == Some(true);
    value.get("path").is_some() || is_inherited && shared().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str =
        "[workspace.dependencies]\nbroker = { path = 'crates/broker' }\nstore = { path = 'crates/store' }\n";

    fn findings(path: &str, manifest: &str) -> Vec<String> {
        let text = |path: &str, content: &str| Text { path: path.to_owned(), content: content.to_owned() };
        let found = check(&[text("Cargo.toml", WORKSPACE), text(path, manifest)]);
        found.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn arrows_of_the_table_are_allowed() {
        let manifest = "[dependencies]\nbroker.workspace = true\nbytes = '1'\n[dev-dependencies]\nproptest = '1'\n";
        assert!(findings("crates/amqp091/Cargo.toml", manifest).is_empty());
    }

    #[test]
    fn other_arrows_are_found() {
        let store = "[dependencies]\nstore.workspace = true\n";
        assert_eq!(findings("crates/amqp091/Cargo.toml", store).len(), 1);
        assert_eq!(
            findings("crates/broker/Cargo.toml", "[dev-dependencies]\nstore = { path = '../store' }\n").len(),
            1
        );
        assert_eq!(findings("crates/broker/Cargo.toml", "[target.'cfg(unix)'.dependencies]\ntokio = '1'\n").len(), 1);
        assert_eq!(findings("crates/common/Cargo.toml", "").len(), 1);
    }
}
