//! The generated parts of a front page: a picture, which server to take in which situation, and the ranks.
//!
//! Each part stands between two lines of its own, so that a page holds the parts it wants where it wants them.
//! The parts are made of sets that may be of several machines.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use engine::figures::listed;
use engine::foreign::in_markdown as escaped;
use lab::compare::ranking::{Place, Ranking};
use lab::compare::{Estimate, Metric, rank_mark};

use crate::format;
use crate::grid::{Cell, Grid};
use crate::markdown::{self, SpliceError};
use crate::pictures::{self, Picture};
use crate::situations::{Asked, Machine, Recorded, choices, span};
use crate::{markdown::code, with_interval};

/// A part of a front page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// CPU per request under every workload, of the set with the most workloads.
    Picture,
    /// Which server to take in which situation.
    WhichOne,
    /// One row a server.
    Ranks,
}

impl Part {
    const ALL: [Part; 3] = [Part::Picture, Part::WhichOne, Part::Ranks];

    /// The lines that it stands between.
    pub const fn markers(self) -> (&'static str, &'static str) {
        match self {
            Part::Picture => ("<!-- loadgen:picture -->", "<!-- loadgen:picture:end -->"),
            Part::WhichOne => (
                "<!-- loadgen:which-one -->",
                "<!-- loadgen:which-one:end -->",
            ),
            Part::Ranks => ("<!-- loadgen:ranks -->", "<!-- loadgen:ranks:end -->"),
        }
    }

    /// Those that a file has a marker of, in the order of the file.
    pub fn of(file: &str) -> Vec<Part> {
        let place = |part: Part| {
            let (begin, end) = part.markers();
            let is_marker = |line: &str| {
                line.trim_start().starts_with(begin) || line.trim_start().starts_with(end)
            };
            Some((file.lines().position(is_marker)?, part))
        };
        let mut parts: Vec<(usize, Part)> = Part::ALL.into_iter().filter_map(place).collect();
        parts.sort_by_key(|(line, _)| *line);
        parts.into_iter().map(|(_, part)| part).collect()
    }
}

/// Whether the markers of all parts of a file are there, which is known before anything is computed.
///
/// # Errors
///
/// When one is missing or there twice.
pub fn check(file: &str) -> Result<(), SpliceError> {
    for part in Part::of(file) {
        markdown::splice_between(file, part.markers(), "")?;
    }
    Ok(())
}

/// The front page of sets.
pub struct Front<'a> {
    machines: Vec<Machine<'a>>,
}

impl<'a> Front<'a> {
    /// Of these sets, one at least, the oldest first.
    pub fn of(sets: &'a [Recorded]) -> Self {
        Front {
            machines: Machine::all(sets),
        }
    }

    /// `file` with its parts renewed. The first begins with `command`, which makes them all. `folder` is that of
    /// the picture.
    ///
    /// # Errors
    ///
    /// When a marker is missing or there twice.
    pub fn splice(
        &self,
        file: &str,
        command: &str,
        picture: Option<(&str, &Picture)>,
    ) -> Result<String, SpliceError> {
        let mut file = file.to_owned();
        for (index, part) in Part::of(&file).into_iter().enumerate() {
            let mut text = match index {
                0 => format!("Renewed by {}.\n\n", code(command)),
                _ => String::new(),
            };
            text += &match part {
                Part::Picture => self.shown(picture),
                Part::WhichOne => self.which_one(),
                Part::Ranks => self.ranks(),
            };
            file = markdown::splice_between(&file, part.markers(), &text)?;
        }
        Ok(file)
    }

    /// The set with the most workloads; of several the last.
    fn richest(&self) -> Option<&Asked<'a>> {
        let sets = self.machines.iter().flat_map(|machine| &machine.sets);
        sets.max_by_key(|it| it.recorded.evidence.workloads.len())
    }

    /// CPU per request under every workload.
    pub fn picture(&self) -> Option<Picture> {
        pictures::by_workload(&self.richest()?.recorded.evidence)
    }

    fn shown(&self, picture: Option<(&str, &Picture)>) -> String {
        let Some(set) = self.richest() else {
            return String::new();
        };
        let summary = escaped(&set.recorded.evidence.machine.summary()).replace("\\_", "_");
        let caption = format!("Set [{}]({}): {summary}.", set.name(), set.recorded.readme);
        match picture {
            Some((folder, picture)) => {
                let (alt, file) = (escaped(&picture.alt), &picture.file);
                format!("![{alt}]({folder}/{file})\n\n{caption}")
            }
            None => caption,
        }
    }

    fn which_one(&self) -> String {
        let header = ["your situation", "take", "because", "shown by"];
        let mut grid = Grid::new(header, header.len());
        for choice in choices(&self.machines) {
            grid.row(
                [
                    choice.situation.to_owned(),
                    choice.take,
                    choice.because,
                    format!("[{}]({})", choice.shown_by, choice.link),
                ]
                .map(Cell::Markup),
            );
        }
        let sets: Vec<String> = (self.machines.iter())
            .map(|machine| {
                let sets = machine.sets.iter();
                let links = sets.map(|it| format!("[{}]({})", it.name(), it.recorded.readme));
                format!("{}: {}", machine.name, links.collect::<Vec<_>>().join(", "))
            })
            .collect();
        let mut out = format::markdown::table(&grid);
        write!(
            out,
            "\nA server is named where it is first by CPU per request, or tied with the first, in every set: {}. `x` \
             is the multiple of what the server named first takes, the median over rounds and its 95% interval; of \
             several sets, the lowest and the highest median. Sets of different machines or builds are never \
             merged: each ranks its own servers. The row on response times names the servers that hold the highest rate.",
            sets.join("; ")
        )
        .expect(INFALLIBLE);
        let sets = self.machines.iter().flat_map(|machine| &machine.sets);
        let builds: BTreeSet<String> = sets
            .map(|it| it.recorded.evidence.build.summary())
            .collect();
        if self.machines.len() > 1 && builds.len() > 1 {
            out += " Sets that disagree differ by build as well as by CPU.";
        }
        out
    }

    fn ranks(&self) -> String {
        let shown = &self.machines[self.machines.len().saturating_sub(MACHINES_MAX)..];
        let columns: Vec<Column> = shown.iter().map(Column::of).collect();
        let mut header = vec!["server".to_owned()];
        header.extend(columns.iter().map(Column::heading));
        let floor = columns.last().filter(|it| it.has_floor());
        header.extend(floor.map(|it| format!("of the floor, {}", it.machine)));
        let mut grid = Grid::new(header, 1);
        let mut servers: Vec<&String> = Vec::new();
        let has_rank = |it: &&Place| it.rank.is_some() || it.is_unresolved;
        for place in (columns.iter().rev())
            .flat_map(Column::places)
            .filter(has_rank)
        {
            if !servers.contains(&&place.server) {
                servers.push(&place.server);
            }
        }
        for server in servers {
            let mut row = vec![server.clone()];
            row.extend(columns.iter().map(|it| it.cell(server)));
            row.extend(floor.map(|it| it.of_floor(server)));
            grid.row(row.into_iter().map(Cell::Markup));
        }
        let mut out = format::markdown::table(&grid);
        let taken: Vec<String> = columns.iter().filter_map(Column::taken).collect();
        write!(
            out,
            "\nThe rank, and the geometric mean of the ratios to the cheapest by CPU per request, over the workloads \
             that all servers completed: {}.",
            taken.join("; ")
        )
        .expect(INFALLIBLE);
        let hidden = self.machines.len() - shown.len();
        if hidden > 0 {
            let names = self.machines[..hidden].iter().map(|it| it.name.as_str());
            out += &format!(" Not shown: {}.", listed(names));
        }
        out
    }
}

const INFALLIBLE: &str = "writing to a String cannot fail";

/// A front page is not wider than five columns.
const MACHINES_MAX: usize = 3;

/// The ranks on one machine, a set each.
struct Column {
    machine: String,
    rankings: Vec<Ranking>,
}

impl Column {
    fn of(machine: &Machine) -> Self {
        let rankings = |it: &Asked| it.recorded.evidence.rankings(Metric::Cpu, false);
        Column {
            machine: machine.name.clone(),
            rankings: machine.sets.iter().flat_map(rankings).collect(),
        }
    }

    fn heading(&self) -> String {
        match self.rankings.len() {
            1 => self.machine.clone(),
            sets => format!("{}, {sets} sets", self.machine),
        }
    }

    fn has_floor(&self) -> bool {
        self.places().any(|it| it.of_floor.is_some())
    }

    /// Of all sets, those of the newest first.
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.rankings.iter().rev().flat_map(|it| &it.places)
    }

    /// The places of a server.
    fn of_server(&self, server: &str) -> impl Iterator<Item = (&Ranking, &Place)> {
        let rankings = self.rankings.iter();
        rankings.filter_map(move |ranking| {
            let place = ranking.places.iter().find(|it| it.server == server)?;
            Some((ranking, place))
        })
    }

    /// `#1 to #2 1.03x to 1.09x`.
    fn cell(&self, server: &str) -> String {
        let mut marks = BTreeSet::new();
        let mut ranks = BTreeSet::new();
        let mut ratios: Vec<Estimate> = Vec::new();
        for (ranking, place) in self.of_server(server) {
            let sharing = ranking.places.iter().filter(|it| it.rank == place.rank);
            marks.insert(match place.rank {
                Some(rank) => {
                    ranks.insert(rank);
                    rank_mark(rank, sharing.count() > 1)
                }
                None if place.is_unresolved => "not resolved".to_owned(),
                None => continue,
            });
            ratios.extend(place.ratio);
        }
        let ranks = match (marks.len(), ranks.first(), ranks.last()) {
            (2.., Some(first), Some(last)) if ranks.len() > 1 => format!("#{first} to #{last}"),
            (2.., Some(rank), _) => format!("#{rank}"),
            _ => marks.into_iter().collect(),
        };
        match ratios.is_empty() {
            true => ranks,
            false => format!("{ranks} {}", span(&ratios)),
        }
    }

    /// In the newest set that has it.
    fn of_floor(&self, server: &str) -> String {
        let multiples = self
            .of_server(server)
            .filter_map(|(_, place)| place.of_floor);
        multiples
            .last()
            .map_or(String::new(), |it| with_interval(&it, ""))
    }

    /// What the ranks are made from, in the newest set.
    fn taken(&self) -> Option<String> {
        let newest = self.rankings.last()?;
        Some(match newest.workloads.is_empty() {
            true => format!("none on {}", self.machine),
            false => format!("{} on {}", newest.workloads.len(), self.machine),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::situations::tests::recorded;

    const PAGE: &str = "# A\n<!-- loadgen:picture -->\nold\n<!-- loadgen:picture:end -->\nB\n\
                        <!-- loadgen:which-one -->\n<!-- loadgen:which-one:end -->\n\
                        <!-- loadgen:ranks -->\n<!-- loadgen:ranks:end -->\nC\n";

    fn sets() -> [Recorded; 3] {
        [
            recorded(
                "1",
                "Old",
                &[(
                    "keep-alive",
                    &[("loop", 10.0), ("tasks", 10.0), ("threads", 18.0)],
                )],
            ),
            recorded(
                "2",
                "Old",
                &[(
                    "keep-alive",
                    &[("loop", 9.0), ("tasks", 10.5), ("threads", 19.0)],
                )],
            ),
            recorded(
                "3",
                "New",
                &[
                    (
                        "keep-alive",
                        &[("loop", 5.0), ("tasks", 6.0), ("threads", 12.0)],
                    ),
                    (
                        "new-connection",
                        &[("loop", 25.0), ("tasks", 26.0), ("threads", 42.0)],
                    ),
                ],
            ),
        ]
    }

    #[test]
    fn a_page_of_two_machines() {
        let sets = sets();
        let front = Front::of(&sets);
        let picture = front.picture();
        let picture = picture.as_ref().map(|it| ("pictures", it));
        let once = front.splice(PAGE, "loadgen report x", picture).unwrap();
        insta::assert_snapshot!(once);
        assert_eq!(
            front.splice(&once, "loadgen report x", picture).unwrap(),
            once,
            "a second time changes nothing"
        );
    }

    /// The command is said once, where the first part is; what has no markers is not touched.
    #[test]
    fn a_page_has_the_parts_that_it_asks_for() {
        let sets = sets();
        let page = "# A\n<!-- loadgen:ranks -->\n<!-- loadgen:ranks:end -->\n";
        assert_eq!(Part::of(page), [Part::Ranks]);
        assert_eq!(Part::of("# A, `<!-- loadgen:ranks -->`\n"), []);
        let text = Front::of(&sets).splice(page, "loadgen", None).unwrap();
        assert_eq!(text.matches("Renewed by `loadgen`.").count(), 1, "{text}");
        assert!(!text.contains("your situation"), "{text}");
    }

    #[test]
    fn half_a_pair_is_refused() {
        let sets = sets();
        let (begin, end) = Part::Ranks.markers();
        for page in [
            format!("{begin}\n"),
            format!("{end}\n"),
            format!("{end}\n{begin}\n"),
        ] {
            let error = Front::of(&sets).splice(&page, "loadgen", None).unwrap_err();
            assert_eq!(error, SpliceError::Half { begin, end }, "{page}");
        }
        let twice = format!("{begin}\n{end}\n{begin}\n{end}\n");
        let error = Front::of(&sets)
            .splice(&twice, "loadgen", None)
            .unwrap_err();
        assert_eq!(error, SpliceError::Twice(begin));
    }

    /// Whatever is measured, no table is wider than five columns.
    #[test]
    fn many_machines_do_not_widen_the_ranks() {
        let sets: Vec<Recorded> = (1..=6)
            .map(|n| {
                let costs: &[(&str, &[(&str, f64)])] =
                    &[("keep-alive", &[("loop", 5.0), ("tasks", 7.0)])];
                recorded(&n.to_string(), &format!("CPU {n}"), costs)
            })
            .collect();
        let ranks = Front::of(&sets).ranks();
        assert!(
            ranks.starts_with("| server | CPU 4 | CPU 5 | CPU 6 |\n"),
            "{ranks}"
        );
        assert!(
            ranks.ends_with(" Not shown: CPU 1, CPU 2 and CPU 3."),
            "{ranks}"
        );
    }
}
