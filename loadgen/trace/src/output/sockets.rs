//! Sockets in the style of `ss` and `lsof -i`.

use super::words::{self, printable, rough, wrap};
use crate::model::{Socket, State, Timer};

/// The table cells of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) state: &'static str,
    /// Recv-Q
    pub(super) receive_queue: String,
    /// Send-Q
    pub(super) send_queue: String,
    pub(super) local: String,
    /// `*` for a listener.
    pub(super) peer: String,
    /// The holder: `iterative[4242] fd 3`.
    pub(super) process: String,
    /// The accept queue of a listener; for other sockets, the running timer and the kernel's
    /// figures about the path.
    pub(super) remark: String,
}

impl Row {
    pub(super) fn of(socket: &Socket) -> Self {
        let holders: Vec<String> = (socket.holders.iter())
            .map(|it| format!("{}[{}] fd {}", printable(&it.command), it.pid, it.fd))
            .collect();
        let process = match (holders.is_empty(), socket.state) {
            (false, _) => holders.join(", "),
            (true, State::TimeWait | State::SynReceived) => {
                "no process: held by the kernel".to_owned()
            }
            // Without an inode, no process has a descriptor for it.
            (true, State::Established | State::CloseWait) if socket.inode == 0 => {
                "no process: in the accept queue".to_owned()
            }
            (true, state) if socket.inode == 0 && state != State::Listen => {
                "no process: its program has closed it".to_owned()
            }
            (true, _) => "no visible process".to_owned(),
        };
        let remark = match socket.state {
            State::Listen => format!(
                "accept queue: {} waiting, backlog {}",
                socket.receive_queue, socket.send_queue
            ),
            _ => {
                let timer = socket.timer.as_ref().map(timer);
                let info = socket.info.as_ref().map(words::info);
                let parts: Vec<String> = timer.into_iter().chain(info).collect();
                parts.join("; ")
            }
        };
        Row {
            state: socket.state.name(),
            receive_queue: socket.receive_queue.to_string(),
            send_queue: socket.send_queue.to_string(),
            local: socket.local.to_string(),
            peer: socket.remote.map_or("*".to_owned(), |it| it.to_string()),
            process,
            remark,
        }
    }

    /// Process and remark, joined.
    fn tail(&self) -> String {
        match self.remark.is_empty() {
            true => self.process.clone(),
            false => format!("{}; {}", self.process, self.remark),
        }
    }
}

/// The running timer: `time-wait timer: 59.9 s left`.
fn timer(timer: &Timer) -> String {
    let tries = match timer.tries {
        0 => String::new(),
        1 => ", ran out once".to_owned(),
        n => format!(", ran out {n} times"),
    };
    let left = rough(u64::from(timer.left_ms) * 1_000_000);
    format!("{} timer: {left} left{tries}", timer.kind)
}

const HEADER: [&str; 5] = ["State", "Recv-Q", "Send-Q", "Local", "Peer"];

/// A table of at most `width` columns. The holder stands behind its socket, or below it if there is
/// no room.
pub(super) fn text(sockets: &[Socket], width: usize) -> Vec<String> {
    if sockets.is_empty() {
        return vec!["none".to_owned()];
    }
    let rows: Vec<Row> = sockets.iter().map(Row::of).collect();
    let cells: Vec<[&str; 5]> = (rows.iter())
        .map(|it| {
            let queues = (it.receive_queue.as_str(), it.send_queue.as_str());
            [it.state, queues.0, queues.1, &it.local, &it.peer]
        })
        .collect();
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|column| {
            let cells = cells.iter().map(|it| it[column].len());
            cells.chain([HEADER[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: [&str; 5]| {
        let cells = cells.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, &width))| match column {
                1 | 2 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            })
            .collect();
        cells.join("  ")
    };
    let table_width = widths.iter().sum::<usize>() + 2 * (HEADER.len() - 1);
    let tail_width = (rows.iter().map(|it| it.tail().len())).max().unwrap_or(0);
    let beside = table_width + 2 + tail_width <= width;
    if table_width > width {
        return rows.iter().flat_map(|it| stacked(it, width)).collect();
    }
    let mut lines = vec![match beside {
        true => line(HEADER) + "  Process",
        false => line(HEADER).trim_end().to_owned(),
    }];
    for (row, cells) in rows.iter().zip(cells) {
        let tail = row.tail();
        if beside {
            lines.push(format!("{}  {tail}", line(cells)));
        } else {
            lines.push(line(cells).trim_end().to_owned());
            lines.extend(below(&tail, width));
        }
    }
    lines
}

/// A socket as stacked lines, if its addresses are too long for columns.
fn stacked(row: &Row, width: usize) -> Vec<String> {
    let Row {
        state,
        receive_queue,
        send_queue,
        local,
        peer,
        ..
    } = row;
    let text = format!("{state} Recv-Q {receive_queue} Send-Q {send_queue} {local} {peer}");
    let mut lines = wrap(&text, width, "", "  ");
    lines.extend(below(&row.tail(), width));
    lines
}

fn below(text: &str, width: usize) -> Vec<String> {
    wrap(text, width, "  ", "    ")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::fixture;
    use super::*;
    use crate::story::Happening;

    #[test]
    fn addresses_too_long_for_columns_are_stacked() {
        let story = fixture::unprivileged();
        let snapshot = words::events(&story).find_map(|event| match &event.what {
            Happening::Sockets(it) => Some(it.clone()),
            _ => None,
        });
        let mut sockets = snapshot.unwrap().sockets;
        let long: SocketAddr = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535"
            .parse()
            .unwrap();
        for socket in &mut sockets {
            socket.local = long;
            socket.remote = socket.remote.map(|_| long);
        }
        for width in [40, 60, 76, 120] {
            let lines = text(&sockets, width);
            assert!(
                lines.iter().all(|it| it.chars().count() <= width),
                "{lines:#?}"
            );
        }
        insta::assert_snapshot!(text(&sockets, 60).join("\n"));
    }
}
