//! A thousand slow connections, made by slowhttptest: heads and bodies that never end, answers that are hardly
//! read. Only for servers that serve all at once; by design, fewer connections block the others.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit};

use crate::subject::{SOON, Subject, Timeouts};
use crate::{Possible, trial_if_possible};

pub(crate) fn trials(subject: &Subject) -> Vec<Trial> {
    let attacks = if subject.serves_all_at_once() {
        ATTACKS
    } else {
        &[]
    };
    let trials = attacks.iter().map(|attack| {
        let subject = subject.clone();
        let name = format!("{}::slowhttptest, {}", subject.name(), attack.name);
        trial_if_possible(name, move || attack.is_withstood(&subject))
    });
    trials.collect()
}

struct Attack {
    name: &'static str,
    options: &'static [&'static str],
    /// The server's count of such connections.
    missed: fn(&Timeouts) -> u64,
}

const CONNECTIONS: u64 = 1000;

const ATTACKS: &[Attack] = &[
    Attack {
        name: "heads",
        options: &["-H"],
        missed: |missed| missed.header,
    },
    Attack {
        name: "bodies",
        options: &["-B"],
        missed: |missed| missed.body,
    },
    Attack {
        name: "reading",
        options: &[
            "-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-k", "10",
        ],
        // The kernel's buffers hold all of these short answers.
        missed: |missed| missed.idle + missed.write,
    },
];

impl Attack {
    /// Other clients are served meanwhile, and most of the slow connections are dropped. A busy machine may not
    /// make all of them in time.
    fn is_withstood(&self, subject: &Subject) -> Result<Possible> {
        if Command::new("slowhttptest").arg("-h").output().is_err() {
            return Ok(Possible::Not("slowhttptest is not installed".to_owned()));
        }
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if files < 2 * CONNECTIONS {
            return Ok(Possible::Not(format!(
                "only {files} open files are allowed"
            )));
        }
        let server = subject.start(&["--header-timeout", "1s", "--idle-timeout", "1s"])?;
        let mut attack = Running::start(self, &format!("http://{}/", server.address()))?;
        let status = loop {
            server.greet().context("beside slow clients")?;
            if let Some(status) = attack.has_ended()? {
                break status;
            }
            thread::sleep(Duration::from_millis(20));
        };
        ensure!(status.success(), "slowhttptest: {status}");
        server.greet()?;
        let counters = server.stop()?;
        let dropped = (self.missed)(&counters.timeouts);
        ensure!(dropped >= CONNECTIONS / 4, "{dropped}: {counters:?}");
        Ok(Possible::Held)
    }
}

/// A running attack, killed when dropped.
struct Running {
    child: Child,
    since: Instant,
}

impl Running {
    fn start(attack: &Attack, url: &str) -> Result<Self> {
        let connections = CONNECTIONS.to_string();
        let child = Command::new("slowhttptest")
            .args(attack.options)
            .args(["-c", &connections, "-r", &connections, "-u", url])
            .args(["-i", "1", "-l", "2", "-p", "3"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("slowhttptest")?;
        let since = Instant::now();
        Ok(Running { child, since })
    }

    fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        match self.child.try_wait()? {
            None if self.since.elapsed() > 4 * SOON => bail!("slowhttptest does not end"),
            status => Ok(status),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the process has ended and was waited for.
        self.child.kill().unwrap_or_default();
        _ = self.child.wait();
    }
}
