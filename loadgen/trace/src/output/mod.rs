//! Output formats: a timeline as text, a sequence diagram as HTML and Mermaid, and a comparison of
//! two traces for people; JSON for programs.
//!
//! All formats print a [`Story`](crate::story::Story) and add nothing: everything known about an
//! event is already in it.

pub mod compare;
#[cfg(test)]
mod fixture;
pub mod html;
pub mod json;
pub mod mermaid;
mod sockets;
mod states;
pub mod tcpdump;
pub mod text;
mod words;

/// The heading of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heading {
    /// A short title: `One request, traced`.
    pub title: String,
    /// The server: `iterative at http://127.0.0.1:8000/`.
    pub target: String,
    /// More about the trace: the command, the kernel, the date.
    pub lines: Vec<String>,
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use proptest::prelude::*;

    use super::*;
    use crate::story::{Happening, Story};

    /// The first story, with foreign text in every field that may contain it.
    fn with_text(text: &str) -> Story {
        let mut story = fixture::normal();
        story.notes.push(text.to_owned());
        let connection = &mut story.connections[0];
        connection.ending.explanation.push_str(text);
        for phase in &mut connection.phases {
            phase.heading.push_str(text);
            phase.explanation.push_str(text);
            for event in &mut phase.events {
                match &mut event.what {
                    Happening::Segment(it) => it.http = Some(text.to_owned()),
                    Happening::Call(it) => {
                        it.arguments.push_str(text);
                        it.result = Some(text.to_owned());
                    }
                    Happening::Sockets(it) => {
                        let holders = it.sockets.iter_mut().flat_map(|it| &mut it.holders);
                        holders.for_each(|it| it.command.push_str(text));
                    }
                    Happening::Info(_) => event.what = Happening::Moment(text.to_owned()),
                    Happening::State(_)
                    | Happening::Icmp(_)
                    | Happening::Moment(_)
                    | Happening::Silence(_) => {}
                }
                event.why = Some(text.to_owned());
            }
        }
        story
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever was captured, lines keep to the width, terminals are not steered, and foreign
        /// text adds no markup to pages or diagrams.
        #[test]
        fn any_text_is_only_text(text in "\\PC{0,60}|[ -~]{0,300}|(?s:.){0,80}", width in 60_usize..140) {
            let story = with_text(&text);
            let heading = Heading { title: text.clone(), target: text.clone(), lines: vec![text.clone()] };
            let timeline = text::timeline(&story, &heading, width);
            let timeline = strip_str(&timeline).to_string();
            for line in timeline.lines() {
                prop_assert!(line.chars().count() <= width, "[{line}] {}", line.chars().count());
            }
            prop_assert!(timeline.chars().all(|c| c == '\n' || !c.is_control()));
            let plain = with_text("");
            let compared = compare::side_by_side(("a", &story), ("b", &plain), width);
            let compared = strip_str(&compared).to_string();
            for line in compared.lines() {
                prop_assert!(line.chars().count() <= width, "{line}");
            }
            let elements = |html: &str| html.matches('<').count();
            let marked = html::page(&with_text("<b>&\"'"), &heading);
            let with_words = html::page(&with_text("words"), &heading);
            prop_assert_eq!(elements(&marked), elements(&with_words));
            let diagram = mermaid::diagram(&story);
            for line in diagram.lines() {
                let rest = line.replace("<br/>", "").replace("->>", "").replace("-->>", "");
                prop_assert!(!rest.contains(['<', '>', '"']), "{line}");
            }
        }
    }
}
