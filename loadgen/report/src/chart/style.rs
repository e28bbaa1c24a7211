//! How servers are told apart in every chart of the page and in every picture: by colour, by the shape of
//! their points and by the dashes of their lines, so that neither a colour-blind reader nor a black and
//! white print loses them.

use lab::compare::Evidence;

/// Red, green, blue.
pub(crate) type Colour = (u8, u8, u8);

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
}

/// Lengths of strokes and gaps by turns; empty for a line without gaps.
pub(crate) type Dashes = &'static [u32];

/// How one server looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Of lines and points.
    pub(crate) colour: Colour,
    /// Of points.
    pub(crate) shape: Shape,
    /// Of lines.
    pub(crate) dashes: Dashes,
}

/// The palette of Okabe and Ito (*Color Universal Design*, 2008) without its yellow, which is not seen on
/// white; from the colours of most contrast to that of least.
const COLOURS: [Colour; 6] = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
];
/// Of the floor, which is no competitor.
const NEUTRAL: Colour = (125, 125, 125);
const SHAPES: [Shape; 6] = [
    Shape::Circle,
    Shape::Square,
    Shape::Diamond,
    Shape::Triangle,
    Shape::TriangleDown,
    Shape::Cross,
];
const DASHES: [Dashes; 5] = [&[], &[8, 4], &[2, 4], &[8, 4, 2, 4], &[14, 5]];

impl Style {
    /// Of a server of the evidence, by its place among those that compete.
    pub(crate) fn of(evidence: &Evidence, server: &str) -> Self {
        if evidence.is_floor(server) {
            return Style {
                colour: NEUTRAL,
                shape: Shape::Cross,
                dashes: &[2, 3],
            };
        }
        let others = evidence.servers.iter().filter(|it| !evidence.is_floor(it));
        let place = others.take_while(|it| *it != server).count();
        Style {
            colour: COLOURS[place % COLOURS.len()],
            shape: SHAPES[place % SHAPES.len()],
            dashes: DASHES[place % DASHES.len()],
        }
    }
}

/// Colours of the parts that a bar is made of, which are no servers: neighbours differ in lightness, so
/// that they do in print as well, and all are seen on white and on black. After Tol (*Colour Schemes*, 2021).
pub(crate) const PARTS: [Colour; 8] = [
    (102, 90, 190),
    (68, 170, 153),
    (221, 204, 119),
    (170, 51, 119),
    (136, 204, 238),
    (153, 153, 51),
    (204, 102, 119),
    (187, 187, 187),
];

/// The colour in the notation of HTML.
pub(crate) fn hex((red, green, blue): Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::fixture;

    /// Whatever is left out of a set, no two of up to thirty servers look the same.
    #[test]
    fn no_two_servers_look_the_same() {
        let names: Vec<String> = (0..30).map(|n| format!("server-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let evidence = fixture::evidence(&names, &[], Vec::new());
        let styles: Vec<Style> = names.iter().map(|it| Style::of(&evidence, it)).collect();
        for (index, style) in styles.iter().enumerate() {
            assert!(!styles[..index].contains(style), "{index}: {style:?}");
        }
    }

    #[test]
    fn the_floor_takes_nobodys_colour() {
        let mut evidence = fixture::evidence(&["a", "floor", "b"], &[], Vec::new());
        let b = Style::of(&evidence, "b");
        evidence.floor = Some("floor".to_owned());
        assert_eq!(Style::of(&evidence, "floor").colour, NEUTRAL);
        assert_eq!(Style::of(&evidence, "b").colour, COLOURS[1]);
        assert_ne!(Style::of(&evidence, "b"), b);
    }

    #[test]
    fn as_in_html() {
        assert_eq!(hex((0, 114, 178)), "#0072b2");
    }
}
