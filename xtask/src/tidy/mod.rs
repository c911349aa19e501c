//! Checks of structure and style that neither the compiler nor clippy makes.
//!
//! `crates` is the table of what each crate may use and mention. Each other submodule has one kind of rule: `manifests`
//! which crate may use which, `words` what a crate must not mention, `architecture` what ARCHITECTURE.md must tell,
//! `conformance` what docs/mqtt-conformance.md may name, `shape` how long files and functions are, `text` what no file of the repository may contain.

mod architecture;
mod conformance;
mod crates;
mod manifests;
mod shape;
mod source;
mod text;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// What is written by tools or comes from elsewhere.
const NOT_OURS: [&str; 8] =
    [".git", "target", "node_modules", ".venv", "__pycache__", "roadstead-data", "Cargo.lock", "package-lock.json"];

/// A place and what is wrong there.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From one; zero if it is about the whole file.
    line: usize,
    what: String,
}

/// A file of the repository, with a path relative to its root.
struct Text {
    path: String,
    content: String,
}

impl Text {
    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Checks the repository in `root`, and returns one line per finding.
pub fn check(root: &Path) -> Result<(), String> {
    let mut files = Vec::new();
    read(root, root, &mut files);
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let mut findings: Vec<Finding> = files.iter().flat_map(check_file).collect();
    findings.extend(manifests::check(&files));
    findings.extend(architecture::check(&files));
    findings.extend(conformance::check(&files));
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> =
        findings.iter().map(|each| format!("{}:{}: {}", each.path, each.line, each.what)).collect();
    Err(format!("tidy has {} findings\n{}", lines.len(), lines.join("\n")))
}

fn check_file(file: &Text) -> Vec<Finding> {
    let mut findings = text::check(file);
    if file.is_rust() {
        let code = source::code_of(&file.content);
        findings.extend(shape::check(file, &code));
        findings.extend(words::check(file, &code));
    }
    findings
}

fn read(root: &Path, folder: &Path, files: &mut Vec<Text>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let path = entry.path();
        if NOT_OURS.iter().any(|other| name == *other) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            read(root, &path, files);
        } else if let Ok(content) = fs::read_to_string(&path) {
            files.push(Text { path: relative(root, path), content });
        }
    }
}

fn relative(root: &Path, path: PathBuf) -> String {
    let path = path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
    path.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        if let Err(findings) = super::check(&crate::root()) {
            panic!("{findings}");
        }
    }
}
