//! `disagreements.toml`: where tshark says something else, and why.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// The list.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    pub(crate) versions: Versions,
    #[serde(default)]
    disagreement: Vec<Disagreement>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Versions {
    /// That of which the list tells.
    pub(crate) tshark: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disagreement {
    /// Why tshark says what it does, and we do not.
    reason: String,
    /// What supports us.
    section: String,
    /// `scenario: frame 7: what we say, not what tshark says`
    cases: Vec<String>,
}

impl List {
    pub(crate) fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/disagreements.toml");
        let text = fs::read_to_string(&file).expect("the list can be read");
        toml::from_str(&text).expect("the list is as it should be")
    }

    /// All cases.
    pub(crate) fn cases(&self) -> BTreeSet<&str> {
        let cases = self.disagreement.iter().flat_map(|it| &it.cases);
        cases.map(String::as_str).collect()
    }

    /// What is wrong with it: an entry without a reason, a case that stands twice.
    pub(crate) fn faults(&self, scenarios: &BTreeSet<&str>) -> Vec<String> {
        let mut faults = Vec::new();
        let mut seen = BTreeSet::new();
        for entry in &self.disagreement {
            if entry.reason.trim().is_empty() || entry.section.trim().is_empty() {
                faults.push(format!("{entry:?} without a reason or a section"));
            }
            if entry.cases.is_empty() {
                faults.push(format!("{entry:?} without a case"));
            }
            for case in &entry.cases {
                let name = case.split(": frame ").next().unwrap_or_default();
                if !scenarios.contains(name) {
                    faults.push(format!("no scenario `{name}`"));
                }
                if !seen.insert(case) {
                    faults.push(format!("`{case}` twice"));
                }
            }
        }
        faults
    }
}
