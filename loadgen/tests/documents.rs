//! What people read first is true: names of code are those of the code, and links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Written by hand, at least in part.
const DOCUMENTS: [&str; 8] = [
    "README.md",
    "CONTRIBUTING.md",
    "loadgen/README.md",
    "servers/README.md",
    "servers/http1/fuzz/README.md",
    "results/README.md",
    "results/METHODOLOGY.md",
    "results/BIAS.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Text without its code blocks.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        match line.trim_start().starts_with("```") {
            true => is_code = !is_code,
            false if !is_code => prose = prose + line + "\n",
            false => {}
        }
    }
    prose
}

/// What stands in code spans.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn where_is_names_what_is_there() {
    let text = read(&root().join("CONTRIBUTING.md"));
    let section = text.split("\n## ").find(|it| it.starts_with("Where is"));
    let section = section.expect("a section for who looks for something");
    let mut lost = Vec::new();
    let mut rows = 0;
    for row in section
        .lines()
        .filter(|it| it.starts_with("| ") && it.contains('`'))
    {
        for (file, name) in spans(row).filter_map(|span| span.split_once("::")) {
            let code = read(&root().join(file));
            let is_defined = ["fn", "struct", "enum", "trait", "const"]
                .iter()
                .any(|kind| {
                    let definition = format!("{kind} {name}");
                    code.match_indices(&definition).any(|(at, found)| {
                        let behind = code[at + found.len()..].chars().next();
                        !behind.is_some_and(|it| it.is_alphanumeric() || it == '_')
                    })
                });
            if !is_defined {
                lost.push(format!("{file}::{name}"));
            }
            rows += 1;
        }
    }
    assert_eq!(lost, Vec::<String>::new());
    assert!(rows >= 10, "{rows}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut lost = Vec::new();
    let mut links = 0;
    for document in DOCUMENTS {
        let path = root().join(document);
        for link in links_of(&prose(&read(&path))) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let is_there = target.exists()
                && (anchor.is_empty() || anchors_of(&read(&target)).contains(anchor));
            if !is_there {
                lost.push(format!("{document}: {link}"));
            }
        }
    }
    assert_eq!(lost, Vec::<String>::new());
    assert!(links > 100, "{links}");
}

/// Where the links of a Markdown text lead.
fn links_of(text: &str) -> Vec<String> {
    let links = text.split("](").skip(1);
    links
        .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}

/// The anchors of a Markdown text: its own, and those that GitHub gives to headings.
fn anchors_of(text: &str) -> BTreeSet<String> {
    let own = text.split("<a id=\"").skip(1);
    let own = own.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
    let text = prose(text);
    let headings = text.lines().filter_map(|line| {
        let heading = line.trim_start_matches('#').strip_prefix(' ');
        let heading = heading.filter(|_| line.starts_with('#'))?.to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        Some(
            heading
                .trim()
                .chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-"),
        )
    });
    own.chain(headings).collect()
}
