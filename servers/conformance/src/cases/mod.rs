//! The table, one file for each theme.

mod chunks;
mod connection;
mod expect;
mod fields;
mod framing;
mod host;
mod limits;
mod methods;
mod request_line;
mod smuggling;
mod targets;

use crate::case::Case;

/// All cases, in the order of the files.
pub fn cases() -> Vec<Case> {
    [
        request_line::cases(),
        methods::cases(),
        targets::cases(),
        host::cases(),
        fields::cases(),
        framing::cases(),
        chunks::cases(),
        smuggling::cases(),
        connection::cases(),
        expect::cases(),
        limits::cases(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn every_case_has_a_title_of_its_own() {
        let mut titles = HashSet::new();
        for case in cases() {
            assert!(titles.insert(case.to_string()), "{case} twice");
        }
    }

    #[test]
    fn every_case_sends_something_else() {
        let mut known = HashMap::new();
        for case in cases() {
            let title = case.to_string();
            if let Some(other) = known.insert(case.sent, title.clone()) {
                panic!("{title} is {other}");
            }
        }
    }

    #[test]
    fn every_case_is_tied_to_a_section() {
        for case in cases() {
            let section = case.section.split_once(" §");
            let (rfc, number) = section.unwrap_or_else(|| panic!("{case}: no section"));
            let known = ["3986", "5789", "6585", "9110", "9112"];
            assert!(known.contains(&rfc), "{case}: no RFC known here");
            let is_number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
            assert!(
                number.split('.').all(is_number),
                "{case}: no section number"
            );
        }
    }

    #[test]
    fn every_case_can_be_told_from_silence() {
        for case in cases() {
            assert!(!case.name.is_empty() && !case.sent.is_empty(), "{case}");
            assert!(!case.answers.is_empty() && !case.ways.is_empty(), "{case}");
        }
    }

    #[test]
    fn the_table_is_whole() {
        assert!(cases().len() >= 230, "{} cases", cases().len());
    }
}
