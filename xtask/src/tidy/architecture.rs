//! ARCHITECTURE.md tells people what each crate is for: a Markdown table whose first column is headed `crate`.

use super::{Finding, Text};

const PATH: &str = "ARCHITECTURE.md";

/// Whether every crate of the workspace has a row, once there is such a file.
pub fn check(files: &[Text]) -> Vec<Finding> {
    let Some(architecture) = files.iter().find(|file| file.path == PATH) else { return Vec::new() };
    let rows = rows(&architecture.content);
    let missing = members(files).filter(|name| !rows.contains(name));
    missing.map(|name| architecture.finding(0, format!("the table of crates has no row for `{name}`"))).collect()
}

/// The names of the workspace's crates: each is called as its folder.
fn members(files: &[Text]) -> impl Iterator<Item = &str> {
    let folders = files.iter().filter_map(|file| file.path.strip_suffix("/Cargo.toml"));
    // Fuzz targets and suites of clients are workspaces of their own.
    let is_apart = |folder: &&str| *folder == "fuzz" || folder.starts_with("tests/clients/");
    folders.filter(move |folder| !is_apart(folder)).filter_map(|folder| folder.rsplit('/').next())
}

/// What stands in backticks in the first column.
fn rows(markdown: &str) -> Vec<&str> {
    let first_cell = |line| str::split(line, '|').nth(1).unwrap_or_default().trim();
    let table = markdown.lines().skip_while(|line| first_cell(line).trim_matches('`') != "crate");
    let table = table.take_while(|line| line.starts_with('|'));
    // Every second part of a cell is in backticks.
    table.flat_map(|line| first_cell(line).split('`').skip(1).step_by(2)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# A\n\n| no | crate |\n|---|---|\n| `c` | |\n\n| crate | holds |\n|---|---|\n\
        | `a`, `b` | `x` |\n| `tests` | |\n\n| `later` | |\n";

    fn findings(folders: &[&str]) -> Vec<String> {
        let text = |path: String, content: &str| Text { path, content: content.to_owned() };
        let mut files: Vec<Text> = folders.iter().map(|folder| text(format!("{folder}/Cargo.toml"), "")).collect();
        files.push(text(PATH.to_owned(), TABLE));
        check(&files).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_crate_needs_a_row_of_the_right_table() {
        assert!(findings(&["crates/a", "crates/b", "tests", "fuzz", "tests/clients/x"]).is_empty());
        assert_eq!(findings(&["crates/x", "crates/c", "crates/later"]).len(), 3);
        assert!(check(&[]).is_empty());
    }
}
