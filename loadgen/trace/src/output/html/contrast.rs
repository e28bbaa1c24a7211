//! Whether the colours of the page are strong enough, WCAG 2.2: text at least 4.5 to 1 (1.4.3), marks at least
//! 3 to 1 (1.4.11), against paper and cards in every theme.

use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../../../page.css");
const TRACE: &str = include_str!("trace.css");

/// Light, dark by choice, dark by the system's preference, print: in the order of both style sheets.
const THEMES: [&str; 4] = ["light", "dark", "dark of the system", "print"];

/// Red, green, blue.
type Colour = [u8; 3];

/// `#0072b2`, if the value is one.
fn colour(value: &str) -> Option<Colour> {
    let digits = value.trim().strip_prefix('#').filter(|it| it.len() == 6)?;
    let code = u32::from_str_radix(digits, 16).ok()?;
    Some([16, 8, 0].map(|shift| (code >> shift) as u8))
}

/// The declarations of colours in each block that holds properties of the root.
fn themes(css: &str) -> Vec<BTreeMap<&str, Colour>> {
    let blocks = css.split(":root").filter_map(|rule| {
        let (_, rest) = rule.split_once('{')?;
        let (block, _) = rest.split_once('}')?;
        let properties = block.split(';').filter_map(|declaration| {
            let (name, value) = declaration.trim().split_once(':')?;
            let name = name.strip_prefix("--")?;
            let colour = colour(value).unwrap_or_else(|| panic!("--{name}: {value}"));
            Some((name, colour))
        });
        let properties: BTreeMap<_, _> = properties.collect();
        (!properties.is_empty()).then_some(properties)
    });
    blocks.collect()
}

/// Relative luminance.
fn luminance(colour: Colour) -> f64 {
    let [red, green, blue] = colour.map(|channel| match f64::from(channel) / 255.0 {
        low @ ..=0.04045 => low / 12.92,
        high => ((high + 0.055) / 1.055).powf(2.4),
    });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn contrast(a: Colour, b: Colour) -> f64 {
    let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
    a.max(b) / a.min(b)
}

fn check(theme: usize, name: &str, of: Colour, least: f64) {
    for ground in ["paper", "card"] {
        let found = contrast(of, themes(PAGE)[theme][ground]);
        let theme = THEMES[theme];
        assert!(
            found >= least,
            "--{name} on --{ground}, {theme}: {found:.2}"
        );
    }
}

/// The names of the properties that a style sheet uses behind a key such as `color: var(--`.
fn used(key: &str) -> Vec<&'static str> {
    let key = format!("{key}var(--");
    let uses = TRACE.match_indices(&key).map(|(at, _)| {
        let before = TRACE[..at].chars().next_back();
        let name = TRACE[at + key.len()..].split_once(')').unwrap().0;
        (before, name)
    });
    uses.filter(|(before, _)| !before.is_some_and(|it| it == '-' || it.is_alphanumeric()))
        .map(|(_, name)| name)
        .collect()
}

#[test]
fn the_measure_of_contrast() {
    assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 1e-9);
    assert!((contrast([0x77; 3], [255; 3]) - 4.48).abs() < 0.01);
}

/// Bands, arrows, and lifelines.
#[test]
fn every_mark_is_seen() {
    let marks = themes(TRACE);
    assert_eq!(marks.len(), THEMES.len());
    assert_eq!(themes(PAGE).len(), THEMES.len());
    for (theme, properties) in marks.iter().enumerate() {
        let names = |it: &BTreeMap<&'static str, Colour>| it.keys().copied().collect::<Vec<_>>();
        assert_eq!(names(properties), names(&marks[0]), "{}", THEMES[theme]);
        for (name, &of) in properties {
            check(theme, name, of, 3.0);
        }
    }
    // What a band or an arrow is drawn with is one of them.
    let drawn = used("--of: ");
    assert_eq!(drawn.len(), 11, "{drawn:?}");
    for name in drawn {
        assert!(marks[0].contains_key(name), "--{name}");
    }
}

#[test]
fn every_text_can_be_read() {
    let inks = used("color: ");
    assert!(inks.len() > 5, "{inks:?}");
    for (theme, properties) in themes(PAGE).iter().enumerate() {
        for name in &inks {
            check(theme, name, properties[name], 4.5);
        }
    }
}

/// A colour that stands in a rule by itself would escape these tests.
#[test]
fn every_colour_is_a_property() {
    let written = TRACE.match_indices('#').filter(|(at, _)| {
        let end = TRACE.len().min(at + 7);
        TRACE.get(*at..end).and_then(colour).is_some()
    });
    let named: usize = themes(TRACE).iter().map(BTreeMap::len).sum();
    assert_eq!(written.count(), named);
    assert!(!TRACE.contains("rgb("));
}
