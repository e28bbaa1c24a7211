//! A table that is filled first, and then drawn by a format.

#[cfg(feature = "sets")]
use crate::rows::Role;
use engine::plan::Rate;
#[cfg(feature = "sets")]
use lab::compare::{Entry, Estimate, Evidence, Metric};

/// Rows of cells.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    pub(crate) kind: Kind,
    pub(crate) header: Vec<Cell>,
    /// How many columns, from the first, hold names; figures follow, aligned to the right.
    pub(crate) names: usize,
    /// How many columns, at the end, hold remarks.
    pub(crate) remarks: usize,
    pub(crate) layout: Layout,
    pub(crate) lines: Vec<Line>,
    /// How to see the rows that are folded; `None` where all are shown.
    pub(crate) fold: Option<Fold>,
}

/// What a table shows, where a format may draw it in a way of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything.
    Plain,
    /// Which server is first, in a row for each workload.
    Podiums,
    /// Servers under several workloads, by one metric.
    Group,
    /// How evenly servers served their connections, under several workloads.
    Fairness,
    /// Servers under one workload, by several metrics.
    Servers,
}

#[derive(Debug, Clone)]
pub(crate) enum Line {
    Row {
        cells: Vec<Cell>,
        /// Never folded.
        is_kept: bool,
    },
    /// Above the rows that it is about.
    Heading(String),
    /// An empty line, in formats whose tables have no borders.
    Gap,
}

/// Rows without a leading cell in the columns shown are folded into one line.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    /// What a row is: `server`.
    pub(crate) noun: &'static str,
    /// What the folded rows have in common: `which served every connection`. May be empty.
    pub(crate) which: &'static str,
    /// An option or a command that shows all, where there is one.
    pub(crate) all: Option<String>,
}

/// How columns are laid out where their room is limited.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    /// Each is as wide as its content.
    Natural {
        /// Blanks on the left.
        margin: usize,
        /// Blanks between them.
        gap: usize,
        /// Whether a line is drawn below the header.
        rule: bool,
        /// Remarks are wrapped at that width.
        remark: usize,
    },
    /// As many columns of figures as there is room for; the others are in further tables below, each with the
    /// names.
    Blocks(Blocks),
}

/// Widths of columns, in letters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocks {
    /// Blanks on the left.
    pub(crate) margin: usize,
    /// Names are broken at hyphens to fit this width.
    pub(crate) name: usize,
    /// The least width of a column of names.
    pub(crate) name_min: usize,
    /// Widths of figures to try, in this order, until all columns fit side by side; if none does, the first is
    /// used.
    pub(crate) figures: &'static [usize],
}

/// The content of a cell; each format writes it in its own way.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    /// Markdown as it stands, in a table that is drawn as Markdown only.
    Markup(String),
    /// May have several lines, and any characters.
    Text(String),
    /// A name that may be broken at its hyphens.
    Name(String),
    /// Labels a part of the last row that is not a part.
    Part(String),
    Noted(Noted),
    Workload(Load),
    #[cfg(feature = "sets")]
    Server(Server),
    /// A multiple of another value; empty where there is none.
    #[cfg(feature = "sets")]
    Ratio(Option<Estimate>),
    #[cfg(feature = "sets")]
    Compared(Box<Compared>),
}

/// A text with a few words on it, which may be empty.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    pub(crate) text: String,
    pub(crate) note: String,
    pub(crate) tone: Tone,
}

/// What a text says of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Neutral,
    /// They are first.
    First,
    /// They fail at what is asked of them.
    Bad,
}

#[cfg(feature = "sets")]
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) role: Role,
}

#[cfg(feature = "sets")]
impl Server {
    pub(crate) fn of(evidence: &Evidence, name: &str) -> Self {
        Server {
            name: name.to_owned(),
            role: Role::of(evidence, name),
        }
    }
}

/// A workload, with what must be known to read its figures.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) name: String,
    /// The target of links to it, in formats that have links.
    pub(crate) anchor: Option<String>,
    /// The anchor of the place in the same document that describes it.
    pub(crate) described_at: Option<String>,
    /// In what it differs from the other workloads of the table, where its name may not say that. May be empty.
    pub(crate) note: String,
    /// At which rate, in open loop.
    pub(crate) rate: Option<Rate>,
    /// The title says that it is in open loop.
    pub(crate) is_titled: bool,
    pub(crate) connections: usize,
    pub(crate) idle: usize,
}

/// A server under a workload.
#[cfg(feature = "sets")]
#[derive(Debug, Clone)]
pub(crate) struct Compared {
    pub(crate) entry: Entry,
    /// As it is written: `#1=`.
    pub(crate) rank: Option<String>,
    pub(crate) is_floor: bool,
    pub(crate) metric: Metric,
    /// It is one of the first three.
    pub(crate) leads: bool,
    pub(crate) detail: Detail,
}

/// How much the cell of an entry must say, because nothing beside it does.
#[cfg(feature = "sets")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// The value, how it compares and why it does not.
    Whole,
    /// The value and how it compares: other columns have the verdict and the multiple of the floor.
    Figures,
    /// No interval: another table has it.
    Short,
}

impl Cell {
    /// It is one of the first three, for which its row is shown.
    fn leads(&self) -> bool {
        match self {
            #[cfg(feature = "sets")]
            Cell::Compared(compared) => compared.leads,
            _ => false,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl Grid {
    pub(crate) fn new(header: impl IntoIterator<Item = impl Into<Cell>>, names: usize) -> Self {
        Grid {
            kind: Kind::Plain,
            header: header.into_iter().map(Into::into).collect(),
            names,
            remarks: 0,
            layout: Layout::Natural {
                margin: 1,
                gap: 1,
                rule: true,
                remark: usize::MAX,
            },
            lines: Vec::new(),
            fold: None,
        }
    }

    pub(crate) fn of_kind(self, kind: Kind) -> Self {
        Grid { kind, ..self }
    }

    pub(crate) fn in_blocks(self, blocks: Blocks) -> Self {
        let layout = Layout::Blocks(blocks);
        Grid { layout, ..self }
    }

    /// The last column holds remarks, wrapped at that width.
    pub(crate) fn with_remarks(self, width: usize) -> Self {
        let layout = Layout::Natural {
            margin: 1,
            gap: 1,
            rule: true,
            remark: width,
        };
        Grid {
            remarks: 1,
            layout,
            ..self
        }
    }

    /// Columns stand further apart, and the header has no line below it.
    pub(crate) fn wide(self, margin: usize) -> Self {
        let layout = Layout::Natural {
            margin,
            gap: 2,
            rule: false,
            remark: usize::MAX,
        };
        Grid { layout, ..self }
    }

    /// The last column holds remarks.
    pub(crate) fn with_remark(self) -> Self {
        Grid { remarks: 1, ..self }
    }

    pub(crate) fn folded(self, fold: Option<Fold>) -> Self {
        Grid { fold, ..self }
    }

    pub(crate) fn is_figure(&self, column: usize) -> bool {
        (self.names..self.header.len() - self.remarks).contains(&column)
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        self.row_kept(cells, false);
    }

    /// With `is_kept` it is never folded.
    pub(crate) fn row_kept(
        &mut self,
        cells: impl IntoIterator<Item = impl Into<Cell>>,
        is_kept: bool,
    ) {
        let cells = cells.into_iter().map(Into::into).collect();
        self.lines.push(Line::Row { cells, is_kept });
    }

    /// Adds nothing at the top of the table.
    pub(crate) fn gap(&mut self) {
        if !self.lines.is_empty() {
            self.lines.push(Line::Gap);
        }
    }

    /// In the first column.
    pub(crate) fn heading(&mut self, text: &str) {
        self.lines.push(Line::Heading(text.to_owned()));
    }

    /// The columns of figures and remarks, split into as few parts of at most `figures_max` as possible, all of
    /// about the same size.
    pub(crate) fn parts(&self, figures_max: usize) -> Vec<std::ops::Range<usize>> {
        let columns = self.header.len() - self.names;
        let parts = columns.div_ceil(figures_max.max(1)).max(1);
        let at_once = columns.div_ceil(parts).max(1);
        (0..parts)
            .map(|part| {
                let first = self.names + (part * at_once).min(columns);
                first..(first + at_once).min(self.header.len())
            })
            .filter(|part| !part.is_empty() || parts == 1)
            .collect()
    }

    /// Whether a row with these cells is folded.
    pub(crate) fn folds(&self, cells: &[Cell], is_kept: bool) -> bool {
        self.fold.is_some() && !is_kept && !cells.iter().any(Cell::leads)
    }

    /// The grid with the names and only these columns of figures, without the rows that are folded; and the number
    /// of those.
    pub(crate) fn part(&self, columns: std::ops::Range<usize>) -> (Grid, usize) {
        let take = |cells: &[Cell]| -> Vec<Cell> {
            let names = cells[..self.names.min(cells.len())].iter();
            let figures = cells.get(columns.clone()).unwrap_or_default().iter();
            names.chain(figures).cloned().collect()
        };
        let mut part = Grid {
            header: take(&self.header),
            lines: Vec::new(),
            ..self.clone()
        };
        let mut folded = 0;
        let mut has_gap = false;
        for line in &self.lines {
            match line {
                Line::Row { cells, is_kept } => {
                    let cells = take(cells);
                    if self.folds(&cells, *is_kept) {
                        folded += 1;
                        continue;
                    }
                    if std::mem::take(&mut has_gap) {
                        part.gap();
                    }
                    part.row_kept(cells, *is_kept);
                }
                Line::Heading(text) => {
                    if std::mem::take(&mut has_gap) {
                        part.gap();
                    }
                    part.heading(text);
                }
                Line::Gap => has_gap = true,
            }
        }
        (part, folded)
    }
}

impl Line {
    /// The server that a row is about, if it is about one.
    #[cfg(feature = "sets")]
    pub(crate) fn server(&self) -> Option<&Server> {
        match self {
            Line::Row { cells, .. } => cells.iter().find_map(|cell| match cell {
                Cell::Server(server) => Some(server),
                _ => None,
            }),
            Line::Heading(_) | Line::Gap => None,
        }
    }
}

impl Fold {
    /// The line that replaces so many rows, with the way to see them.
    pub(crate) fn line(&self, rows: usize) -> String {
        let summary = self.summary(rows);
        match (&self.all, rows) {
            (None, _) => summary,
            (Some(all), 1) => format!("{summary}: {all} shows it"),
            (Some(all), _) => format!("{summary}: {all} shows them"),
        }
    }

    /// How many rows are folded.
    pub(crate) fn summary(&self, rows: usize) -> String {
        let which = match self.which {
            "" => String::new(),
            which => format!(", {which}"),
        };
        match rows {
            1 => format!("1 more {}{which}", self.noun),
            n => format!("{n} more {}s{which}", self.noun),
        }
    }
}
