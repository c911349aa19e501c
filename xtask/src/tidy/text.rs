//! What no file of the repository may contain.

use super::{Finding, Text};

/// This file, which has to name what it looks for.
const THIS: &str = "xtask/src/tidy/text.rs";

/// Where somebody's checkout lies, which is nowhere else.
const MACHINE_PATHS: [&str; 4] = ["/work/", "/root/", "/home/", "/Users/"];

/// Lock files and manifests work with any mirror, so nothing names the host of a registry.
const REGISTRY_HOSTS: [&str; 9] = [
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "files.pythonhosted.org",
    "pypi.org/simple",
    "proxy.golang.org",
    "sum.golang.org",
    "repo.maven.apache.org",
    "repo1.maven.org",
    "static.crates.io",
];

/// What is left over goes into an issue, where somebody finds it.
const LEFT_OVER: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// What a merge leaves where two sides differ.
const CONFLICTS: [&str; 2] = ["<<<<<<< ", ">>>>>>> "];

pub fn check(file: &Text) -> Vec<Finding> {
    if file.path == THIS {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in file.content.lines().enumerate() {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| begins_a_path(line, path)) {
            findings.push(file.finding(index + 1, format!("`{path}` is a path of one machine")));
        }
        if let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(*host)) {
            findings.push(file.finding(index + 1, format!("{host} is the host of a registry")));
        }
        if CONFLICTS.iter().any(|mark| line.starts_with(mark)) {
            findings.push(file.finding(index + 1, "two versions that somebody has to make one"));
        }
        if let Some(mark) = LEFT_OVER.iter().find(|mark| is_word(line, mark)) {
            findings.push(file.finding(index + 1, format!("{mark}: do it, or write an issue")));
        }
    }
    findings
}

/// A path of the machine, not the end of a relative one or of an address.
fn begins_a_path(line: &str, path: &str) -> bool {
    let before = |at: usize| line[..at].chars().next_back();
    line.match_indices(path)
        .any(|(at, _)| !before(at).is_some_and(|each| each.is_alphanumeric() || "._-}/~*".contains(each)))
}

fn is_word(line: &str, word: &str) -> bool {
    let is_letter = |each: Option<char>| each.is_some_and(char::is_alphanumeric);
    line.match_indices(word)
        .any(|(at, _)| !is_letter(line[..at].chars().next_back()) && !is_letter(line[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(line: &str) -> usize {
        check(&Text { path: "a.md".to_owned(), content: line.to_owned() }).len()
    }

    #[test]
    fn machines_and_left_overs_are_found() {
        assert_eq!(findings("see /work/main"), 1);
        assert_eq!(findings("see shared/work/main and https://example.com/home/page"), 0);
        assert_eq!(findings("// TODO: this"), 1);
        assert_eq!(findings("TODOS and XXXL"), 0);
        assert_eq!(findings("<<<<<<< one\n=======\n>>>>>>> other"), 2);
        assert_eq!(findings("\"resolved\": \"https://registry.npmjs.org/a\""), 1);
    }
}
