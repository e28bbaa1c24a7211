//! The counters that our servers print at the end: one line of JSON on stderr.

use std::collections::BTreeMap;

use serde_json::Value;

/// Splits stderr into the counters and everything else.
pub(crate) fn parse(stderr: &str) -> (Option<Value>, String) {
    let mut counters = None;
    let mut rest = Vec::new();
    for line in stderr.lines() {
        match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => counters = Some(value),
            _ if line.trim().is_empty() => {}
            _ => rest.push(line),
        }
    }
    (counters, rest.join("\n"))
}

/// Compares the counters with each other and with the final answers that peers saw, by status. Missing counters
/// are not judged.
pub(crate) fn contradictions(counters: &Value, seen: &BTreeMap<u16, u64>) -> Vec<String> {
    let of = |name: &str| counters[name].as_u64();
    let mut found = Vec::new();
    if let (Some(accepted), Some(open), Some(closed)) = (of("accepted"), of("open"), of("closed"))
        && accepted != open + closed
    {
        found.push(format!(
            "accepted {accepted} is not open {open} + closed {closed}"
        ));
    }
    if let Some(panics @ 1..) = of("panics") {
        found.push(format!("{panics} panics"));
    }
    let requests = of("requests");
    let all_seen: u64 = seen.values().sum();
    if let Some(requests) = requests.filter(|&requests| requests < all_seen) {
        found.push(format!(
            "requests {requests}, but peers saw {all_seen} answers"
        ));
    }
    if let Some(responses) = counters["responses"].as_object() {
        let responses = responses.iter();
        let responses: BTreeMap<&str, u64> = responses
            .map(|(status, count)| (status.as_str(), count.as_u64().unwrap_or_default()))
            .collect();
        let sum: u64 = responses.values().sum();
        if let Some(requests) = requests.filter(|&requests| requests != sum) {
            found.push(format!("requests {requests}, but responses {sum}"));
        }
        for (status, &seen) in seen {
            let counted = responses.get(status.to_string().as_str()).copied();
            let counted = counted.unwrap_or_default();
            if counted < seen {
                found.push(format!(
                    "responses {status} {counted}, but peers saw {seen}"
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_among_other_lines() {
        let (counters, rest) = parse("one\n{\"accepted\":1}\n\ntwo\n{\"accepted\":2}\n");
        assert_eq!(counters.unwrap()["accepted"], 2);
        assert_eq!(rest, "one\ntwo");
        assert_eq!(parse("5\n").0, None);
    }

    #[test]
    fn what_contradicts_itself_or_the_peers() {
        let seen = BTreeMap::from([(200, 5), (400, 1)]);
        let rows = [
            (r#"{"accepted":3,"open":1,"closed":2}"#, ""),
            (
                r#"{"accepted":4,"open":1,"closed":2}"#,
                "accepted 4 is not open 1 + closed 2",
            ),
            (r#"{"accepted":4,"closed":2,"requests":6}"#, ""),
            (r#"{"panics":0}"#, ""),
            (r#"{"panics":2}"#, "2 panics"),
            (r#"{"requests":5}"#, "requests 5, but peers saw 6 answers"),
            (r#"{"requests":7,"responses":{"200":6,"400":1}}"#, ""),
            (
                r#"{"requests":8,"responses":{"200":6,"400":1}}"#,
                "requests 8, but responses 7",
            ),
            (
                r#"{"requests":7,"responses":{"200":7}}"#,
                "responses 400 0, but peers saw 1",
            ),
        ];
        for (counters, expected) in rows {
            let value = serde_json::from_str(counters).unwrap();
            assert_eq!(
                contradictions(&value, &seen).join("; "),
                expected,
                "{counters}"
            );
        }
    }
}
