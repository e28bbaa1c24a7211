//! Selects names, given in full or by a pattern.

use std::collections::BTreeSet;

use glob::{Pattern, PatternError};

use crate::similar::{did_you_mean, nearest};

/// Something that can be selected by name or by group.
pub struct Named<'a> {
    /// The name.
    pub name: &'a str,
    /// The groups that it belongs to.
    pub groups: &'a [String],
}

/// The positions in `known` of what a pattern asks for: a name or a group in full, or a glob such as `open-*` over both.
///
/// # Errors
///
/// If the glob is malformed.
pub fn matching(pattern: &str, known: &[Named<'_>]) -> Result<Vec<usize>, PatternError> {
    let pattern = Pattern::new(pattern)?;
    let is_asked_for = |it: &Named<'_>| {
        pattern.matches(it.name) || it.groups.iter().any(|group| pattern.matches(group))
    };
    let places = known.iter().enumerate();
    Ok(places
        .filter(|(_, it)| is_asked_for(it))
        .map(|(at, _)| at)
        .collect())
}

/// The names among `known` that match `patterns`, by name or by group; all of them without
/// patterns. `kind` is what the names denote, and `place` where they were looked for.
///
/// # Errors
///
/// One line that names the pattern without a match, and lists the known names.
pub fn chosen(
    kind: &str,
    patterns: &[String],
    known: &[Named<'_>],
    place: &str,
) -> Result<BTreeSet<String>, String> {
    let mut chosen = BTreeSet::new();
    for text in patterns {
        let found = matching(text, known)
            .map_err(|error| format!("{kind} `{text}` is not a pattern: {}", error.msg))?;
        if found.is_empty() {
            let names: Vec<String> = known.iter().map(|it| it.name.to_owned()).collect();
            let groups = distinct(known.iter().flat_map(|it| it.groups));
            let nearest = nearest(text, &[names.clone(), groups.clone()].concat());
            let hint = did_you_mean(nearest.as_deref());
            let mut there = names.join(", ");
            if !groups.is_empty() {
                there += &format!("; groups: {}", groups.join(", "));
            }
            return Err(format!(
                "no {kind} `{text}` in {place}{hint}; known: {there}"
            ));
        }
        chosen.extend(found.into_iter().map(|at| known[at].name.to_owned()));
    }
    if patterns.is_empty() {
        chosen.extend(known.iter().map(|it| it.name.to_owned()));
    }
    Ok(chosen)
}

/// Each name once, where it stands first.
pub(crate) fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        if !distinct.contains(name) {
            distinct.push(name.clone());
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_by_pattern_and_by_group() {
        let groups = ["curated".to_owned()];
        let known = [
            ("keep-alive-1", &groups[..]),
            ("keep-alive-64", &[]),
            ("pipelined", &groups[..]),
        ]
        .map(|(name, groups)| Named { name, groups });
        let chosen = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|&it| it.to_owned()).collect();
            let found = chosen("workload", &patterns, &known, "2025-01-02.1");
            found.map(|names| names.into_iter().collect::<Vec<_>>().join(" "))
        };
        let none = |text: &str, hint: &str| {
            Err(format!(
                "no workload `{text}` in 2025-01-02.1{hint}; known: keep-alive-1, keep-alive-64, pipelined; groups: curated"
            ))
        };
        for (patterns, expected) in [
            (&[][..], Ok("keep-alive-1 keep-alive-64 pipelined")),
            (&["pipelined"], Ok("pipelined")),
            (&["keep-alive*"], Ok("keep-alive-1 keep-alive-64")),
            (&["keep-alive-?", "curated"], Ok("keep-alive-1 pipelined")),
            (&["pipelined", "zzz*"], none("zzz*", "")),
            (
                &["keep-alive"],
                none("keep-alive", ", did you mean `keep-alive-1`?"),
            ),
            (
                &["["],
                Err("workload `[` is not a pattern: invalid range pattern".to_owned()),
            ),
        ] {
            assert_eq!(
                chosen(patterns),
                expected.map(str::to_owned),
                "{patterns:?}"
            );
        }
    }
}
