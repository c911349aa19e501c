//! How long files and functions may be.

use super::source;
use super::{Finding, Text};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const FRONT_LINES_MAX: usize = 100;

/// Functions that are longer for a reason, as `path::name`, and how long each may be. It only ever gets shorter.
const LONG_FUNCTIONS: [(&str, usize); 0] = [];

pub fn check(file: &Text, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = file.content.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(file.finding(0, format!("{lines} lines, of at most {FILE_LINES_MAX}; split it by subject")));
    }
    let functions = source::functions(code);
    // A `mod.rs` may hold the type that its folder is about; a list of declarations must stay a page.
    let is_front = file.name() == "lib.rs" || file.name() == "mod.rs" && functions.is_empty();
    if is_front && lines > FRONT_LINES_MAX {
        findings
            .push(file.finding(0, format!("{lines} lines, of at most {FRONT_LINES_MAX} for a module's front page")));
    }
    for function in functions {
        let key = format!("{}::{}", file.path, function.name);
        let max = LONG_FUNCTIONS.iter().find(|(name, _)| *name == key).map_or(FUNCTION_LINES_MAX, |(_, max)| *max);
        if function.lines > max {
            let what = format!("function {} has {} lines, of at most {max}", function.name, function.lines);
            findings.push(file.finding(function.line, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, content: String) -> usize {
        let file = Text { path: path.to_owned(), content };
        check(&file, &source::code_of(&file.content)).len()
    }

    #[test]
    fn long_files_and_functions_are_found() {
        assert_eq!(findings("a.rs", "\n".repeat(800)), 0);
        assert_eq!(findings("a.rs", "\n".repeat(801)), 1);
        assert_eq!(findings("a.rs", format!("fn f() {{{}}}", "\n".repeat(69))), 0);
        assert_eq!(findings("a.rs", format!("fn f() {{{}}}", "\n".repeat(70))), 1);
    }

    #[test]
    fn a_front_page_is_a_page() {
        assert_eq!(findings("src/lib.rs", "\n".repeat(101)), 1);
        assert_eq!(findings("src/mod.rs", "mod a;\n".repeat(101)), 1);
        assert_eq!(findings("src/mod.rs", format!("fn f() {{}}{}", "\n".repeat(101))), 0);
    }
}
