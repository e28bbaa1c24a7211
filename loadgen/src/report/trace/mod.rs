//! A trace for people: a timeline as text, a sequence diagram as a page and as Mermaid, two side by side.
