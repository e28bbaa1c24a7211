//! Names that are similar to one that is not known.

/// The most similar known name, if one is similar enough.
pub fn nearest(name: &str, known: &[String]) -> Option<String> {
    let similar = |other: &String| strsim::jaro_winkler(name, other);
    let best = known
        .iter()
        .max_by(|a, b| similar(a).total_cmp(&similar(b)))?;
    (similar(best) > 0.75).then(|| best.clone())
}

/// A question to append: `, did you mean NAME?`; empty without a similar name.
pub fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!(", did you mean `{name}`?"))
        .unwrap_or_default()
}
