//! A sequence diagram as a page.
use super::Heading;
use crate::trace::story::Story;

/// The page as HTML.
pub fn page(story: &Story, heading: &Heading) -> String {
    super::text::timeline(story, heading, 100)
}
