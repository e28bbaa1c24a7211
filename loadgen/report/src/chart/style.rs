//! How servers look in every chart of the page and in every picture: a colour, a marker and a dash pattern.
//! Any two of the first 48 servers differ in at least two of the three, so that a colour-blind reader and a
//! black-and-white print can tell them apart too.

use lab::compare::Evidence;

/// Red, green, blue.
pub(crate) type Colour = (u8, u8, u8);

/// A colour for each ground: at least 3 to 1 against paper and cards (WCAG 2.2, 1.4.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hue {
    /// On white.
    pub(crate) light: Colour,
    /// On black.
    pub(crate) dark: Colour,
}

/// The shape of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Round.
    Circle,
    /// Standing on a side.
    Square,
    /// Standing on a corner.
    Diamond,
    /// Pointing up.
    Triangle,
    /// Pointing down.
    TriangleDown,
    /// An upright cross.
    Cross,
    /// A diagonal cross.
    Saltire,
    /// With five points.
    Star,
}

/// Lengths of strokes and gaps by turns; empty for a line without gaps.
pub(crate) type Dashes = &'static [u32];

/// How one server looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Index into [`HUES`].
    pub(crate) hue: usize,
    /// Of points.
    pub(crate) shape: Shape,
    /// Of lines.
    pub(crate) dashes: Dashes,
}

const fn rgb(code: u32) -> Colour {
    ((code >> 16) as u8, (code >> 8) as u8, code as u8)
}

const fn hue(light: u32, dark: u32) -> Hue {
    Hue {
        light: rgb(light),
        dark: rgb(dark),
    }
}

/// Colours of servers; the last is that of the floor alone.
pub(crate) const HUES: [Hue; 9] = [
    hue(0x00_72b2, 0x56_a9e6),
    hue(0xc6_5200, 0xff_8a3c),
    hue(0x00_835f, 0x2f_c79b),
    hue(0xb3_508a, 0xe0_9cc3),
    hue(0x8a_6d00, 0xe6_b422),
    hue(0x33_2288, 0xa9_9cf0),
    hue(0xa0_2040, 0xff_7f8e),
    hue(0x2a_8ea6, 0x7f_dbea),
    hue(0x6b_737c, 0xa3_abb5),
];
/// Of the floor, which does not compete.
const FLOOR: usize = HUES.len() - 1;

/// Colours of the parts of a bar. Neighbours differ in lightness, so that they differ in print as well.
pub(crate) const PARTS: [Hue; 8] = [
    hue(0x33_2288, 0x8d_7ff0),
    hue(0x3a_957f, 0xdd_cc77),
    hue(0x7a_5c00, 0xc7_5c9c),
    hue(0xcc_6677, 0x88_ccee),
    hue(0x00_507a, 0xb0_813a),
    hue(0xa0_8020, 0x7f_dbb5),
    hue(0x88_2255, 0xe0_606e),
    hue(0x7d_8691, 0xc9_ced6),
];

const SHAPES: [Shape; 8] = [
    Shape::Circle,
    Shape::Square,
    Shape::Diamond,
    Shape::Triangle,
    Shape::TriangleDown,
    Shape::Cross,
    Shape::Saltire,
    Shape::Star,
];
/// Dash patterns; the last is that of the floor alone.
pub(crate) const DASHES: [Dashes; 7] = [
    &[],
    &[8, 4],
    &[2, 3],
    &[9, 3, 2, 3],
    &[16, 5],
    &[12, 3, 2, 3, 2, 3],
    &[2, 5],
];
const DASHES_OF_SERVERS: usize = DASHES.len() - 1;

impl Style {
    /// Of a server of the evidence, by its place among those that compete.
    pub(crate) fn of(evidence: &Evidence, server: &str) -> Self {
        if evidence.is_floor(server) {
            return Style {
                hue: FLOOR,
                shape: Shape::Cross,
                dashes: DASHES[DASHES_OF_SERVERS],
            };
        }
        let others = evidence.servers.iter().filter(|it| !evidence.is_floor(it));
        let place = others.take_while(|it| *it != server).count();
        // Each time the colours are used up, the dashes change, and every colour gets another shape.
        let (hue, turn) = (place % FLOOR, place / FLOOR);
        Style {
            hue,
            shape: SHAPES[(hue + 3 * turn) % SHAPES.len()],
            dashes: DASHES[turn % DASHES_OF_SERVERS],
        }
    }

    /// On white.
    pub(crate) fn light(self) -> Colour {
        HUES[self.hue].light
    }
}

/// The colour in the notation of HTML.
pub(crate) fn hex((red, green, blue): Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// All colours as custom properties of CSS: `--c0` and so on of servers, `--p0` and so on of parts.
pub(crate) fn css() -> String {
    let block = |of: fn(&Hue) -> Colour| {
        let named = |name: &'static str, hues: &'static [Hue]| {
            (0..)
                .zip(hues)
                .map(move |(at, hue): (usize, &Hue)| format!("--{name}{at}: {};", hex(of(hue))))
        };
        let all: Vec<String> = named("c", &HUES).chain(named("p", &PARTS)).collect();
        all.join(" ")
    };
    let (light, dark) = (block(|hue| hue.light), block(|hue| hue.dark));
    format!(
        ":root {{ {light} }}\n\
         :root[data-theme=\"dark\"] {{ {dark} }}\n\
         @media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme=\"light\"]) {{ {dark} }} }}\n\
         @media print {{ :root[data-theme] {{ {light} }} }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::fixture;

    fn styles(count: usize) -> Vec<Style> {
        let names: Vec<String> = (0..count).map(|n| format!("server-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let evidence = fixture::evidence(&names, &[], Vec::new());
        names.iter().map(|it| Style::of(&evidence, it)).collect()
    }

    #[test]
    fn any_two_servers_differ_in_two_ways_at_least() {
        let styles = styles(48);
        for (at, a) in styles.iter().enumerate() {
            for b in &styles[..at] {
                let differing = [a.hue != b.hue, a.shape != b.shape, a.dashes != b.dashes];
                let count = differing.into_iter().filter(|&it| it).count();
                assert!(count >= 2, "{at}: {a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn the_floor_takes_nobodys_colour() {
        let mut evidence = fixture::evidence(&["a", "floor", "b"], &[], Vec::new());
        evidence.floor = Some("floor".to_owned());
        assert_eq!(Style::of(&evidence, "floor").hue, FLOOR);
        assert_eq!(Style::of(&evidence, "b").hue, 1);
        assert!(styles(48).iter().all(|it| it.hue != FLOOR));
    }

    /// Relative luminance, WCAG 2.2.
    fn luminance((red, green, blue): Colour) -> f64 {
        let linear = |channel: u8| match f64::from(channel) / 255.0 {
            low @ ..=0.04045 => low / 12.92,
            high => ((high + 0.055) / 1.055).powf(2.4),
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    fn contrast(a: Colour, b: Colour) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    /// The properties of the page's style sheet in one theme: the first block is the light one.
    fn property(theme: usize, name: &str) -> Colour {
        let css = include_str!("../../../page.css");
        let key = format!("--{name}: #");
        let at = css.match_indices(&key).nth(theme);
        let (at, _) = at.unwrap_or_else(|| panic!("page.css has no {key} in theme {theme}"));
        let digits = &css[at + key.len()..][..6];
        rgb(u32::from_str_radix(digits, 16).unwrap())
    }

    #[test]
    fn the_measure_of_contrast() {
        assert!((contrast((0, 0, 0), (255, 255, 255)) - 21.0).abs() < 1e-9);
        assert!((contrast(rgb(0x77_7777), (255, 255, 255)) - 4.48).abs() < 0.01);
    }

    /// Marks at least 3, in both themes, on paper and on cards.
    #[test]
    fn every_mark_is_seen() {
        for (theme, of) in [
            (0, (|hue| hue.light) as fn(&Hue) -> Colour),
            (1, |hue| hue.dark),
        ] {
            for ground in ["paper", "card"] {
                for hue in HUES.iter().chain(&PARTS) {
                    let found = contrast(of(hue), property(theme, ground));
                    assert!(found >= 3.0, "{} on {ground}: {found:.2}", hex(of(hue)));
                }
            }
            for pair in PARTS.windows(2) {
                let found = contrast(of(&pair[0]), of(&pair[1]));
                assert!(found >= 1.5, "neighbours {pair:?}: {found:.2}");
            }
        }
    }

    /// Text at least 4.5.
    #[test]
    fn every_text_can_be_read() {
        for theme in [0, 1, 2] {
            for ground in ["paper", "card"] {
                for ink in ["ink", "soft", "link", "bad"] {
                    let found = contrast(property(theme, ink), property(theme, ground));
                    assert!(found >= 4.5, "{ink} on {ground}, theme {theme}: {found:.2}");
                }
            }
            for (ink, ground) in [("bad", "bad-paper"), ("rank-ink", "rank")] {
                let found = contrast(property(theme, ink), property(theme, ground));
                assert!(found >= 4.5, "{ink} on {ground}, theme {theme}: {found:.2}");
            }
        }
    }

    #[test]
    fn as_in_html() {
        assert_eq!(hex((0, 114, 178)), "#0072b2");
        assert!(css().contains("--c0: #0072b2;"));
    }
}
